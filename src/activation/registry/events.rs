//! Events that wait for apps: written in the transaction of what happened, kept for a day, delivered by whoever comes
//! first. Not the delivery.

use std::time::{Duration, SystemTime};

use sqlx::Row as _;
use sqlx::any::AnyRow;
use zeroize::Zeroizing;

use super::{Registry, RegistryError, Tx};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::ids::AppId;

/// Events that wait for one app; the oldest goes when there are more.
pub const MOST_EVENTS: i64 = 100;

/// How long an event waits. What nobody fetched by then, the app sees in its list.
const LIFETIME: Duration = Duration::from_hours(24);

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number: events are stored in this order, and seen in about this order.
    pub seq: i64,
    /// The same for every attempt to deliver it.
    pub id: String,
    /// Which app is to hear it.
    pub app: AppId,
    /// What happened.
    pub kind: String,
    /// When.
    pub at: SystemTime,
    /// How often it was tried to deliver it to the webhook.
    pub attempts: u32,
}

macro_rules! columns {
    () => {
        "seq, event_id, app_id, kind, created, attempts"
    };
}

impl Tx {
    /// Leaves an event for an app. `for_webhook`: whether the webhook is to be told.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn insert_event(
        &mut self,
        (id, app, kind): (&str, AppId, &str),
        for_webhook: bool,
        now: SystemTime,
    ) -> Result<(), RegistryError> {
        let query = sqlx::query(
            "INSERT INTO events (event_id, app_id, kind, created, expires, attempts, next_attempt) \
             VALUES ($1, $2, $3, $4, $5, 0, $6)",
        );
        let expires = now.checked_add(LIFETIME).unwrap_or(now);
        let query = query.bind(id.to_owned()).bind(app.to_string()).bind(kind.to_owned());
        let query = query.bind(to_millis(now)).bind(to_millis(expires)).bind(for_webhook.then(|| to_millis(now)));
        query.execute(&mut *self.inner).await?;
        let too_many = sqlx::query(
            "DELETE FROM events WHERE app_id = $1 AND seq <= \
             (SELECT seq FROM events WHERE app_id = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
        );
        too_many.bind(app.to_string()).bind(MOST_EVENTS).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// An app's events that are not over, the oldest first.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn events_of(&mut self, app: AppId, now: SystemTime) -> Result<Vec<StoredEvent>, RegistryError> {
        let query =
            sqlx::query(concat!("SELECT ", columns!(), " FROM events WHERE app_id = $1 AND expires > $2 ORDER BY seq"));
        let rows = query.bind(app.to_string()).bind(to_millis(now)).fetch_all(&mut *self.inner).await?;
        rows.iter().map(event).collect()
    }
}

impl Registry {
    /// All apps' events since then, the oldest first.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn events_since(&self, since: SystemTime) -> Result<Vec<StoredEvent>, RegistryError> {
        let query = sqlx::query(concat!("SELECT ", columns!(), " FROM events WHERE created >= $1 ORDER BY seq"));
        let rows = query.bind(to_millis(since)).fetch_all(&self.pool).await?;
        rows.iter().map(event).collect()
    }

    /// Takes up to `most` events whose next attempt is due, for so long: until then no other node takes them, and
    /// afterwards, if nothing else was written down, any does. With each the app's push token, if it has one.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn take_due_events(
        &self,
        most: u32,
        now: SystemTime,
        until: SystemTime,
    ) -> Result<Vec<(StoredEvent, Option<Zeroizing<String>>)>, RegistryError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            ", next_attempt FROM events WHERE next_attempt <= $1 AND expires > $1 ORDER BY next_attempt LIMIT $2"
        ));
        // Reads first and without a lock: mostly there is nothing to do.
        let due = query.bind(to_millis(now)).bind(i64::from(most)).fetch_all(&self.pool).await?;
        let mut taken = Vec::with_capacity(due.len());
        for row in due {
            let (event, at) = (event(&row)?, row.try_get::<i64, _>("next_attempt")?);
            let mut tx = self.begin().await?;
            let take = sqlx::query(
                "UPDATE events SET next_attempt = $3, attempts = attempts + 1 WHERE seq = $1 AND next_attempt = $2",
            );
            let take = take.bind(event.seq).bind(at).bind(to_millis(until));
            let is_mine = take.execute(&mut *tx.inner).await?.rows_affected() == 1;
            let app = if is_mine { tx.app(event.app).await? } else { None };
            tx.commit().await?;
            if is_mine {
                taken.push((event, app.and_then(|app| app.push_token)));
            }
        }
        Ok(taken)
    }

    /// Writes down when an event is to be tried again; `None`: never, for the webhook is done with it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn end_attempt(&self, seq: i64, again: Option<SystemTime>) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("UPDATE events SET next_attempt = $2 WHERE seq = $1").bind(seq);
        query.bind(again.map(to_millis)).execute(&mut *tx.inner).await?;
        tx.commit().await
    }

    /// Deletes events whose time is over. Returns how many of them the webhook was never told.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn sweep_events(&self, now: SystemTime) -> Result<u64, RegistryError> {
        let mut tx = self.begin().await?;
        let lost = sqlx::query("DELETE FROM events WHERE expires <= $1 AND next_attempt IS NOT NULL");
        let lost = lost.bind(to_millis(now)).execute(&mut *tx.inner).await?.rows_affected();
        let old = sqlx::query("DELETE FROM events WHERE expires <= $1");
        old.bind(to_millis(now)).execute(&mut *tx.inner).await?;
        tx.commit().await?;
        Ok(lost)
    }
}

fn event(row: &AnyRow) -> Result<StoredEvent, RegistryError> {
    Ok(StoredEvent {
        seq: row.try_get("seq")?,
        id: row.try_get("event_id")?,
        app: super::parsed(row, "app_id")?,
        kind: row.try_get("kind")?,
        at: from_millis(row.try_get("created")?),
        attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
    })
}
