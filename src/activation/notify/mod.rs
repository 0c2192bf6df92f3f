//! Tells a person's other apps what happened, through the webhook of whatever pushes to phones (FCM, APNs).
//!
//! One request for each event and app, signed as [`super::signature`] describes:
//!
//! ```text
//! POST …   webhook-id: 9f0c…   webhook-timestamp: 1795485600   webhook-signature: v1,…
//! {"type":"app_activated","app":"7b0e2f6c-…","push_token":"…"}
//! ```
//!
//! `app` is the app to be told. There is nothing personal in it: no user ID, no name, no number, no device; the app asks
//! for the rest itself, over its own connection. Answer 2xx within five seconds; 4xx but 408 and 429 ends the attempts;
//! everything else is tried again, for a day. The same event may come twice, with the same `webhook-id`.
//!
//! One attempt only. Events wait in the registry, written in the transaction of what happened; when they are tried, and
//! again, is the service's. Apps hear the same events over an open connection, and find what happened in their list.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime};

use metrics::counter;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::time::timeout;
use tracing::{info, warn};
use url::Url;
use zeroize::Zeroizing;

use super::https::{self, BadAddress};
use super::ids::AppId;
use super::signature::{SigningKey, seconds};
use crate::telemetry;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Another app of the same person became active.
    AppActivated,
    /// Another app of the same person was deleted.
    AppDeleted,
    /// A copy was asked for and waits; it can be cancelled.
    CopyWaiting,
    /// The personal PIN of another app of the same person was replaced.
    PinReplaced,
    /// This app was deleted, by another one. Only for its open connection.
    ThisAppDeleted,
    /// The PIN of another app of the same person was wrong too often.
    TooManyTries,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::AppActivated,
        Self::AppDeleted,
        Self::CopyWaiting,
        Self::PinReplaced,
        Self::ThisAppDeleted,
        Self::TooManyTries,
    ];

    /// The name in JSON, and in the registry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppActivated => "app_activated",
            Self::AppDeleted => "app_deleted",
            Self::CopyWaiting => "copy_waiting",
            Self::PinReplaced => "pin_replaced",
            Self::ThisAppDeleted => "this_app_deleted",
            Self::TooManyTries => "too_many_tries",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An event for one app.
#[derive(Clone)]
pub struct Event {
    /// The same for every attempt: `webhook-id`.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// The app to be told.
    pub app: AppId,
    /// What the push service knows that app by.
    pub push_token: Zeroizing<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    app: AppId,
    push_token: &'a str,
}

/// Settings of the webhook.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// Where events are posted: HTTPS, or loopback.
    pub address: String,
    /// What they are signed with.
    pub key: SigningKey,
    /// When an attempt that has no answer is given up.
    pub timeout: Duration,
}

impl NotifySettings {
    /// With the usual times and bounds.
    #[must_use]
    pub fn new(address: String, key: SigningKey) -> Self {
        Self { address, key, timeout: Duration::from_secs(5) }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The push service has it.
    Delivered,
    /// The push service does not want it.
    Refused,
    /// Another attempt may succeed.
    Failed,
}

impl Told {
    /// For metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Sends events to the webhook.
pub struct Notifier {
    client: reqwest::Client,
    address: Url,
    settings: NotifySettings,
    clock: fn() -> SystemTime,
}

impl Notifier {
    /// A notifier over the client that [`https::client`] makes.
    ///
    /// # Errors
    /// [`BadAddress`] if the address is not safe.
    pub fn new(
        settings: NotifySettings,
        client: reqwest::Client,
        clock: fn() -> SystemTime,
    ) -> Result<Self, BadAddress> {
        let address = https::secure(&settings.address)?;
        Ok(Self { client, address, settings, clock })
    }

    /// The longest time that an attempt takes.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Tries once to tell an app.
    pub async fn tell(&self, event: &Event) -> Told {
        let told = self.attempt(event).await.unwrap_or(Told::Failed);
        counter!(telemetry::NOTIFICATIONS, "outcome" => told.label()).increment(1);
        match told {
            Told::Delivered => info!(event = "notification.delivered", kind = ?event.kind, "an app was notified"),
            Told::Refused => {
                warn!(event = "notification.refused", kind = ?event.kind, "the push service refused a notification");
            }
            Told::Failed => {
                warn!(event = "notification.failed", kind = ?event.kind, "an app was not notified; it is tried again");
            }
        }
        told
    }

    /// `None` without an answer.
    async fn attempt(&self, event: &Event) -> Option<Told> {
        let body = Body { kind: event.kind, app: event.app, push_token: &event.push_token };
        let body = serde_json::to_vec(&body).ok()?;
        let now = (self.clock)();
        let request = self
            .client
            .post(self.address.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-timestamp", seconds(now).to_string())
            .header("webhook-signature", self.settings.key.sign(&event.id, now, &body))
            .header("webhook-id", &event.id)
            .body(body);
        let answer = timeout(self.settings.timeout, request.send()).await.ok()?.ok()?;
        match answer.status() {
            status if status.is_success() => Some(Told::Delivered),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => None,
            status if status.is_client_error() => Some(Told::Refused),
            _ => None,
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("host", &self.address.host_str()).finish_non_exhaustive()
    }
}
