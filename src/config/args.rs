//! The flags of `handoff serve` that change settings: one each for the common ones, `--set` for all.

use std::path::PathBuf;

use super::ConfigError;
use super::keys;
use super::layers::Overrides;

/// Flags that change settings; they win over environment and file.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Read settings from this TOML file
    #[arg(long, short, value_name = "FILE", env = "HANDOFF_CONFIG")]
    pub config: Option<PathBuf>,

    /// Listen here for apps [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Settings")]
    pub listen: Option<String>,

    /// Serve metrics and the version here only
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Settings")]
    pub metrics_listen: Option<String>,

    /// End sessions this long after they were opened [default: 180s, the most there is]
    #[arg(long, value_name = "TIME", help_heading = "Settings")]
    pub lifetime: Option<String>,

    /// Let this many sessions be open at once
    #[arg(long, value_name = "NUMBER", help_heading = "Settings")]
    pub sessions: Option<String>,

    /// Who may open sessions: anyone, or whoever has a token (jwt)
    #[arg(long, value_name = "POLICY", help_heading = "Settings")]
    pub open_policy: Option<String>,

    /// The public keys that tokens are verified with
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub jwks_file: Option<String>,

    /// The audience that tokens must have
    #[arg(long, value_name = "TEXT", help_heading = "Settings")]
    pub audience: Option<String>,

    /// Share sessions with other nodes through this Redis, such as `redis://host:6379`
    #[arg(long, value_name = "URL", help_heading = "Settings")]
    pub redis_url: Option<String>,

    /// Log as auto, json or text
    #[arg(long, value_name = "FORMAT", help_heading = "Settings")]
    pub log_format: Option<String>,

    /// Log what passes this filter, such as debug or warn,actix=error
    #[arg(long = "log", value_name = "FILTER", help_heading = "Settings")]
    pub log_filter: Option<String>,

    /// Change any setting, as in --set session.lifetime=90s; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", help_heading = "Settings")]
    pub set: Vec<String>,
}

impl Args {
    /// The settings that the flags change.
    pub(super) fn overrides(&self) -> Result<Overrides, ConfigError> {
        let flags = [
            ("--listen", "server.listen", &self.listen),
            ("--metrics-listen", "server.metrics_listen", &self.metrics_listen),
            ("--lifetime", "session.lifetime", &self.lifetime),
            ("--sessions", "limits.sessions", &self.sessions),
            ("--open-policy", "open.policy", &self.open_policy),
            ("--jwks-file", "open.jwks_file", &self.jwks_file),
            ("--audience", "open.audience", &self.audience),
            ("--redis-url", "redis.url", &self.redis_url),
            ("--log-format", "log.format", &self.log_format),
            ("--log", "log.filter", &self.log_filter),
        ];
        let mut overrides = Overrides::default();
        for (flag, key, value) in flags {
            if let (Some(key), Some(value)) = (keys::find(key), value) {
                overrides.set(key, value, &format!("from {flag}"));
            }
        }
        for assignment in &self.set {
            let (name, value) = assignment.split_once('=').ok_or_else(|| {
                ConfigError::Unusable("--set needs section.key=value, as in --set session.lifetime=90s".to_owned())
            })?;
            let key = keys::find(name.trim()).ok_or_else(|| keys::unknown(name.trim(), "from --set"))?;
            overrides.set(key, value, "from --set");
        }
        Ok(overrides)
    }
}
