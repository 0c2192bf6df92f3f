//! Opening an app with its personal PIN (OPAQUE): two steps, and between them a state that any node can take up.
//!
//! A try is counted and committed before KE2 goes out, because each KE2 lets the app test one guess by itself. A valid KE3
//! gives all tries back. A lock is this app's; the user's other apps do not notice.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metrics::counter;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::renew::Reset;
use super::{Caller, Service, ServiceError};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::ids::AppId;
use crate::activation::notify::EventKind;
use crate::activation::personal_pin::lock::{Locked, Tries};
use crate::activation::personal_pin::{PinError, PinRecord};
use crate::activation::registry::{Actor, App, RegistryError, Subject, Tx, What};
use crate::telemetry;

/// What is kept of an app's tries, and of a login between its steps.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct PinState {
    unproven: u8,
    last: Option<i64>,
    pub(super) login: Option<String>,
    /// When the PIN was last proved, or a temporary one in its place; until the next try.
    #[serde(default)]
    pub(super) unlocked: Option<i64>,
    /// A temporary PIN that may take the place of the personal one.
    #[serde(default)]
    pub(super) reset: Option<Reset>,
}

impl PinState {
    pub(super) fn of(app: &App) -> Result<Self, ServiceError> {
        if app.pin_state.is_empty() {
            return Ok(Self::default());
        }
        Ok(serde_json::from_slice(&app.pin_state).map_err(|_| RegistryError::Corrupt("PIN state"))?)
    }

    pub(super) fn tries(&self) -> Tries {
        Tries { unproven: self.unproven, last: self.last.map(from_millis) }
    }

    pub(super) fn set_tries(&mut self, tries: Tries) {
        (self.unproven, self.last) = (tries.unproven, tries.last.map(to_millis));
    }

    pub(super) fn put(&self, app: &mut App) -> Result<(), ServiceError> {
        let bytes = serde_json::to_vec(self).map_err(|_| RegistryError::Corrupt("PIN state"))?;
        app.pin_state = Zeroizing::new(bytes);
        Ok(())
    }
}

impl Service {
    /// Answers KE1 with KE2, and counts a try.
    ///
    /// # Errors
    /// [`ServiceError::Locked`] when no try is allowed now.
    pub async fn begin_unlock(&self, caller: &Caller, id: AppId, ke1: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let now = self.now();
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let mut state = PinState::of(&app)?;
        let tries = match state.tries().begin(now) {
            Ok(tries) => tries,
            Err(locked) => {
                let outcome = if locked == Locked::ForGood { "locked" } else { "waiting" };
                counter!(telemetry::PIN_LOGINS, "outcome" => outcome).increment(1);
                // The proof is used up; nothing else has happened.
                tx.commit().await?;
                return Err(ServiceError::Locked(locked));
            }
        };
        let record = PinRecord::from_bytes(&app.pin_record).map_err(|_| RegistryError::Corrupt("PIN record"))?;
        let begun = {
            let rng = &mut (self.parts.environment.rng)();
            self.parts.personal_pin.begin_login(id, Some(&record), ke1, now, rng)?
        };
        state.set_tries(tries);
        (state.login, state.unlocked) = (Some(URL_SAFE_NO_PAD.encode(&begun.sealed)), None);
        state.put(&mut app)?;
        tx.update_app(&app).await?;
        note(&mut tx, caller, &app, What::UnlockTried, now).await?;
        if tries.is_locked_for_good() {
            note(&mut tx, caller, &app, What::AppLocked, now).await?;
        }
        if tries.is_alarming() {
            let others = tx.active_apps(app.user).await?;
            self.leave(&mut tx, EventKind::TooManyTries, &others, &[id]).await?;
        }
        tx.commit().await?;
        self.wake();
        counter!(telemetry::PIN_LOGINS, "outcome" => "answered").increment(1);
        Ok(begun.ke2.to_vec())
    }

    /// Takes KE3: the app may be opened. Says whether the PIN should be registered again, under the server's newer setup.
    ///
    /// # Errors
    /// [`ServiceError::PinNotProven`] if the PIN was wrong, or it took too long.
    pub async fn finish_unlock(&self, caller: &Caller, id: AppId, ke3: &[u8]) -> Result<bool, ServiceError> {
        let now = self.now();
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let mut state = PinState::of(&app)?;
        let sealed = state.login.take().and_then(|login| URL_SAFE_NO_PAD.decode(login).ok()).unwrap_or_default();
        let end = self.parts.personal_pin.finish_login(id, &sealed, ke3, now);
        // A login serves once, whatever came of it.
        if end.is_ok() {
            state.set_tries(state.tries().proven());
            state.unlocked = Some(to_millis(now));
        }
        state.put(&mut app)?;
        tx.update_app(&app).await?;
        if end.is_ok() {
            note(&mut tx, caller, &app, What::AppUnlocked, now).await?;
        }
        tx.commit().await?;
        let outcome = if end.is_ok() { "right" } else { "wrong" };
        counter!(telemetry::PIN_LOGINS, "outcome" => outcome).increment(1);
        Ok(end?.must_renew)
    }

    /// The app that asks, which must be the one in the path, locked.
    pub(super) async fn own_app(&self, caller: &Caller, id: AppId) -> Result<(Tx, App), ServiceError> {
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        if me.id == id { Ok((tx, me)) } else { Err(ServiceError::UnknownApp) }
    }
}

pub(super) async fn note(
    tx: &mut Tx,
    caller: &Caller,
    app: &App,
    what: What,
    now: SystemTime,
) -> Result<(), ServiceError> {
    Ok(tx.note(what, (Actor::App(app.id), caller.address), (app.user, Subject::App(app.id)), now).await?)
}

impl From<PinError> for ServiceError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Malformed => Self::BadPinMessage,
            PinError::SetupGone => Self::PinSetupGone,
            PinError::NotProven => Self::PinNotProven,
        }
    }
}
