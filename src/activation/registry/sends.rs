//! Which SMS were asked for: by number and by address, both as keyed hashes.

use std::time::{Duration, SystemTime};

use sqlx::Row as _;

use super::{RegistryError, Tag, Tx};
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

impl Tx {
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
    pub async fn insert_send(&mut self, number: Tag, address: Tag, now: SystemTime) -> Result<(), RegistryError> {
        let query = sqlx::query("INSERT INTO sends (sent, number_tag, address_tag) VALUES ($1, $2, $3)");
        let query = query.bind(to_millis(now)).bind(number.to_vec()).bind(address.to_vec());
        query.execute(&mut *self.inner).await?;
        Ok(())
    }
}

fn earlier(row: &sqlx::any::AnyRow) -> Result<Earlier, RegistryError> {
    let count = u32::try_from(row.try_get::<i64, _>("n")?).unwrap_or(u32::MAX);
    Ok(Earlier { count, oldest: row.try_get::<Option<i64>, _>("oldest")?.map(from_millis) })
}
