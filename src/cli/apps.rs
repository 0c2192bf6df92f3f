//! `handoff apps`: what an active app sees of its user's apps, and does to them.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::anyhow;
use clap::Subcommand;
use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::{Value, json};
use uuid::Uuid;

use super::activate::app_name;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::state_file::{StateFile, failure};
use crate::client::activation::{ActivationError, ActiveApp, AppEntry, Apps as Listed, PendingCopy};

/// See, rename and delete the active apps of the user whose app this is
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff apps list --state phone.json
  handoff apps rename Phone Backup --state phone.json
  handoff apps delete 6f9619ff --state phone.json
  handoff apps cancel 9b2f6c1e --state phone.json    a copy that waits")]
pub(super) struct Apps {
    #[command(subcommand)]
    command: Command,

    /// The state of an active app, as handoff activate and handoff new write it
    #[arg(long, value_name = "FILE", global = true)]
    state: Option<PathBuf>,

    /// Trust the certificate authorities in this PEM file, too
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List active apps, and copies that are under way
    List,
    /// Give an app another name
    Rename {
        /// The app: its id, the first characters of it, or its name
        app: String,
        /// What it is called from now on, at most 64 characters
        #[arg(value_parser = app_name)]
        name: String,
    },
    /// Delete an app: it opens nothing any more
    Delete {
        /// The app: its id, the first characters of it, or its name
        app: String,
    },
    /// End a copy that is under way
    Cancel {
        /// The copy: its id, the first characters of it, or the new app's name
        copy: String,
    },
}

impl Apps {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        super::in_runtime(super::interruptible(async move {
            let path = self.state.ok_or_else(|| anyhow!("say which app does this: --state FILE"))?;
            let state = StateFile::new(&path, self.ca_file.as_deref());
            let (saved, app) = state.active()?;
            let done = self.command.run(&app, output).await;
            done.map_err(|problem| match problem {
                Problem::Server(problem) => failure(saved.server(), &problem),
                Problem::Person(problem) => problem.into(),
            })
        }))
    }
}

/// What the server says, or what the person meant.
enum Problem {
    Server(ActivationError),
    Person(anyhow::Error),
}

impl From<ActivationError> for Problem {
    fn from(problem: ActivationError) -> Self {
        Self::Server(problem)
    }
}

impl Command {
    async fn run(self, app: &ActiveApp, output: Output) -> Result<Exit, Problem> {
        let listed = app.apps().await?;
        match self {
            Self::List => show(&listed, output),
            Self::Rename { app: wanted, name } => {
                let chosen = app_of(&listed, &wanted)?;
                app.rename(chosen.id, &name).await?;
                let text = format!("“{}” is now “{name}”.", chosen.name);
                output.say(&text, &json!({"event": "renamed", "app": chosen.id.to_string(), "name": name}));
            }
            Self::Delete { app: wanted } => {
                let chosen = app_of(&listed, &wanted)?;
                app.delete(chosen.id).await?;
                let own = if chosen.is_this { " It was this app: its state file is of no use any more." } else { "" };
                let text = format!("“{}” is deleted.{own}", chosen.name);
                output.say(&text, &json!({"event": "deleted", "app": chosen.id.to_string()}));
            }
            Self::Cancel { copy: wanted } => {
                let names = listed.pending.iter().map(|copy| (copy.id, copy.name.as_str()));
                let id = one_of(names, &wanted, "copy")?;
                app.cancel_copy(id).await?;
                let event = json!({"event": "cancelled", "activation": id.to_string()});
                output.say("The copy is cancelled.", &event);
            }
        }
        Ok(Exit::Success)
    }
}

fn app_of<'a>(listed: &'a Listed, wanted: &str) -> Result<&'a AppEntry, Problem> {
    let id = one_of(listed.apps.iter().map(|app| (app.id, app.name.as_str())), wanted, "app")?;
    let found = listed.apps.iter().find(|app| app.id == id);
    found.ok_or_else(|| Problem::Person(anyhow!("there is no app {wanted}")))
}

/// The one of this id, of an id that begins so, or of this name.
fn one_of<'a>(all: impl Iterator<Item = (Uuid, &'a str)>, wanted: &str, what: &str) -> Result<Uuid, Problem> {
    let is_meant = |(id, name): &(Uuid, &str)| {
        *name == wanted || (!wanted.is_empty() && id.to_string().starts_with(&wanted.to_ascii_lowercase()))
    };
    let found: Vec<_> = all.filter(is_meant).collect();
    match found[..] {
        [(id, _)] => Ok(id),
        [] => Err(Problem::Person(anyhow!("there is no {what} {wanted:?}; see: handoff apps list"))),
        _ => {
            Err(Problem::Person(anyhow!("{wanted:?} is more than one {what}; give more of the id: handoff apps list")))
        }
    }
}

/// Lists what there is.
fn show(listed: &Listed, output: Output) {
    for app in &listed.apps {
        output.say(&line(app), &event(app));
    }
    for copy in &listed.pending {
        let PendingCopy { id, name, model, due, .. } = copy;
        let starts_in = copy.starts_in().as_secs();
        let text = format!("{}  {name} ({model}): a copy under way, {due} is due; starts in {starts_in} s", short(*id));
        let event = json!({"event": "copy", "activation": id.to_string(), "name": name, "model": model, "due": due,
                           "starts_in_s": starts_in});
        output.say(&text, &event);
    }
}

/// What a person sees of an app.
pub(super) fn line(app: &AppEntry) -> String {
    let (yes, own) = (|wanted| if wanted { "yes" } else { "no" }, if app.is_this { ", this app" } else { "" });
    format!(
        "{}  {} ({}){own}\n          active since {}; fingerprint or face: {}; notifications: {}",
        short(app.id),
        app.name,
        app.model,
        format_rfc3339_seconds(app.created()),
        yes(app.biometrics),
        yes(app.notifications)
    )
}

/// The same for machines.
pub(super) fn event(app: &AppEntry) -> Value {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({
        "event": "app", "app": app.id.to_string(), "name": app.name, "model": app.model, "is_this": app.is_this,
        "biometrics": app.biometrics, "notifications": app.notifications,
        "created": seconds(app.created()), "last_used": seconds(app.last_used()),
    })
}

/// Enough of an id for a person.
fn short(id: Uuid) -> String {
    id.to_string().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_named_by_id_by_the_beginning_of_it_or_by_name_if_it_is_the_only_one() {
        let (one, two) = (Uuid::from_bytes([0x11; 16]), Uuid::from_bytes([0x12; 16]));
        let found = |wanted: &str| {
            let found = one_of([(one, "Phone"), (two, "Phone 2"), (two, "")].into_iter().take(2), wanted, "app");
            found.ok()
        };
        assert_eq!(found("Phone"), Some(one));
        assert_eq!(found("Phone 2"), Some(two));
        assert_eq!(found("1111"), Some(one));
        assert_eq!(found(&two.to_string()), Some(two));
        for wanted in ["1", "", "phone", "3"] {
            assert_eq!(found(wanted), None, "{wanted}");
        }
    }
}
