//! `handoff migrate`: the registry's tables, brought up to date before the nodes that need them start.

use serde_json::json;

use super::exit::{Exit, Failure};
use super::in_runtime;
use super::output::Output;
use crate::activation::registry::Migrated;
use crate::app;
use crate::config::{Args, Loaded};
use crate::telemetry;

/// Make the registry's tables, or bring them up to date
///
/// `handoff serve` does the same at its start; this is for the Job before an upgrade. Takes the flags of `handoff serve`,
/// and settings from the same places. Any number may run at once: one works, the others wait. Tables of a later version
/// are left alone, and are an error. Ends with 71 if the database or a key cannot be used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff migrate
  handoff migrate --config /etc/handoff/handoff.toml --json
  HANDOFF_ACTIVATION__DATABASE_URL_FILE=/run/secrets/database handoff migrate")]
pub(super) struct Migrate {
    #[command(flatten)]
    settings: Args,
}

impl Migrate {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        let refused = |problem| Failure { exit: Exit::Config, problem };
        let loaded = Loaded::load(&self.settings, std::env::vars_os()).map_err(|problem| refused(problem.into()))?;
        let settings = &loaded.settings;
        if !settings.activation.enabled {
            return Err(refused(anyhow::anyhow!("activation.enabled = false: there is no registry")));
        }
        let cannot = |problem| Failure { exit: Exit::CannotRun, problem };
        telemetry::logs::start(settings.log.format, &settings.log.filter).map_err(|problem| cannot(problem.into()))?;
        in_runtime(async {
            let done = app::migrate(settings).await.map_err(|problem| cannot(problem.into()))?;
            let migrations: Vec<_> =
                done.iter().map(|one| json!({"version": one.version, "brings": one.brings})).collect();
            output.say(&for_people(&done), &json!({"event": "migrated", "migrations": migrations}));
            Ok(Exit::Success)
        })
    }
}

fn for_people(done: &[Migrated]) -> String {
    if done.is_empty() {
        return "The registry's tables are up to date; nothing was done.".to_owned();
    }
    let lines = done.iter().map(|one| format!("\n  {}: {}", one.version, one.brings));
    format!("The registry's tables are up to date now. Done:{}", lines.collect::<String>())
}
