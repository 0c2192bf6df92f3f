//! Apps: active ones, and the names of deleted ones.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{RegistryError, Tx};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::ids::{AppId, DeviceKey, Thumbprint, UserKey};

/// Whether an app can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppState {
    /// It can.
    Active,
    /// The person deleted it; its key opens nothing any more.
    Deleted,
}

impl AppState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }
}

/// An app in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Whose it is.
    pub user: UserKey,
    /// The key that signs its requests.
    pub device: DeviceKey,
    /// Whether it can be used.
    pub state: AppState,
    /// What the person calls it.
    pub name: Zeroizing<String>,
    /// What it runs on.
    pub model: Zeroizing<String>,
    /// Where notifications go.
    pub push_token: Option<Zeroizing<String>>,
    /// When it became active.
    pub created: SystemTime,
    /// When it last did something.
    pub last_used: SystemTime,
    /// Fingerprint or face.
    pub biometrics: bool,
    /// The record of the personal PIN.
    pub pin_record: Zeroizing<Vec<u8>>,
    /// Tries and locks of the personal PIN, in `personal_pin`'s own form; empty before the first try.
    pub pin_state: Zeroizing<Vec<u8>>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Sealed {
    name: String,
    model: String,
    push_token: Option<String>,
}

const KIND: &str = "app";
const PIN_RECORD: &str = "app PIN record";
const PIN_STATE: &str = "app PIN state";
macro_rules! columns {
    () => {
        "app_id, user_key, public_key, state, created, last_used, biometrics, sealed, pin_record, pin_state"
    };
}

impl Tx {
    /// The app with this id, locked until the end of the transaction.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn lock_app(&mut self, id: AppId) -> Result<Option<App>, RegistryError> {
        let query =
            sqlx::query(concat!("UPDATE apps SET version = version + 1 WHERE app_id = $1 RETURNING ", columns!()));
        let row = query.bind(id.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.read_app(&row)).transpose()
    }

    /// The app with this id, not locked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn app(&mut self, id: AppId) -> Result<Option<App>, RegistryError> {
        let query = sqlx::query(concat!("SELECT ", columns!(), " FROM apps WHERE app_id = $1"));
        let row = query.bind(id.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.read_app(&row)).transpose()
    }

    /// The app with this key, not locked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn app_of_device(&mut self, device: Thumbprint) -> Result<Option<App>, RegistryError> {
        let query = sqlx::query(concat!("SELECT ", columns!(), " FROM apps WHERE thumbprint = $1"));
        let row = query.bind(device.to_string()).fetch_optional(&mut *self.inner).await?;
        row.map(|row| self.read_app(&row)).transpose()
    }

    /// A user's active apps, the oldest first. Exact only while the user is locked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn active_apps(&mut self, user: UserKey) -> Result<Vec<App>, RegistryError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM apps WHERE user_key = $1 AND state = 'active' ORDER BY created, app_id"
        ));
        let rows = query.bind(user.to_string()).fetch_all(&mut *self.inner).await?;
        rows.iter().map(|row| self.read_app(row)).collect()
    }

    /// Puts a new app into the registry.
    ///
    /// # Errors
    /// [`RegistryError`], also if its id or key is there already.
    pub async fn insert_app(&mut self, app: &App) -> Result<(), RegistryError> {
        let [sealed, record, state] = self.seal_app(app)?;
        let query = sqlx::query(
            "INSERT INTO apps (app_id, user_key, thumbprint, public_key, state, created, last_used, biometrics, \
             version, sealed, pin_record, pin_state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11)",
        );
        let query = query.bind(app.id.to_string()).bind(app.user.to_string());
        let query = query.bind(Thumbprint::of(&app.device).to_string()).bind(app.device.to_sec1());
        let query = query.bind(app.state.as_str()).bind(to_millis(app.created)).bind(to_millis(app.last_used));
        let query = query.bind(i64::from(app.biometrics)).bind(sealed).bind(record).bind(state);
        query.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Writes what may change of an app: state, name, push token, last use, biometrics, PIN tries.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn update_app(&mut self, app: &App) -> Result<(), RegistryError> {
        let [sealed, record, state] = self.seal_app(app)?;
        let query = sqlx::query(
            "UPDATE apps SET state = $2, last_used = $3, biometrics = $4, sealed = $5, pin_record = $6, pin_state = $7 \
             WHERE app_id = $1",
        );
        let query = query.bind(app.id.to_string()).bind(app.state.as_str()).bind(to_millis(app.last_used));
        let query = query.bind(i64::from(app.biometrics)).bind(sealed).bind(record).bind(state);
        query.execute(&mut *self.inner).await?;
        Ok(())
    }

    fn seal_app(&self, app: &App) -> Result<[Vec<u8>; 3], RegistryError> {
        let push_token = app.push_token.as_ref().map(|token| token.to_string());
        let sealed = Sealed { name: app.name.to_string(), model: app.model.to_string(), push_token };
        let row = app.id.as_bytes();
        let record = self.sealer.seal(PIN_RECORD, row, &app.pin_record)?;
        let state = self.sealer.seal(PIN_STATE, row, &app.pin_state)?;
        Ok([self.seal_json(KIND, row, &sealed)?, record, state])
    }

    fn read_app(&self, row: &AnyRow) -> Result<App, RegistryError> {
        let id: AppId = super::parsed(row, "app_id")?;
        let bytes = |column: &'static str| row.try_get::<Vec<u8>, _>(column);
        let millis = |column: &'static str| row.try_get::<i64, _>(column).map(from_millis);
        let sealed: Sealed = self.open_json(KIND, id.as_bytes(), &bytes("sealed")?)?;
        let state = match row.try_get::<String, _>("state")?.as_str() {
            "active" => AppState::Active,
            "deleted" => AppState::Deleted,
            _ => return Err(RegistryError::Corrupt("state")),
        };
        Ok(App {
            id,
            user: super::parsed(row, "user_key")?,
            device: DeviceKey::from_sec1(&bytes("public_key")?).map_err(|_| RegistryError::Corrupt("public_key"))?,
            state,
            name: Zeroizing::new(sealed.name.clone()),
            model: Zeroizing::new(sealed.model.clone()),
            push_token: sealed.push_token.clone().map(Zeroizing::new),
            created: millis("created")?,
            last_used: millis("last_used")?,
            biometrics: row.try_get::<i64, _>("biometrics")? != 0,
            pin_record: self.sealer.open(PIN_RECORD, id.as_bytes(), &bytes("pin_record")?)?,
            pin_state: self.sealer.open(PIN_STATE, id.as_bytes(), &bytes("pin_state")?)?,
        })
    }
}
