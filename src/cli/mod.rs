//! The `handoff` command: arguments in, exit code out.
//!
//! Standard output carries what was asked for, standard error what went wrong and the log. With `--json` each line of
//! standard output is one JSON object with an `event`.

mod activate;
mod admin;
mod apps;
mod ask;
mod check_config;
mod copying;
mod demo;
mod enrolment_token;
mod exit;
mod files;
mod fill_in;
mod guide;
mod migrate;
mod narrate;
mod new;
mod old;
mod outbox;
mod output;
mod picture;
mod qr_screen;
mod questions;
mod relative;
mod relays;
mod serve;
mod state_file;
mod status;
mod unlock;
mod users;

use clap::{CommandFactory as _, Parser, Subcommand};
use utoipa::OpenApi as _;

pub use exit::Exit;
use exit::Failure;
use output::Output;

use crate::activation::http::ApiDoc as ActivationApiDoc;
use crate::edge::routes::{ApiDoc, Version};

/// Hands an app's credential over to a new phone, end-to-end encrypted, through a relay that can read nothing.
#[derive(Debug, Parser)]
#[command(name = "handoff", version, propagate_version = true, after_help = exit::HELP)]
pub struct Cli {
    /// Without a command, the relay runs with its defaults.
    #[command(subcommand)]
    command: Option<Command>,

    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Old(Box<old::Old>),
    New(Box<new::New>),
    Activate(Box<activate::Activate>),
    Apps(Box<apps::Apps>),
    Unlock(unlock::Unlock),
    Demo(demo::Demo),
    CheckConfig(Box<check_config::CheckConfig>),
    #[command(name = "healthcheck")]
    HealthCheck(status::HealthCheck),
    Status(status::Status),
    Migrate(Box<migrate::Migrate>),
    Users(Box<users::Users>),
    EnrolmentToken(Box<enrolment_token::EnrolmentToken>),
    Outbox(outbox::Outbox),
    /// Print the version of this binary and of the protocol
    #[command(disable_version_flag = true)]
    Version,
    /// Print the OpenAPI document of the relay's HTTP side
    Openapi,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> Exit {
        self.execute().unwrap_or_else(|failure| {
            Output::error(&with_causes(&failure.problem));
            failure.exit
        })
    }

    fn execute(self) -> Result<Exit, Failure> {
        let output = Output::new(self.json);
        match self.command.unwrap_or_else(|| Command::Serve(Box::default())) {
            Command::Serve(serve) => serve.run(output),
            Command::Old(old) => old.run(output),
            Command::New(new) => new.run(output),
            Command::Activate(activate) => activate.run(output),
            Command::Apps(apps) => apps.run(output),
            Command::Unlock(unlock) => unlock.run(output),
            Command::Demo(demo::Demo {}) => demo::Demo::run(output),
            Command::CheckConfig(check) => check.run(output),
            Command::HealthCheck(check) => check.run(output),
            Command::Status(status) => status.run(output),
            Command::Migrate(migrate) => migrate.run(output),
            Command::Users(users) => users.run(output),
            Command::EnrolmentToken(token) => token.run(output),
            Command::Outbox(outbox) => outbox.run(output),
            Command::Version => {
                let version = Version::of_this_binary();
                let text = format!("{} {}, protocol {}", version.name, version.release, version.protocol);
                output.say(&text, &serde_json::to_value(version).unwrap_or_default());
                Ok(Exit::Success)
            }
            Command::Openapi => {
                let mut document = ApiDoc::openapi();
                document.merge(ActivationApiDoc::openapi());
                Output::raw(&document.to_pretty_json().unwrap_or_default());
                Ok(Exit::Success)
            }
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "handoff", &mut script);
                Output::raw(&String::from_utf8_lossy(&script));
                Ok(Exit::Success)
            }
        }
    }
}

/// A problem and its causes, each once: the text of some problems has their cause in it, for logs.
fn with_causes(problem: &anyhow::Error) -> String {
    problem
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(problem.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

/// Does the work, unless the person interrupts it first.
async fn interruptible(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        end = work => end,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Runs one app. What still waits for a line from standard input at the end is left behind.
fn in_runtime(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|problem| Failure { exit: Exit::CannotRun, problem: problem.into() })?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}
