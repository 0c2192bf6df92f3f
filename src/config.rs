//! The settings of `handoff serve`: defaults < file < environment < flags, typed and checked before anything starts.
//!
//! Plain data; the wiring makes each part's own small settings from it. Nothing is read here but the configuration
//! itself: whether a certificate or a database is any good is found out by whoever opens it.
//!
//! To add a setting: a field and its default in its section, a row in `keys`, a line in
//! `deploy/handoff-relay.example.toml`. A test compares the three.

mod activation;
mod args;
mod drain;
mod keys;
mod layers;
mod limits;
mod logging;
mod network;
mod open;
mod print;
mod redis;
mod secret;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ::config::ConfigError::{At, FileParse, Type};
use ::config::{Config, File, FileFormat, Map, Source as _, Value};
use serde::{Deserialize, Serialize};

pub use self::redis::{Redis, RedisTopology};
pub use activation::{Activation, Sms, SmsGateway, SmsRoute, SmsSecond};
pub use args::Args;
pub use drain::Drain;
use keys::Key;
use layers::Overrides;
pub use limits::Limits;
pub use logging::Log;
pub use network::Network;
pub use open::{Open, OpenPolicy};
pub use secret::{SecretKey, SecretText};
pub use server::{ClientAddressHeader, Server};
pub use session::{FrameInterval, Session};
pub use traces::Traces;

/// Everything that a deployment may decide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Listeners, certificates, proxies.
    pub server: Server,
    /// What a session is.
    pub session: Session,
    /// How much a node takes.
    pub limits: Limits,
    /// Where the two phones are.
    pub network: Network,
    /// Who may open sessions.
    pub open: Open,
    /// Where nodes share their sessions.
    pub redis: Redis,
    /// From a new app to an active one.
    pub activation: Activation,
    /// The SMS with temporary PINs.
    pub sms: Sms,
    /// A second gateway for them.
    pub sms_second: SmsSecond,
    /// How a node leaves.
    pub drain: Drain,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub traces: Traces,
}

/// Settings that passed every check, and where each came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each setting that is not a default came from, by key.
    origins: BTreeMap<&'static str, String>,
}

/// A configuration that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        problem: String,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid: {problem}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and what, without the text itself: it may be a secret.
        problem: String,
    },
    /// There is no such setting.
    #[error("there is no setting {key} ({origin}); {known}")]
    UnknownKey {
        /// What was written.
        key: String,
        /// Where.
        origin: String,
        /// What may be written there.
        known: String,
    },
    /// A setting has a value that it may not have.
    #[error("{key} = {value} ({origin}): {problem}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// Its value; never a secret's.
        value: String,
        /// Where it came from.
        origin: String,
        /// What is wrong, or what is allowed.
        problem: String,
    },
    /// A flag or variable that is not a setting at all.
    #[error("{0}")]
    Unusable(String),
}

/// A value that a section refuses.
struct Bad {
    key: &'static str,
    problem: String,
}

impl Bad {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into() }
    }

    /// Refuses `key` unless `is_good`.
    fn unless(is_good: bool, key: &'static str, problem: impl Into<String>) -> Result<(), Self> {
        if is_good { Ok(()) } else { Err(Self::new(key, problem)) }
    }
}

impl Settings {
    /// Whether this is a place to try things out: no SMS is sent, and no identity-proofing system is named.
    #[must_use]
    pub fn takes_development_tokens(&self) -> bool {
        self.sms.gateway == SmsGateway::Outbox && self.activation.enrolment_jwks_file.is_none()
    }

    fn check(&self) -> Result<(), Bad> {
        self.server.check()?;
        self.session.check()?;
        self.limits.check()?;
        self.network.check(&self.redis)?;
        self.open.check(&self.server)?;
        self.redis.check()?;
        self.activation.check()?;
        self.sms.check()?;
        self.sms_second.check(&self.sms)?;
        self.drain.check()?;
        self.log.check()?;
        self.traces.check()
    }
}

impl Loaded {
    /// Reads and checks the configuration.
    ///
    /// `environment` is every variable of the process; those that are no settings are passed over.
    ///
    /// # Errors
    /// [`ConfigError`] with the first thing that is wrong.
    pub fn load(args: &Args, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut builder = Config::builder();
        if let Some(path) = &args.config {
            builder = builder.add_source(file(path)?);
        }
        builder = builder.add_source(Overrides::from_environment(environment)?);
        builder = builder.add_source(args.overrides()?);
        let merged = builder.build().map_err(|error| layers::unmergeable(&error))?;
        let found = Found::of(&merged)?;
        let settings: Settings = merged.try_deserialize().map_err(|error| found.explain(&error))?;
        settings.check().map_err(|bad| found.refuse(bad, &settings))?;
        Ok(Self { settings, origins: found.origins() })
    }

