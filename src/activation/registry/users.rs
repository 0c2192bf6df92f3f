//! Users on file.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{RegistryError, Tx};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::ids::{PhoneNumber, UserId, UserKey};

/// A user on file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What names the user inside.
    pub key: UserKey,
    /// What the person types.
    pub id: UserId,
    /// The holder's name, shown masked.
    pub name: Zeroizing<String>,
    /// Where the temporary PIN goes.
    pub phone: PhoneNumber,
    /// When the number was last changed, if it ever was.
    pub number_changed: Option<SystemTime>,
}

/// What an import did with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// There was none of this user ID.
    Created(UserKey),
    /// The name is different now.
    Changed(UserKey),
    /// The number is different now.
    NumberChanged(UserKey),
    /// It was on file like this.
    Same(UserKey),
}

impl Imported {
    /// The user's key.
    #[must_use]
    pub fn key(self) -> UserKey {
        match self {
            Self::Created(key) | Self::Changed(key) | Self::NumberChanged(key) | Self::Same(key) => key,
        }
    }
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Sealed {
    id: String,
    name: String,
    phone: String,
}

const KIND: &str = "user";

impl Tx {
    /// The user of this ID, locked until the end of the transaction.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_user_by_id(&mut self, id: &UserId) -> Result<Option<User>, RegistryError> {
        let tag = self.sealer.user_tag(id).to_vec();
        let query = sqlx::query(
            "UPDATE users SET version = version + 1 WHERE user_tag = $1 RETURNING user_key, number_changed, sealed",
        );
        let row = query.bind(tag).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.user(&row)).transpose()
    }

    /// The user of this key, locked until the end of the transaction.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_user(&mut self, key: UserKey) -> Result<Option<User>, RegistryError> {
        let query = sqlx::query(
            "UPDATE users SET version = version + 1 WHERE user_key = $1 RETURNING user_key, number_changed, sealed",
        );
        let row = query.bind(key.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.user(&row)).transpose()
    }

    /// Puts a user on file, or brings what is on file up to date; `fresh` is the key of one that was not there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put_user(
        &mut self,
        fresh: UserKey,
        (id, name, phone): (&UserId, &str, &PhoneNumber),
        now: SystemTime,
    ) -> Result<Imported, RegistryError> {
        let on_file = self.lock_user_by_id(id).await?;
        let imported = match &on_file {
            Some(user) if user.phone == *phone && user.name.as_str() == name => return Ok(Imported::Same(user.key)),
            Some(user) if user.phone != *phone => Imported::NumberChanged(user.key),
            Some(user) => Imported::Changed(user.key),
            None => Imported::Created(fresh),
        };
        let number_changed = match &on_file {
            Some(user) if user.phone != *phone => Some(now),
            Some(user) => user.number_changed,
            None => None,
        };
        let key = imported.key();
        let sealed = Sealed { id: id.expose().to_owned(), name: name.to_owned(), phone: phone.expose().to_owned() };
        let sealed = self.seal_json(KIND, key.as_bytes(), &sealed)?;
        let query = sqlx::query(
            "INSERT INTO users (user_key, user_tag, number_tag, number_changed, created, version, sealed) \
             VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (user_key) DO UPDATE SET number_tag = excluded.number_tag, \
             number_changed = excluded.number_changed, sealed = excluded.sealed",
        );
        let query = query.bind(key.to_string()).bind(self.sealer.user_tag(id).to_vec());
        let query = query.bind(self.sealer.number_tag(phone).to_vec()).bind(number_changed.map(to_millis));
        query.bind(to_millis(now)).bind(sealed).execute(&mut *self.inner).await?;
        Ok(imported)
    }

    /// Erases a user, with all apps and activations. The audit trail keeps what happened, under a key that names nobody
    /// any more.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn erase_user(&mut self, user: &User) -> Result<(), RegistryError> {
        let tag = self.sealer.number_tag(&user.phone).to_vec();
        sqlx::query("DELETE FROM sends WHERE number_tag = $1").bind(tag).execute(&mut *self.inner).await?;
        let key = user.key.to_string();
        sqlx::query("DELETE FROM users WHERE user_key = $1").bind(key).execute(&mut *self.inner).await?;
        Ok(())
    }

    fn user(&self, row: &AnyRow) -> Result<User, RegistryError> {
        let key: UserKey = super::parsed(row, "user_key")?;
        let sealed: Sealed = self.open_json(KIND, key.as_bytes(), &row.try_get::<Vec<u8>, _>("sealed")?)?;
        Ok(User {
            key,
            id: sealed.id.parse().map_err(|_| RegistryError::Corrupt("user ID"))?,
            name: Zeroizing::new(sealed.name.clone()),
            phone: sealed.phone.parse().map_err(|_| RegistryError::Corrupt("phone number"))?,
            number_changed: row.try_get::<Option<i64>, _>("number_changed")?.map(from_millis),
        })
    }

    pub(super) fn seal_json<T: Serialize>(
        &self,
        kind: &'static str,
        row: &[u8; 16],
        value: &T,
    ) -> Result<Vec<u8>, RegistryError> {
        let json = Zeroizing::new(serde_json::to_vec(value).map_err(|_| RegistryError::Corrupt(kind))?);
        Ok(self.sealer.seal(kind, row, &json)?)
    }

    pub(super) fn open_json<T: for<'de> Deserialize<'de>>(
        &self,
        kind: &'static str,
        row: &[u8; 16],
        sealed: &[u8],
    ) -> Result<T, RegistryError> {
        let json = self.sealer.open(kind, row, sealed)?;
        serde_json::from_slice(&json).map_err(|_| RegistryError::Corrupt(kind))
    }
}
