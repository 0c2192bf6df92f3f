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
struct PinState {
    unproven: u8,
    last: Option<i64>,
    login: Option<String>,
}

impl PinState {
    fn of(app: &App) -> Result<Self, ServiceError> {
        if app.pin_state.is_empty() {
            return Ok(Self::default());
        }
        Ok(serde_json::from_slice(&app.pin_state).map_err(|_| RegistryError::Corrupt("PIN state"))?)
    }

    fn tries(&self) -> Tries {
        Tries { unproven: self.unproven, last: self.last.map(from_millis) }
    }

    fn put(tries: Tries, login: Option<String>, app: &mut App) -> Result<(), ServiceError> {
        let state = Self { unproven: tries.unproven, last: tries.last.map(to_millis), login };
        let bytes = serde_json::to_vec(&state).map_err(|_| RegistryError::Corrupt("PIN state"))?;
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
        let before = PinState::of(&app)?.tries();
        let tries = match before.begin(now) {
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
        let rng = &mut (self.parts.environment.rng)();
        let begun = self.parts.personal_pin.begin_login(id, Some(&record), ke1, now, rng)?;
        PinState::put(tries, Some(URL_SAFE_NO_PAD.encode(&begun.sealed)), &mut app)?;
        tx.update_app(&app).await?;
        note(&mut tx, caller, &app, What::UnlockTried, now).await?;
        if tries.is_locked_for_good() {
            note(&mut tx, caller, &app, What::AppLocked, now).await?;
        }
        let others = if tries.is_alarming() { tx.active_apps(app.user).await? } else { Vec::new() };
        tx.commit().await?;
        counter!(telemetry::PIN_LOGINS, "outcome" => "answered").increment(1);
        self.tell(EventKind::TooManyTries, &others, &[id]);
        Ok(begun.ke2.to_vec())
    }

    /// Takes KE3: the app may be opened. Says whether the PIN should be registered again, under the server's newer setup.
    ///
    /// # Errors
    /// [`ServiceError::PinNotProven`] if the PIN was wrong, or it took too long.
    pub async fn finish_unlock(&self, caller: &Caller, id: AppId, ke3: &[u8]) -> Result<bool, ServiceError> {
        let now = self.now();
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let state = PinState::of(&app)?;
        let tries = state.tries();
        let sealed = state.login.and_then(|login| URL_SAFE_NO_PAD.decode(login).ok()).unwrap_or_default();
        let end = self.parts.personal_pin.finish_login(id, &sealed, ke3, now);
        // A login serves once, whatever came of it.
        let left = if end.is_ok() { tries.proven() } else { tries };
        PinState::put(left, None, &mut app)?;
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
    async fn own_app(&self, caller: &Caller, id: AppId) -> Result<(Tx, App), ServiceError> {
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        if me.id == id { Ok((tx, me)) } else { Err(ServiceError::UnknownApp) }
    }
}

async fn note(tx: &mut Tx, caller: &Caller, app: &App, what: What, now: SystemTime) -> Result<(), ServiceError> {
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
