//! `handoff check-config`: whether the relay would start with these settings.
//!
//! Reads what the settings name, keys, certificates and databases; opens no port and asks no Redis.

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::config::{Args, Loaded};
use crate::telemetry::trace::{self, TraceError};
use crate::{app, telemetry};

/// Check the relay's settings, and the files that they name
///
/// Takes the flags of `handoff serve`, and settings from the same places. Ends with 78 if a setting is wrong, with 71 if
/// a key, a certificate or a database cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff check-config
  handoff check-config --config /etc/handoff/handoff.toml
  handoff check-config --listen 0.0.0.0:8080 --open-policy anyone")]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Args,
}

impl CheckConfig {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        let refused = |exit: Exit, problem: anyhow::Error| Failure { exit, problem };
        let loaded = Loaded::load(&self.settings, std::env::vars_os())
            .map_err(|problem| refused(Exit::Config, problem.into()))?;
        app::check_files(&loaded.settings).map_err(|problem| refused(Exit::CannotRun, problem.into()))?;
        if loaded.settings.traces.endpoint.is_some() && !trace::is_built_in() {
            return Err(refused(Exit::CannotRun, TraceError::NotBuiltIn.into()));
        }
        let warnings = loaded.warnings(telemetry::max_open_files());
        let mut text = "The settings are valid, and the files that they name can be used.".to_owned();
        for warning in &warnings {
            text.push_str("\nBut: ");
            text.push_str(warning);
        }
        output.say(&text, &json!({"event": "valid", "warnings": warnings}));
        Ok(Exit::Success)
    }
}
