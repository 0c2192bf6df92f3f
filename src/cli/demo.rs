//! `handoff demo`: the service and both phones in one terminal, each step told: an app is activated on one phone, and
//! copied to another.

mod phones;
mod service;
mod stage;

use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Output;
use phones::Scene;
use service::DemoService;
use stage::Stage;

/// See it all in this terminal: an app is activated on one phone, and copied to another
///
/// Relay and activation run in this process, with the embedded defaults: sessions in memory, the registry in a temporary
/// file, SMS in an outbox. Nothing is asked, and nothing stays.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(output: Output) -> Result<Exit, Failure> {
        let cannot_run = |problem| Failure { exit: Exit::CannotRun, problem };
        let service = DemoService::start().map_err(cannot_run)?;
        let stage = Stage::new(output);
        let text = format!(
            "{:<10} Listens on {}: the relay, which can read nothing of what follows, and the activation.",
            "service",
            service.address()
        );
        output.say(&text, &json!({"event": "listening", "url": service.relay_url()}));
        let end = super::in_runtime(super::interruptible(Scene::new(stage, &service).play()));
        service.stop().map_err(cannot_run)?;
        end
    }
}
