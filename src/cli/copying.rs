//! The old phone's part when an app is copied: the grant, and afterwards the news that the new app is active.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use tokio::signal::ctrl_c;
use tokio::time::timeout;
use uuid::Uuid;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::state_file::{StateFile, failure};
use crate::client::Payload;
use crate::client::activation::{ActivationError, ActiveApp, AppEntry, AppEventKind, Events, SavedApp};

/// As long as an activation may take by default.
const PATIENCE: Duration = Duration::from_mins(30);

/// An active app that copies itself.
pub(super) struct Copying {
    state: StateFile,
    saved: SavedApp,
    app: ActiveApp,
    /// The apps that there were before.
    known: HashSet<Uuid>,
}

impl Copying {
    /// Asks first whether this app is still active: no QR code is shown for a grant that is worth nothing.
    pub(super) async fn begin(state: &StateFile) -> Result<Self, Failure> {
        let (saved, app) = state.active()?;
        let listed = app.apps().await.map_err(|problem| failure(saved.server(), &problem))?;
        let known = listed.apps.iter().map(|app| app.id).collect();
        Ok(Self { state: state.clone(), saved, app, known })
    }

    /// What is handed over.
    pub(super) fn payload(&self) -> Payload {
        self.app.grant_copy()
    }

    /// Waits until the new app is active. The grant is handed over: whoever does not want to wait may go.
    pub(super) async fn until_active(mut self, output: Output) -> Result<Exit, Failure> {
        let text = "Waiting for the new app to be activated (Ctrl-C ends the wait, not the copy).";
        output.say(text, &json!({"event": "waiting_for_app"}));
        let mut events = self.app.events();
        let heard = tokio::select! {
            heard = timeout(PATIENCE, self.hear(&mut events, output)) => heard,
            _ = ctrl_c() => return Ok(Exit::Success),
        };
        self.saved.set_last_event(events.last());
        self.state.save(&self.saved)?;
        match heard {
            Ok(Ok(new)) => {
                let text = format!("“{}” ({}) is now an active app, too. This one stays active.", new.name, new.model);
                let event =
                    json!({"event": "app_activated", "app": new.id.to_string(), "name": new.name, "model": new.model});
                output.say(&text, &event);
                Ok(Exit::Success)
            }
            Ok(Err(problem)) => Err(failure(self.saved.server(), &problem)),
            Err(_) => {
                let problem = anyhow!("the new app was not activated in half an hour; see: handoff apps list");
                Err(Failure { exit: Exit::Ended, problem })
            }
        }
    }

    /// An event says when to look; the list of apps says what is true.
    async fn hear(&self, events: &mut Events, output: Output) -> Result<AppEntry, ActivationError> {
        // Listened to before the first look, so that nothing falls between.
        events.connect().await?;
        let mut event = None;
        loop {
            let listed = match self.app.apps().await {
                Ok(listed) => listed,
                // The grant is delivered, and the new app may have to wait as well.
                Err(problem) => {
                    events.endure(problem).await?;
                    continue;
                }
            };
            if event == Some(AppEventKind::CopyWaiting)
                && let Some(copy) = listed.pending.first()
            {
                let (id, path) = (copy.id.to_string(), self.state.path().display());
                let seconds = copy.starts_in().as_secs();
                let text = format!(
                    "The copy starts in {seconds} s. If this was not you: handoff apps cancel {id} --state {path}"
                );
                output.say(&text, &json!({"event": "copy_waiting", "activation": id, "starts_in_s": seconds}));
            }
            if let Some(new) = listed.apps.into_iter().find(|app| !self.known.contains(&app.id)) {
                return Ok(new);
            }
            event = Some(events.next().await?.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::test_server::{Does, Server};

    /// Time in which an app that does not wait would have asked hundreds of times.
    const A_MOMENT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_server_that_asks_for_a_minute_is_not_asked_again_at_once() {
        let busy = Does::Answers(503, "retry-after: 60\r\n", String::new());
        let server = Server::that(vec![Does::answers(200, ""), busy]).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.json");
        let state = json!({"handoff_app": 1, "server": server.url(""), "name": "Phone", "model": "Pixel 9",
            "device_key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", "stage": {"active": {"app": Uuid::nil()}}});
        std::fs::write(&path, state.to_string()).unwrap();
        let state = StateFile::new(&path, None);
        let (saved, app) = state.active().unwrap();
        let copying = Copying { state, saved, app, known: HashSet::new() };
        let mut events = copying.app.events();
        let output = Output::new(true);
        tokio::select! {
            heard = copying.hear(&mut events, output) => panic!("it gave up: {heard:?}"),
            () = server.until_asked(3) => panic!("it does not wait"),
            () = tokio::time::sleep(A_MOMENT) => {}
        }
        assert_eq!(server.asked().len(), 2);
    }
}
