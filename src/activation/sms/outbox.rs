//! The development outbox: a gateway that sends nothing, and shows what it would have sent.
//!
//! Never for people: whoever can read the outbox can read every temporary PIN. In memory and bounded; the oldest
//! message goes when there are too many, and all go with the process.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::gateway::{Accepted, Attempt, SmsGateway, SmsMessage};

/// Enough for a load test of a quarter of an hour at the default limits.
const DEFAULT_MOST: NonZeroUsize = NonZeroUsize::new(5000).unwrap();

/// What would have been sent.
#[derive(Clone)]
pub struct Kept {
    /// The message.
    pub message: SmsMessage,
    kept_at: SystemTime,
}

/// What `/dev/outbox.json` answers.
#[derive(Serialize)]
pub struct Page {
    /// The newest first.
    messages: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    /// Names the message.
    id: String,
    /// E.164.
    to: String,
    text: String,
    /// Milliseconds since 1970.
    at: u64,
}

/// A gateway that keeps the last messages.
pub struct Outbox {
    most: NonZeroUsize,
    clock: fn() -> SystemTime,
    kept: Mutex<VecDeque<Kept>>,
}

impl Outbox {
    /// Empty; messages are dated by this clock.
    #[must_use]
    pub fn new(clock: fn() -> SystemTime) -> Self {
        Self { most: DEFAULT_MOST, clock, kept: Mutex::default() }
    }

    /// All that is kept, the newest first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// All that is kept, for a program: `{"messages": [{"id": "…", "to": "+4512345678", "text": "…", "at": 1795485600000}]}`,
    /// the newest first.
    #[must_use]
    pub fn listing(&self) -> Page {
        let shown = |kept: &Kept| Shown {
            id: kept.message.key.to_string(),
            to: kept.message.to.expose().to_owned(),
            text: kept.message.text.expose().to_owned(),
            at: u64::try_from(kept.kept_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis())
                .unwrap_or_default(),
        };
        Page { messages: self.newest_first().iter().map(shown).collect() }
    }

    /// A page for a developer's browser: complete HTML without scripts, renewed every two seconds.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"2\">\n\
             <title>Outbox</title>\n<h1>Outbox</h1>\n<p>These messages were not sent. This page is for development \
             only.</p>\n",
        );
        let (kept, now) = (self.newest_first(), (self.clock)());
        let age = |kept_at: &SystemTime| now.duration_since(*kept_at).unwrap_or_default();
        if kept.is_empty() {
            page.push_str("<p>No message yet.</p>\n");
        }
        for Kept { message, kept_at } in &kept {
            let (to, age) = (escaped(message.to.expose()), age(kept_at).as_secs());
            let text = escaped(message.text.expose());
            // Writing to a string cannot fail.
            writeln!(page, "<section><h2>{to}, {age} s ago</h2>\n<pre>{text}</pre></section>").ok();
        }
        page.push_str("</html>\n");
        page
    }
}

impl SmsGateway for Outbox {
    fn send<'a>(&'a self, message: &'a SmsMessage) -> Attempt<'a> {
        let message_id = message.key.to_string();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // As a real gateway: the same message again is not sent again.
        if !kept.iter().any(|known| known.message.key == message.key) {
            if kept.len() >= self.most.get() {
                kept.pop_front();
            }
            kept.push_back(Kept { message: message.clone(), kept_at: (self.clock)() });
        }
        drop(kept);
        Box::pin(std::future::ready(Ok(Accepted { message_id })))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("message", &self.message).finish_non_exhaustive()
    }
}

/// Holds PINs.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("messages", &self.messages.len()).finish()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("most", &self.most).finish_non_exhaustive()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::activation::sms::tests::message;

    fn outbox() -> Outbox {
        Outbox::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1000))
    }

    async fn send(outbox: &Outbox, number: u8) {
        let message = message(number);
        let accepted = outbox.send(&message).await.unwrap();
        assert_eq!(accepted.message_id, message.key.to_string());
    }

    #[tokio::test]
    async fn the_newest_message_is_first_and_the_oldest_goes_when_it_is_full() {
        let outbox = Outbox { most: NonZeroUsize::new(2).unwrap(), ..outbox() };
        for number in 1..=3 {
            send(&outbox, number).await;
        }
        let keys: Vec<_> = outbox.newest_first().iter().map(|kept| kept.message.key).collect();
        assert_eq!(keys, [3, 2].map(|number| message(number).key));
    }

    #[tokio::test]
    async fn the_same_message_again_is_kept_once() {
        let outbox = outbox();
        send(&outbox, 1).await;
        send(&outbox, 1).await;
        assert_eq!(outbox.newest_first().len(), 1);
    }

    #[tokio::test]
    async fn the_page_shows_number_and_text_and_escapes_them() {
        let outbox = outbox();
        assert!(outbox.page().contains("No message yet"));
        send(&outbox, 1).await;
        let page = outbox.page();
        assert!(page.contains("+4512345678") && page.contains("1234 5678 is your code"), "{page}");
        assert!(page.contains("&lt;#&gt; ") && !page.contains("<#>") && !page.contains("<script"), "{page}");
    }

    #[tokio::test]
    async fn a_program_reads_number_text_and_time_the_newest_first() {
        let outbox = outbox();
        send(&outbox, 1).await;
        send(&outbox, 2).await;
        let listing = outbox.listing();
        assert_eq!(format!("{listing:?}"), "Page { messages: 2 }");
        let listing = serde_json::to_value(listing).unwrap();
        let message = message(1);
        let expected = serde_json::json!({"id": message.key.to_string(), "to": message.to.expose(),
                                         "text": message.text.expose(), "at": 1_000_000});
        assert_eq!(listing["messages"][1], expected);
    }

    #[tokio::test]
    async fn no_message_shows_in_debug_output() {
        let outbox = outbox();
        send(&outbox, 1).await;
        let shown = format!("{outbox:?} {:?}", outbox.newest_first());
        assert!(!shown.contains("1234"), "{shown}");
    }
}
