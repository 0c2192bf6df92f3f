//! The effective settings as TOML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Settings;
use super::keys::{KEYS, Shape};

/// The settings in the order of the table, each with its origin; secrets are left out, in a comment.
pub(super) fn toml(settings: &Settings, origins: &BTreeMap<&'static str, String>) -> String {
    let values = serde_json::to_value(settings).unwrap_or_default();
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            let gap = if text.is_empty() { "" } else { "\n" };
            writeln!(text, "{gap}[{section}]").ok();
        }
        let name = key.name.split_once('.').map_or(key.name, |(_, name)| name);
        let origin = origins.get(key.name).map_or("default", String::as_str);
        let line = match lookup(&values, key.name) {
            None => format!("# {name} is not set"),
            Some(_) if key.shape == Shape::Secret => format!("# {name} is set and not shown  # {origin}"),
            Some(value) => format!("{name} = {}  # {origin}", literal(value)),
        };
        writeln!(text, "{line}").ok();
    }
    text
}

/// The value of a setting that nobody set, for an error message.
pub(super) fn default_value(key: &str, settings: &Settings) -> String {
    let values = serde_json::to_value(settings).unwrap_or_default();
    lookup(&values, key).map_or_else(|| "nothing".to_owned(), literal)
}

fn lookup<'a>(values: &'a Value, key: &str) -> Option<&'a Value> {
    let (section, name) = key.split_once('.')?;
    values.get(section)?.get(name).filter(|value| !value.is_null())
}

/// A TOML value. For strings, numbers and arrays of them JSON is TOML, but for one character: TOML wants DEL escaped.
fn literal(value: &Value) -> String {
    value.to_string().replace('\x7f', "\\u007f")
}
