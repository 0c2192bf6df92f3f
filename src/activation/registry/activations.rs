//! Activations, with everything that was entered so far sealed.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{RegistryError, Tx};
use crate::activation::flow::{Flow, to_millis};
use crate::activation::ids::{ActivationId, AppId, DeviceKey, Thumbprint, UserKey};

/// One activation, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivationRow {
    /// Its id.
    pub id: ActivationId,
    /// Who is to have the app.
    pub user: UserKey,
    /// What the app will be called once it is active.
    pub app: AppId,
    /// The new app's key.
    pub device: DeviceKey,
    /// How far it is.
    pub flow: Flow,
    /// What the person calls the app.
    pub name: Zeroizing<String>,
    /// What it runs on.
    pub model: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    flow: Flow,
    app: AppWords,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct AppWords {
    name: String,
    model: String,
}

const KIND: &str = "activation";

impl Tx {
    /// Puts a new activation on file.
    ///
    /// # Errors
    /// [`RegistryError`], also if the device has one already.
    pub async fn insert_activation(&mut self, row: &ActivationRow, now: SystemTime) -> Result<(), RegistryError> {
        let query = sqlx::query(
            "INSERT INTO activations (activation_id, user_key, app_id, thumbprint, public_key, due, expires, version, \
             sealed) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8)",
        );
        let query = query.bind(row.id.to_string()).bind(row.user.to_string()).bind(row.app.to_string());
        let query = query.bind(Thumbprint::of(&row.device).to_string()).bind(row.device.to_sec1());
        let query = query.bind(row.flow.due(now).as_str()).bind(to_millis(row.flow.expires()));
        query.bind(self.seal_activation(row)?).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// The activation with this id, locked until the end of the transaction.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_activation(&mut self, id: ActivationId) -> Result<Option<ActivationRow>, RegistryError> {
        let query = sqlx::query(
            "UPDATE activations SET version = version + 1 WHERE activation_id = $1 \
             RETURNING activation_id, user_key, app_id, public_key, sealed",
        );
        let row = query.bind(id.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.activation(&row)).transpose()
    }

    /// The activation of this device, locked until the end of the transaction.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_activation_of_device(
        &mut self,
        device: Thumbprint,
    ) -> Result<Option<ActivationRow>, RegistryError> {
        let query = sqlx::query(
            "UPDATE activations SET version = version + 1 WHERE thumbprint = $1 \
             RETURNING activation_id, user_key, app_id, public_key, sealed",
        );
        let row = query.bind(device.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.activation(&row)).transpose()
    }

    /// A user's activations that are not over, the oldest first; not locked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn running_activations(
        &mut self,
        user: UserKey,
        now: SystemTime,
    ) -> Result<Vec<ActivationRow>, RegistryError> {
        let query = sqlx::query(
            "SELECT activation_id, user_key, app_id, public_key, sealed FROM activations \
             WHERE user_key = $1 AND expires > $2 AND due NOT IN ('active', 'ended') ORDER BY expires, activation_id",
        );
        let rows = query.bind(user.to_string()).bind(to_millis(now)).fetch_all(&mut *self.inner).await?;
        rows.iter().map(|row| self.activation(row)).collect()
    }

    /// Writes how far a locked activation is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn update_activation(&mut self, row: &ActivationRow, now: SystemTime) -> Result<(), RegistryError> {
        let query = sqlx::query("UPDATE activations SET due = $2, sealed = $3 WHERE activation_id = $1");
        let query = query.bind(row.id.to_string()).bind(row.flow.due(now).as_str());
        query.bind(self.seal_activation(row)?).execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Activations whose time is over without that being written down; not locked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn expired_activations(&mut self, now: SystemTime) -> Result<Vec<ActivationId>, RegistryError> {
        let query =
            sqlx::query("SELECT activation_id FROM activations WHERE expires <= $1 AND due NOT IN ('active', 'ended')");
        let rows = query.bind(to_millis(now)).fetch_all(&mut *self.inner).await?;
        rows.iter().map(|row| super::parsed(row, "activation_id")).collect()
    }

    /// Deletes activations whose time was over before `before`, and used tokens and proofs whose time is over, and sends
    /// that no rule counts any more. Returns how many activations.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn sweep(&mut self, before: SystemTime, now: SystemTime) -> Result<u64, RegistryError> {
        let old = sqlx::query("DELETE FROM activations WHERE expires < $1").bind(to_millis(before));
        let deleted = old.execute(&mut *self.inner).await?.rows_affected();
        let tokens = sqlx::query("DELETE FROM used_tokens WHERE expires < $1").bind(to_millis(now));
        tokens.execute(&mut *self.inner).await?;
        let sends = sqlx::query("DELETE FROM sends WHERE sent < $1").bind(to_millis(before));
        sends.execute(&mut *self.inner).await?;
        Ok(deleted)
    }

    fn seal_activation(&self, row: &ActivationRow) -> Result<Vec<u8>, RegistryError> {
        let sealed = Sealed {
            flow: row.flow.clone(),
            app: AppWords { name: row.name.to_string(), model: row.model.to_string() },
        };
        self.seal_json(KIND, row.id.as_bytes(), &sealed)
    }

    fn activation(&self, row: &AnyRow) -> Result<ActivationRow, RegistryError> {
        let id: ActivationId = super::parsed(row, "activation_id")?;
        let sealed: Sealed = self.open_json(KIND, id.as_bytes(), &row.try_get::<Vec<u8>, _>("sealed")?)?;
        let key = row.try_get::<Vec<u8>, _>("public_key")?;
        Ok(ActivationRow {
            id,
            user: super::parsed(row, "user_key")?,
            app: super::parsed(row, "app_id")?,
            device: DeviceKey::from_sec1(&key).map_err(|_| RegistryError::Corrupt("public_key"))?,
            flow: sealed.flow,
            name: Zeroizing::new(sealed.app.name.clone()),
            model: Zeroizing::new(sealed.app.model.clone()),
        })
    }
}
