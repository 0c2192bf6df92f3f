//! The table of keys, the settings and the example file name the same things.

use super::*;

#[test]
fn the_table_of_keys_is_exactly_the_settings() {
    let values = serde_json::to_value(Settings::default()).unwrap();
    let sections = values.as_object().unwrap().iter();
    let of_structs: BTreeSet<String> = sections
        .flat_map(|(section, keys)| keys.as_object().unwrap().keys().map(move |name| format!("{section}.{name}")))
        .collect();
    let of_table: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(of_table, of_structs);
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        assert_eq!(values[section][name].is_array(), key.shape == Shape::List, "{}", key.name);
    }
}

/// A commented setting of the example file.
struct Line {
    section: &'static str,
    name: &'static str,
    /// With its value, as it would stand in a file.
    setting: &'static str,
    is_example: bool,
}

impl Line {
    fn key(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

fn example_lines() -> Vec<Line> {
    let mut section = "";
    let mut lines = Vec::new();
    for line in include_str!("../../../deploy/handoff-relay.example.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some(setting) = line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)) {
            let name = setting.split(' ').next().unwrap();
            lines.push(Line { section, name, setting, is_example: line.ends_with("# (example)") });
        } else {
            assert!(line.is_empty() || line.starts_with("# ") || line == "#", "{line}");
        }
    }
    lines
}

#[test]
fn the_example_file_names_every_setting_once_and_changes_nothing() {
    let names: Vec<String> = example_lines().iter().map(Line::key).collect();
    let unique: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(unique, KEYS.iter().map(|key| key.name).collect());
    assert_eq!(names.len(), KEYS.len());
    assert_eq!(from_file(include_str!("../../../deploy/handoff-relay.example.toml")).unwrap(), Settings::default());
}

#[test]
fn each_commented_default_of_the_example_file_is_the_real_default() {
    let defaults = serde_json::to_value(Settings::default()).unwrap();
    for line in example_lines() {
        let is_unset = defaults[line.section][line.name].is_null();
        assert_eq!(is_unset, line.is_example, "{}: what is not set by default is an example", line.key());
        if !line.is_example {
            let text = format!("[{}]\n{}", line.section, line.setting);
            assert_eq!(from_file(&text).unwrap(), Settings::default(), "{}", line.key());
        }
    }
}

#[test]
fn the_examples_of_the_example_file_are_accepted_together() {
    let text = include_str!("../../../deploy/handoff-relay.example.toml").lines();
    let uncommented = text.map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    let text = uncommented.collect::<Vec<_>>().join("\n");
    let text = text.replace("\nurl = []", "\nurl = [\"rediss://redis.internal:6379\"]");
    // A second gateway needs a first.
    let text = text.replace("gateway = \"outbox\"", "gateway = \"gatewayapi\"");
    let settings = from_file(&text.replace("topology = \"single\"", "topology = \"sentinel\"")).unwrap();
    assert_eq!(settings.open.effective_policy(), OpenPolicy::Jwt);
    assert_eq!(settings.server.workers, 1);
    assert!(settings.network.tag_key.is_some());
}
