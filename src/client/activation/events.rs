//! What happens to a user's apps, as an active app hears of it: Server-Sent Events, read by a parser without I/O, and a
//! stream that connects again by itself.

use std::time::{Duration, SystemTime};

use reqwest::Response;
use serde::Deserialize;

use super::active::since_epoch;
use super::problem::{ActivationError, NoAnswer, RefusalKind};
use super::server::{Request, Server, no_answer};
use crate::client::backoff;
use crate::crypto::DeviceKey;

/// The server gives a sign of life every 15 s; after three missed ones the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest line; ours have some hundred bytes.
const MOST_LINE: usize = 16 * 1024;

/// Something that happened. At least once: the same one has the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppEvent {
    /// Names it.
    pub id: String,
    /// What it is.
    pub kind: AppEventKind,
    /// When it happened, on the server's clock.
    pub at: SystemTime,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppEventKind {
    /// Another app of the user is active now.
    AppActivated,
    /// Another app of the user was deleted.
    AppDeleted,
    /// A copy waits for its time, and can be cancelled.
    CopyWaiting,
    /// The personal PIN of another app was replaced.
    PinReplaced,
    /// Somebody tries PINs on another app.
    TooManyTries,
    /// This app was deleted: nothing more comes.
    ThisAppDeleted,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    r#type: AppEventKind,
    at_ms: u64,
}

/// Reads the text of Server-Sent Events, in whatever pieces it comes.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    data: String,
}

/// A line that never ends.
#[derive(Debug)]
struct TooLong;

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<AppEvent>, TooLong> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(String::from_utf8_lossy(&line).trim_end_matches('\r')));
            } else {
                self.line.push(*byte);
            }
            if self.line.len() > MOST_LINE || self.data.len() > MOST_LINE {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    /// Id and type stand in the data as well, so that its lines are all that is needed.
    fn end_of_line(&mut self, line: &str) -> Option<AppEvent> {
        if line.is_empty() {
            let data: Data = serde_json::from_str(&std::mem::take(&mut self.data)).ok()?;
            return Some(AppEvent { id: data.id, kind: data.r#type, at: since_epoch(data.at_ms) });
        }
        if let Some(data) = line.strip_prefix("data:") {
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        None
    }
}

/// The events of one app. While it is kept, the server has one connection open; an app has one stream, and a second one
/// ends the first.
#[derive(Debug)]
pub struct Events {
    server: Server,
    key: DeviceKey,
    last: Option<String>,
    open: Option<(Response, Parser)>,
    heard: std::collections::VecDeque<AppEvent>,
    failures: u32,
}

impl Events {
    pub(super) fn new(server: Server, key: DeviceKey, last: Option<String>) -> Self {
        Self { server, key, last, open: None, heard: std::collections::VecDeque::new(), failures: 0 }
    }

    /// The id of the last event that was taken: what an app keeps, to go on there.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Connects, if it is not connected, however often it takes. Then whatever happens is heard.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn connect(&mut self) -> Result<(), ActivationError> {
        while self.open.is_none() {
            let last: Vec<_> = self.last.as_deref().map(|id| ("Last-Event-ID", id)).into_iter().collect();
            match self.server.open(&self.key, &Request::get("/v1/apps/events"), &last).await {
                Ok(response) => self.open = Some((response, Parser::default())),
                Err(error) => self.endure(error).await?,
            }
        }
        Ok(())
    }

    /// The next event, however long it takes and however often the connection breaks. May be dropped at any time without
    /// losing an event.
    ///
    /// # Errors
    /// [`ActivationError::Refused`] if this app may not listen, above all when it was deleted.
    pub async fn next(&mut self) -> Result<AppEvent, ActivationError> {
        loop {
            if let Some(event) = self.heard.pop_front() {
                self.last = Some(event.id.clone());
                return Ok(event);
            }
            self.connect().await?;
            if let Err(error) = self.listen().await {
                self.open = None;
                self.endure(error).await?;
            }
        }
    }

    /// Waits before whatever failed is tried again, here or beside the stream: longer each time, and as long as the
    /// server asks.
    ///
    /// # Errors
    /// The same, if it does not pass.
    pub async fn endure(&mut self, error: ActivationError) -> Result<(), ActivationError> {
        let refusal = error.refusal();
        if !error.is_passing() && error.refused() != Some(RefusalKind::TooManyStreams) {
            return Err(error);
        }
        let asked_for = refusal.and_then(|refusal| refusal.retry_after).unwrap_or_default();
        let pause = backoff::delay(self.failures, &mut rand::rng()).max(asked_for);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn listen(&mut self) -> Result<(), ActivationError> {
        let Some((response, parser)) = &mut self.open else { return Ok(()) };
        let part = tokio::time::timeout(SILENCE, response.chunk()).await;
        let part =
            part.map_err(|_| ActivationError::NoAnswer(NoAnswer::Timeout))?.map_err(|error| no_answer(&error))?;
        // The server ends each stream after an hour.
        let part = part.ok_or(ActivationError::NoAnswer(NoAnswer::Broken))?;
        self.heard.extend(parser.push(&part).map_err(|TooLong| ActivationError::NotUnderstood)?);
        self.failures = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": open\n\nid: a\nevent: app_activated\ndata: {\"id\":\"a\",\"type\":\"app_activated\",\"at_ms\":5}\n\n\
        :\n\nid: b\r\nevent: news\r\ndata: {\"id\":\"b\",\r\ndata: \"type\":\"news\",\"at_ms\":6}\r\n\r\ndata: nonsense\n\n";

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        for size in [1, 2, 7, 1000] {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|piece| parser.push(piece).unwrap()).collect();
            let short: Vec<_> = events.iter().map(|event| (event.id.as_str(), event.kind)).collect();
            assert_eq!(short, [("a", AppEventKind::AppActivated), ("b", AppEventKind::Unknown)], "{size}");
            assert_eq!(events[0].at, since_epoch(5));
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'a'; MOST_LINE]).is_ok());
        assert!(parser.push(b"a").is_err());
        let mut parser = Parser::default();
        assert!((0..100).any(|_| parser.push(format!("data: {}\n", "a".repeat(1000)).as_bytes()).is_err()));
    }
}
