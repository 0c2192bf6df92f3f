//! The layers of a configuration as sources of the `config` crate, each value with the place that it came from.

use std::ffi::OsString;

use ::config::{Map, Source, Value, ValueKind};

use super::ConfigError;
use super::keys::{self, KEYS, Key, Shape};

/// What the environment's settings start with.
const PREFIX: &str = "HANDOFF_";

/// Values by full key.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides(Vec<(String, Value)>);

impl Source for Overrides {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.iter().cloned().collect())
    }
}

impl Overrides {
    /// Sets `key` to what was written as `text` at `origin`; a later value replaces an earlier one.
    pub(super) fn set(&mut self, key: &Key, text: &str, origin: &str) {
        let origin = Some(&origin.to_owned());
        let value = match key.shape {
            Shape::One | Shape::Secret => ValueKind::String(text.to_owned()),
            Shape::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                ValueKind::Array(items.map(|item| Value::new(origin, item)).collect())
            }
        };
        self.0.retain(|(name, _)| name != key.name);
        self.0.push((key.name.to_owned(), Value::new(origin, value)));
    }

    /// The tables of a file, with `origin` for every value.
    pub(super) fn from_tables(tables: Map<String, Value>, origin: &str) -> Self {
        let mut values = Vec::new();
        for (section, value) in tables {
            if let ValueKind::Table(keys) = value.kind {
                let keys = keys.into_iter();
                values.extend(keys.map(|(name, value)| (format!("{section}.{name}"), placed(value, origin))));
            } else {
                // Not a section: will be reported as unknown.
                values.push((section, placed(value, origin)));
            }
        }
        Self(values)
    }

    /// The settings among the variables of the process. An empty variable counts as not set.
    pub(super) fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut overrides = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            if value.is_empty() {
                continue;
            }
            let Some((key, is_file)) = variable(name)? else { continue };
            let text = value.to_str().ok_or_else(|| ConfigError::Unusable(format!("{name} is not valid UTF-8")))?;
            if is_file {
                let origin = format!("in {text}, which {name} names");
                let unreadable =
                    |error| ConfigError::Unusable(format!("{name} names {text}, which cannot be read: {error}"));
                let text = zeroize::Zeroizing::new(std::fs::read_to_string(text).map_err(unreadable)?);
                overrides.set(key, text.trim_end(), &origin);
            } else {
                overrides.set(key, text, &format!("from the environment variable {name}"));
            }
        }
        Ok(overrides)
    }
}

fn placed(mut value: Value, origin: &str) -> Value {
    if let ValueKind::Array(items) = value.kind {
        value.kind = ValueKind::Array(items.into_iter().map(|item| placed(item, origin)).collect());
    }
    Value::new(Some(&origin.to_owned()), value.kind)
}

/// The setting that a variable sets, and whether it names a file with the value. Variables that are not ours, such as
/// those that Kubernetes makes for a service of the name `handoff`, are none.
fn variable(name: &str) -> Result<Option<(&'static Key, bool)>, ConfigError> {
    if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
        return Ok(Some((key, false)));
    }
    let names_file = |key: &&Key| key.shape == Shape::Secret && format!("{}_FILE", key.variable()) == name;
    if let Some(key) = KEYS.iter().find(names_file) {
        return Ok(Some((key, true)));
    }
    let one_underscore = |name: &str| name.replace("__", "_");
    if let Some(key) = KEYS.iter().find(|key| one_underscore(&key.variable()) == one_underscore(name)) {
        let right = key.variable();
        return Err(ConfigError::Unusable(format!("{name} is not a setting; {} is set with {right}", key.name)));
    }
    match name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) {
        Some((section, key)) => {
            let key = format!("{section}.{key}").to_lowercase();
            Err(keys::unknown(&key, &format!("from the environment variable {name}")))
        }
        None => Ok(None),
    }
}

/// Layers are merged without looking at what they say; this has never been seen to fail.
pub(super) fn unmergeable(error: &::config::ConfigError) -> ConfigError {
    ConfigError::Unusable(format!("the configuration cannot be put together: {error}"))
}
