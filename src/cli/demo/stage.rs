//! Where the demo is told: who says what, in the order of the story and not in that of the network.

use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::narrate::Told;
use crate::cli::output::Output;
use crate::cli::picture;
use crate::client::Transfer;
use crate::client::activation::AppEntry;
use crate::client::activation::SavedApp;

/// What the audience sees.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    output: Output,
}

impl Stage {
    pub(super) fn new(output: Output) -> Self {
        Self { output }
    }

    /// A new part of the story.
    pub(super) fn chapter(self, title: &str) {
        self.output.say(&format!("\n{title}"), &json!({"event": "chapter", "title": title}));
    }

    /// Somebody does something.
    pub(super) fn remark(self, who: &str, text: &str) {
        self.output.say(&format!("{who:<10} {text}"), &json!({"event": "remark", "who": who, "text": text}));
    }

    /// The QR code that a phone shows.
    pub(super) fn picture(self, text: &str) -> Result<(), Failure> {
        if !self.output.is_json() {
            for line in picture::for_terminal(text).map_err(anyhow::Error::from)? {
                Output::raw(&line);
            }
        }
        Ok(())
    }

    /// An app is active.
    pub(super) fn activated(self, who: &str, app: &SavedApp) {
        let event = json!({"event": "activated", "who": who, "app": app.app().map(|app| app.to_string())});
        self.output.say(&format!("{who:<10} This app is now activated."), &event);
    }

    /// One of the user's apps.
    pub(super) fn app(self, app: &AppEntry) {
        let mut event = crate::cli::apps::event(app);
        if let Some(event) = event.as_object_mut() {
            event.insert("who".to_owned(), "old phone".into());
        }
        self.output.say(&format!("           {}", app.name), &event);
    }

    /// Tells what happens on one phone until something is found in it.
    pub(super) async fn follow<C, E, O, T>(
        self,
        who: &str,
        phone: &mut Transfer<C, E, O>,
        narrate: fn(&E) -> Told,
        found: impl Fn(E) -> Option<T>,
    ) -> Result<T, Failure>
    where
        C: Send + 'static,
        E: Send + 'static,
        O: Send + From<crate::client::EndReason> + 'static,
    {
        loop {
            let event = phone.next_event().await.ok_or_else(|| ended(who))?;
            self.tell(who, narrate(&event));
            if let Some(found) = found(event) {
                return Ok(found);
            }
        }
    }

    fn tell(self, who: &str, (text, mut event): Told) {
        if let Some(event) = event.as_object_mut() {
            event.insert("who".to_owned(), Value::from(who));
        }
        self.output.tell((text.map(|text| format!("{who:<10} {text}")), event));
    }
}

fn ended(who: &str) -> Failure {
    Failure { exit: Exit::Ended, problem: anyhow::anyhow!("the {who} has ended the handoff") }
}
