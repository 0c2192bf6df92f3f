//! `[open]`: who may open sessions.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bad, Server};

/// Longest time that the backend's clock may be off.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// Who may open sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Open {
    /// The policy; if not set, anyone on the loopback interface, and elsewhere the relay does not start.
    pub policy: Option<OpenPolicy>,
    /// The backend's public keys.
    pub jwks_file: Option<PathBuf>,
    /// What must be among the audiences of a token.
    pub audience: Option<String>,
    /// Who must have issued a token.
    pub issuer: Option<String>,
    /// How far the backend's clock may be off.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
}

/// Who may open sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenPolicy {
    /// Everyone who can connect.
    Anyone,
    /// Whoever has a token of the app's backend.
    Jwt,
}

impl Default for Open {
    fn default() -> Self {
        Self { policy: None, jwks_file: None, audience: None, issuer: None, leeway: Duration::from_secs(30) }
    }
}

impl Open {
    /// The policy in force.
    #[must_use]
    pub fn effective_policy(&self) -> OpenPolicy {
        self.policy.unwrap_or(OpenPolicy::Anyone)
    }

    pub(super) fn check(&self, server: &Server) -> Result<(), Bad> {
        Bad::unless(self.leeway <= MAX_LEEWAY, "open.leeway", "must be at most 5m")?;
        let demanded = [
            ("open.jwks_file", self.jwks_file.is_some()),
            ("open.audience", self.audience.as_ref().is_some_and(|audience| !audience.is_empty())),
        ];
        match self.policy {
            Some(OpenPolicy::Jwt) => {
                let missing = demanded.into_iter().find(|(_, is_set)| !is_set);
                missing.map_or(Ok(()), |(key, _)| Err(Bad::new(key, "is needed with open.policy = \"jwt\"")))
            }
            Some(OpenPolicy::Anyone) | None => {
                // Somebody believes that tokens are asked for.
                let in_vain = [demanded[0], demanded[1], ("open.issuer", self.issuer.is_some())];
                if let Some((key, _)) = in_vain.into_iter().find(|(_, is_set)| *is_set) {
                    return Err(Bad::new(key, "has no effect without open.policy = \"jwt\""));
                }
                self.check_reach(server)
            }
        }
    }

    /// The whole world may open sessions only where somebody wrote that it may.
    fn check_reach(&self, server: &Server) -> Result<(), Bad> {
        let is_said = self.policy.is_some() || server.listen.ip().to_canonical().is_loopback();
        Bad::unless(
            is_said,
            "open.policy",
            "must be said when server.listen is not a loopback address: open.policy = \"jwt\" with open.jwks_file and \
             open.audience lets your backend decide who opens sessions, open.policy = \"anyone\" lets everyone who can \
             connect",
        )
    }
}
