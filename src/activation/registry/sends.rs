//! Which SMS were asked for: by number and by address, both as keyed hashes.

use std::time::{Duration, SystemTime};

use sqlx::Row as _;

use super::{Kind, Registry, RegistryError, Tag, Tx};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::temporary_pin::send_rules::{Earlier, SendRules};

/// What was sent within the windows of the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// To the number.
    pub to_number: Earlier,
    /// At the request of the address.
    pub from_address: Earlier,
    /// In all.
    pub in_all: Earlier,
}

/// Names one send within the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendId(i64);

/// A send, as the administration sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// When it was asked for.
    pub at: SystemTime,
    /// `under_way`, `accepted` by a gateway, `delivered`, `failed`, or `unknown`: the process ended before it was known.
    pub status: String,
}

/// Any number that nobody else takes a PostgreSQL lock with in this database.
const SENDS_LOCK: i64 = 0x6861_6e64_6f66_6601;

impl Registry {
    /// Writes down what became of a send: `message` stands for the gateway's name of it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn end_send(&self, send: SendId, status: &str, message: Option<Tag>) -> Result<(), RegistryError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(
            "UPDATE sends SET status = $2, message_tag = $3 WHERE send_id = $1 AND status IN ('under_way', 'unknown')",
        );
        let query = query.bind(send.0).bind(status.to_owned()).bind(message.map(|tag| tag.to_vec()));
        query.execute(&mut *tx.inner).await?;
        tx.commit().await
    }

    /// Writes down what a gateway reports of a message. `delivered` and `failed` are the last word. Whether there is such
    /// a message.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn report_send(&self, message: Tag, status: &str) -> Result<bool, RegistryError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(
            "UPDATE sends SET status = CASE WHEN status IN ('delivered', 'failed') THEN status ELSE $2 END \
             WHERE message_tag = $1",
        );
        let query = query.bind(message.to_vec()).bind(status.to_owned());
        let found = query.execute(&mut *tx.inner).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(found)
    }
}

impl Tx {
    /// Sends of before `before` that are still under way are nobody's any more: the process that had them is gone, and
    /// nobody knows whether a gateway took them. Returns how many.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn give_up_sends(&mut self, before: SystemTime) -> Result<u64, RegistryError> {
        // With a message's tag, a gateway reported that it is under way.
        let query = sqlx::query(
            "UPDATE sends SET status = 'unknown' WHERE status = 'under_way' AND message_tag IS NULL AND sent < $1",
        );
        Ok(query.bind(to_millis(before)).execute(&mut *self.inner).await?.rows_affected())
    }

    /// Until the end of the transaction nobody else counts or notes a send: otherwise requests at the same moment would
    /// all find room for one more. Taken after every row that the transaction locks.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_sends(&mut self) -> Result<(), RegistryError> {
        match self.kind {
            // Its transactions are one after the other anyway.
            Kind::Sqlite => {}
            Kind::Postgres => {
                let lock = sqlx::query("SELECT 1 AS locked FROM pg_advisory_xact_lock($1)").bind(SENDS_LOCK);
                lock.execute(&mut *self.inner).await?;
            }
        }
        Ok(())
    }

    /// The last sends to a number, the newest first.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn sends_to(&mut self, number: Tag) -> Result<Vec<Send>, RegistryError> {
        let query = sqlx::query(
            "SELECT sent, status FROM sends WHERE number_tag = $1 ORDER BY sent DESC, send_id DESC LIMIT 20",
        );
        let rows = query.bind(number.to_vec()).fetch_all(&mut *self.inner).await?;
        rows.iter()
            .map(|row| Ok(Send { at: from_millis(row.try_get("sent")?), status: row.try_get("status")? }))
            .collect()
    }

    /// Counts earlier sends.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn count_sends(
        &mut self,
        number: Tag,
        address: Tag,
        rules: &SendRules,
        now: SystemTime,
    ) -> Result<SendCounts, RegistryError> {
        let since = |window: Duration| to_millis(now.checked_sub(window).unwrap_or(SystemTime::UNIX_EPOCH));
        let to_number =
            sqlx::query("SELECT COUNT(*) AS n, MIN(sent) AS oldest FROM sends WHERE number_tag = $1 AND sent > $2")
                .bind(number.to_vec())
                .bind(since(rules.per_number.window));
        let to_number = earlier(&to_number.fetch_one(&mut *self.inner).await?)?;
        let from_address =
            sqlx::query("SELECT COUNT(*) AS n, MIN(sent) AS oldest FROM sends WHERE address_tag = $1 AND sent > $2")
                .bind(address.to_vec())
                .bind(since(rules.per_address.window));
        let from_address = earlier(&from_address.fetch_one(&mut *self.inner).await?)?;
        let in_all = sqlx::query("SELECT COUNT(*) AS n, MIN(sent) AS oldest FROM sends WHERE sent > $1")
            .bind(since(rules.in_all.window));
        let in_all = earlier(&in_all.fetch_one(&mut *self.inner).await?)?;
        Ok(SendCounts { to_number, from_address, in_all })
    }

    /// Takes note of a send.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn insert_send(&mut self, number: Tag, address: Tag, now: SystemTime) -> Result<SendId, RegistryError> {
        let query =
            sqlx::query("INSERT INTO sends (sent, number_tag, address_tag) VALUES ($1, $2, $3) RETURNING send_id");
        let query = query.bind(to_millis(now)).bind(number.to_vec()).bind(address.to_vec());
        Ok(SendId(query.fetch_one(&mut *self.inner).await?.try_get("send_id")?))
    }
}

fn earlier(row: &sqlx::any::AnyRow) -> Result<Earlier, RegistryError> {
    let count = u32::try_from(row.try_get::<i64, _>("n")?).unwrap_or(u32::MAX);
    Ok(Earlier { count, oldest: row.try_get::<Option<i64>, _>("oldest")?.map(from_millis) })
}