    /// What an operator should know although nothing is wrong; `open_files` is the limit of this process.
    #[must_use]
    pub fn warnings(&self, open_files: Option<u64>) -> Vec<String> {
        let mut warnings = self.settings.limits.warnings(open_files);
        warnings.extend(self.settings.network.warning(&self.settings.redis));
        warnings.extend(self.settings.activation.warning(&self.settings.redis));
        warnings
    }

    /// The effective settings as TOML that can be read back; secrets are left out, in a comment.
    #[must_use]
    pub fn print_config(&self) -> String {
        print::toml(&self.settings, &self.origins)
    }
}

/// Parses a file apart from the rest, so that an error names it.
fn file(path: &PathBuf) -> Result<impl ::config::Source + Send + Sync + 'static + use<>, ConfigError> {
    let unreadable = |error: std::io::Error| ConfigError::Unreadable { path: path.clone(), problem: error.to_string() };
    std::fs::read(path).map_err(unreadable)?;
    let source = File::from(path.clone()).format(FileFormat::Toml);
    let parsed = source.collect().map_err(|error| {
        // The parser shows the line, which may hold a secret, between where and what.
        let text = if let FileParse { cause, .. } = error { cause.to_string() } else { error.to_string() };
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let (first, last) = (lines.first().copied().unwrap_or_default(), lines.last().copied().unwrap_or_default());
        ConfigError::NotToml { path: path.clone(), problem: format!("{first}: {last}") }
    })?;
    let origin = format!("in {}", path.display());
    Ok(Overrides::from_tables(parsed, &origin))
}

/// The values that were found in any layer, by key.
struct Found(Vec<(&'static Key, Value)>);

impl Found {
    fn of(merged: &Config) -> Result<Self, ConfigError> {
        let sections = merged.collect().map_err(|error| layers::unmergeable(&error))?;
        let mut found = Vec::new();
        for (section, value) in sections {
            for (name, value) in keys_of(&section, value)? {
                let key = format!("{section}.{name}");
                let origin = value.origin().unwrap_or_default().to_owned();
                let known = keys::find(&key).ok_or_else(|| keys::unknown(&key, &origin))?;
                found.push((known, value));
            }
        }
        Ok(Self(found))
    }

    fn get(&self, key: &str) -> Option<&(&'static Key, Value)> {
        self.0.iter().find(|(known, _)| known.name == key)
    }

    /// Makes an error of `config` ours: its key decides, its text may repeat a secret.
    fn explain(&self, error: &::config::ConfigError) -> ConfigError {
        let key = if let Type { key, .. } | At { key, .. } = error { key.as_deref() } else { None };
        // Of an element of a list, the list.
        let path = key.and_then(|key| key.split('[').next()).unwrap_or_default();
        match self.get(path) {
            Some((key, value)) => ConfigError::BadValue {
                key: key.name,
                value: key.show(value),
                origin: value.origin().unwrap_or("default").to_owned(),
                problem: format!("must be {}", key.allowed),
            },
            None => ConfigError::Unusable(error.to_string()),
        }
    }

    /// Makes a section's refusal ours.
    fn refuse(&self, bad: Bad, settings: &Settings) -> ConfigError {
        let (value, origin) = match self.get(bad.key) {
            Some((key, value)) => (key.show(value), value.origin().unwrap_or("default").to_owned()),
            None => (print::default_value(bad.key, settings), "default".to_owned()),
        };
        ConfigError::BadValue { key: bad.key, value, origin, problem: bad.problem }
    }

    fn origins(&self) -> BTreeMap<&'static str, String> {
        let origin = |value: &Value| value.origin().unwrap_or_default().to_owned();
        self.0.iter().map(|(key, value)| (key.name, origin(value))).collect()
    }
}

/// The settings of one section.
fn keys_of(section: &str, value: Value) -> Result<Map<String, Value>, ConfigError> {
    let origin = value.origin().unwrap_or_default().to_owned();
    value.into_table().map_err(|_| keys::unknown(section, &origin))
}
