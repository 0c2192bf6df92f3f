//! `[redis]`: where nodes share their sessions, if there are several.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bad, SecretText};

/// Where nodes share their sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Addresses; none means that this is the only node.
    pub url: Vec<String>,
    /// How the servers are arranged.
    pub topology: RedisTopology,
    /// The name of the master that the sentinels watch.
    pub sentinel_master: Option<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretText>,
    /// The certificate authority of the servers, in place of the system's.
    pub certificate_authority: Option<PathBuf>,
    /// What all keys and channels begin with.
    pub prefix: String,
    /// When a server that does not answer is given up.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

/// How the servers are arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisTopology {
    /// One server.
    #[default]
    Single,
    /// A master with replicas, watched by sentinels.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: Vec::new(),
            topology: RedisTopology::Single,
            sentinel_master: None,
            username: None,
            password: None,
            certificate_authority: None,
            prefix: "handoff".to_owned(),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Redis {
    pub(super) fn check(&self) -> Result<(), Bad> {
        for url in &self.url {
            Self::check_url(url)?;
        }
        let schemes = |scheme: &str| self.url.iter().any(|url| url.starts_with(scheme));
        Bad::unless(
            !(schemes("redis://") && schemes("rediss://")),
            "redis.url",
            "must be all with TLS, or all without",
        )?;
        let is_single = self.topology == RedisTopology::Single;
        Bad::unless(
            !is_single || self.url.len() <= 1,
            "redis.url",
            "must be one address with redis.topology = \"single\"",
        )?;
        let is_sentinel = self.topology == RedisTopology::Sentinel;
        Bad::unless(
            is_sentinel == self.sentinel_master.is_some(),
            "redis.sentinel_master",
            "is needed with redis.topology = \"sentinel\", and has no effect without",
        )?;
        let is_named = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        let is_prefix = self.prefix.len() <= 64
            && self.prefix.starts_with(|c: char| c.is_ascii_alphabetic())
            && self.prefix.chars().all(is_named);
        Bad::unless(is_prefix, "redis.prefix", "must be 1 to 64 letters, digits and - _ . :, first a letter")?;
        let is_time = (Duration::from_millis(100)..=Duration::from_secs(10)).contains(&self.timeout);
        Bad::unless(is_time, "redis.timeout", "must be from 100ms to 10s")?;
        let in_vain = [
            ("redis.username", self.username.is_some()),
            ("redis.password", self.password.is_some()),
            ("redis.certificate_authority", self.certificate_authority.is_some()),
            ("redis.topology", !is_single),
        ];
        match in_vain.into_iter().find(|(_, is_set)| *is_set && self.url.is_empty()) {
            Some((key, _)) => Err(Bad::new(key, "has no effect without redis.url")),
            None => Ok(()),
        }
    }

    fn check_url(url: &str) -> Result<(), Bad> {
        let parsed = url::Url::parse(url).ok();
        let parsed = parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
        let parsed = parsed.ok_or_else(|| {
            Bad::new("redis.url", "must be addresses such as redis://host:6379 or rediss://host:6379/0")
        })?;
        // A command line is no secret, and neither is what is printed of the settings.
        Bad::unless(
            parsed.username().is_empty() && parsed.password().is_none(),
            "redis.url",
            "must not hold a user or password: they belong into redis.username and redis.password, or better into \
             HANDOFF_REDIS__PASSWORD_FILE",
        )?;
        let is_bare = parsed.query().is_none() && parsed.fragment().is_none();
        Bad::unless(is_bare, "redis.url", "must not have a query or fragment")
    }
}
