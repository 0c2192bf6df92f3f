//! Events for apps: left in the transaction of what happened, brought to the webhook and to open connections afterwards,
//! at least once, on any node.

use std::time::Duration;

use futures_util::future::join_all;
use metrics::counter;
use tracing::warn;

use super::{Caller, Service, ServiceError};
use crate::activation::ids::AppId;
use crate::activation::notify::{Event, EventKind, Notifier, Told};
use crate::activation::registry::{App, RegistryError, StoredEvent, Tx};
use crate::activation::sms::gateway::IdempotencyKey;
use crate::activation::streams::{Stream, TooManyStreams};
use crate::telemetry;

/// Events that one node tries at the same time.
const AT_ONCE: u32 = 16;

/// The pause after each attempt; after the last, always that one.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(7),
    Duration::from_mins(30),
];

/// A transaction that began so long ago may still become visible behind later ones.
const LATE: Duration = Duration::from_secs(15);

impl Service {
    /// Leaves an event for these apps, but for those that it is about: it is there if and only if the transaction is.
    pub(super) async fn leave(
        &self,
        tx: &mut Tx,
        kind: EventKind,
        apps: &[App],
        but: &[AppId],
    ) -> Result<(), RegistryError> {
        for app in apps.iter().filter(|app| !but.contains(&app.id)) {
            let for_webhook = self.parts.notifier.is_some() && app.push_token.is_some();
            let id = IdempotencyKey::from_random(self.random()).to_string();
            tx.insert_event((&id, app.id, kind.as_str()), for_webhook, self.now()).await?;
        }
        Ok(())
    }

    /// Says that there may be events: after a commit.
    pub(super) fn wake(&self) {
        self.fresh.notify_waiters();
    }

    /// Waits until there may be events on this node.
    pub async fn until_fresh(&self) {
        self.fresh.notified().await;
    }

    /// Tries to bring to the webhook what is due; returns how many attempts were made.
    ///
    /// # Errors
    /// [`RegistryError`]; what was under way then is tried again later.
    pub async fn deliver_due(&self) -> Result<usize, RegistryError> {
        let Some(notifier) = &self.parts.notifier else { return Ok(0) };
        let now = self.now();
        // Longer than an attempt takes: if this process dies, another one takes over.
        let until = now.checked_add(notifier.timeout().saturating_mul(4)).unwrap_or(now);
        let taken = self.parts.registry.take_due_events(AT_ONCE, now, until).await?;
        let count = taken.len();
        let attempts = taken.into_iter().map(|(event, token)| self.deliver(notifier, event, token));
        join_all(attempts).await.into_iter().collect::<Result<(), RegistryError>>()?;
        Ok(count)
    }

    async fn deliver(
        &self,
        notifier: &Notifier,
        event: StoredEvent,
        token: Option<zeroize::Zeroizing<String>>,
    ) -> Result<(), RegistryError> {
        let again = match (EventKind::from_name(&event.kind), token) {
            (Some(kind), Some(push_token)) => {
                let told = notifier.tell(&Event { id: event.id, kind, app: event.app, push_token }).await;
                (told == Told::Failed).then(|| {
                    let at = usize::try_from(event.attempts).unwrap_or(usize::MAX);
                    let pause = PAUSES.get(at).or(PAUSES.last()).copied().unwrap_or_default();
                    self.now().checked_add(pause).unwrap_or(self.now())
                })
            }
            // The app has no token any more.
            _ => None,
        };
        self.parts.registry.end_attempt(event.seq, again).await
    }

    /// Opens a stream of events for the app that asks, in place of one that it has; first comes what waits for it, without
    /// what it had seen when `last` came.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn stream(&self, caller: &Caller, last: Option<&str>) -> Result<Stream, ServiceError> {
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        // Attached first, so that nothing falls between what waits and what comes.
        let mut stream = self.streams.attach(me.id).map_err(|TooManyStreams| ServiceError::TooManyStreams)?;
        let waiting = tx.events_of(me.id, self.now()).await?;
        tx.commit().await?;
        let seen = last.and_then(|last| waiting.iter().find(|event| event.id == last));
        // Two transactions at once may become visible in another order than that of their events.
        let since = seen.and_then(|seen| seen.at.checked_sub(LATE));
        let is_seen = |event: &&StoredEvent| Some(event.id.as_str()) == last;
        let is_new = |event: &&StoredEvent| since.is_none_or(|since| event.at >= since);
        stream.begin(waiting.iter().filter(|event| !is_seen(event)).filter(is_new).cloned());
        Ok(stream)
    }

    /// Brings to open streams what is new, whichever node it happened on.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn feed_streams(&self) -> Result<(), RegistryError> {
        if self.streams.is_empty() {
            return Ok(());
        }
        let since = self.now().checked_sub(LATE).unwrap_or(std::time::SystemTime::UNIX_EPOCH);
        for event in self.parts.registry.events_since(since).await? {
            self.streams.offer(&event);
        }
        Ok(())
    }

    /// Ends all streams: their apps connect again, to another node.
    pub fn end_streams(&self) {
        self.streams.clear();
    }

    /// Forgets events whose time is over.
    pub(super) async fn sweep_events(&self) -> Result<(), RegistryError> {
        let lost = self.parts.registry.sweep_events(self.now()).await?;
        if lost > 0 {
            counter!(telemetry::NOTIFICATIONS, "outcome" => "expired").increment(lost);
            warn!(
                event = "notification.expired",
                lost, "apps were not notified: the webhook did not take it for a day"
            );
        }
        Ok(())
    }
}
