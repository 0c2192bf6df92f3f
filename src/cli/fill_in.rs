//! What a phone does when an SMS with a PIN arrives: it offers to fill it in. Here the SMS is in the development outbox of
//! a server on this computer.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::ask::ask;
use crate::client::activation::ServerUrl;

/// Between two looks: an SMS leaves after the answer.
const INTERVAL: Duration = Duration::from_millis(50);

/// Then there is nothing to fill in, and the person types.
const LOOKS: u32 = 100;

/// Digits of a temporary PIN.
const DIGITS: usize = 8;

/// The messages of a development outbox, if there is one.
pub(super) struct Inbox {
    url: Option<Url>,
    /// The last digits of this phone's number.
    number_ends: String,
    seen: HashSet<String>,
}

#[derive(Deserialize)]
struct Page {
    /// The newest first.
    messages: Vec<Message>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Message {
    id: String,
    to: String,
    text: String,
}

/// An SMS with a PIN in it.
pub(super) struct Sms {
    /// Eight digits.
    pub(super) pin: Zeroizing<String>,
    /// All of it.
    pub(super) text: Zeroizing<String>,
}

impl Sms {
    /// The PIN as people read it.
    pub(super) fn spaced(&self) -> String {
        let (first, last) = self.pin.split_at_checked(DIGITS / 2).unwrap_or((&self.pin, ""));
        format!("{first} {last}")
    }
}

impl Inbox {
    /// The SMS to the number that ends so. Only a server on this computer has an outbox for it.
    pub(super) fn new(server: &ServerUrl, number_ends: &str) -> Self {
        let url = server.is_loopback().then(|| Url::parse(&server.to_string()).ok()).flatten();
        Self { url, number_ends: number_ends.to_owned(), seen: HashSet::new() }
    }

    /// Takes note of what is there, so that only what comes later counts.
    pub(super) async fn look(&mut self) {
        match self.messages().await {
            Some(messages) => self.seen = messages.iter().map(|message| message.id.clone()).collect(),
            None => self.url = None,
        }
    }

    /// The first SMS that is new, as soon as it is there.
    pub(super) async fn wait(&self) -> Option<Sms> {
        let mut looks = tokio::time::interval(INTERVAL);
        for _ in 0..LOOKS {
            looks.tick().await;
            if let Some(sms) = self.newest().await? {
                return Some(sms);
            }
        }
        None
    }

    /// The newest SMS that was not there before; outer `None` if there is no outbox.
    pub(super) async fn newest(&self) -> Option<Option<Sms>> {
        let messages = self.messages().await?;
        let mut mine = messages.iter().filter(|message| !self.seen.contains(&message.id));
        Some(
            mine.find_map(|message| Some(Sms { pin: pin(&message.text)?, text: Zeroizing::new(message.text.clone()) })),
        )
    }

    async fn messages(&self) -> Option<Vec<Message>> {
        let answer = ask(self.url.as_ref()?, "/dev/outbox.json").await.ok().filter(|answer| answer.status == 200)?;
        let body = Zeroizing::new(answer.body);
        let mut page: Page = serde_json::from_str(&body).ok()?;
        page.messages.retain(|message| message.to.ends_with(&self.number_ends));
        Some(page.messages)
    }
}

/// The digits behind the last number sign: what phones fill in (WICG's origin-bound one-time codes).
fn pin(text: &str) -> Option<Zeroizing<String>> {
    let (_, code) = text.rsplit_once('#')?;
    let code = code.get(..DIGITS).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(Zeroizing::new(code.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_behind_the_last_number_sign() {
        let found = |text: &str| pin(text).map(|pin| pin.to_string());
        assert_eq!(found("<#> 1234 5678 is your PIN\n@localhost #12345678"), Some("12345678".to_owned()));
        assert_eq!(found("#1 is good\n@localhost #12345678 AbCdEfGhIjK"), Some("12345678".to_owned()));
        for text in ["", "12345678", "#1234567", "#1234567a", "#１２３４５６７８"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
