mod example_file;
mod sources;
mod values;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Parser;
use tempfile::NamedTempFile;

use super::keys::{KEYS, Shape};
use super::*;
use crate::session::network_tag::Refuse;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// The flags of a command line. `HANDOFF_CONFIG` is not read here: no test sets it.
fn args(flags: &[&str]) -> Args {
    Cli::try_parse_from(["handoff"].iter().chain(flags)).unwrap().args
}

fn variables(set: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    set.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn toml(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What a file, variables and flags make together.
fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, ConfigError> {
    let file = toml(file);
    let args = Args { config: Some(file.path().to_owned()), ..args(flags) };
    let name = file.path().display().to_string();
    Loaded::load(&args, variables(environment)).map_err(|mut error| {
        if let ConfigError::UnknownKey { origin, .. } | ConfigError::BadValue { origin, .. } = &mut error {
            // The file's name is random.
            *origin = origin.replace(&name, "FILE");
        }
        error
    })
}

fn from_file(text: &str) -> Result<Settings, ConfigError> {
    load(text, &[], &[]).map(|loaded| loaded.settings)
}

fn error_from_file(text: &str) -> String {
    from_file(text).expect_err(text).to_string()
}

fn error_from_flags(flags: &[&str]) -> String {
    load("", &[], flags).expect_err(&flags.join(" ")).to_string()
}

fn lifetime(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> u64 {
    load(file, environment, flags).unwrap().settings.session.lifetime.as_secs()
}
