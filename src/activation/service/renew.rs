//! Another personal PIN for an active app: after it was opened with the one that it has, or, when that is forgotten, after
//! a temporary PIN that comes by SMS like the first.
//!
//! Either opens a window of five minutes. A temporary PIN does not open an app that is locked for good, and the user's
//! other apps hear of every PIN that was replaced.

use std::time::{Duration, SystemTime};

use metrics::counter;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::unlock::{PinState, note};
use super::{Caller, PinRequest, Service, ServiceError};
use crate::activation::flow::{Refused, from_millis, stored, to_millis};
use crate::activation::ids::AppId;
use crate::activation::notify::EventKind;
use crate::activation::personal_pin::lock::{Locked, Tries};
use crate::activation::registry::{App, What};
use crate::activation::temporary_pin::send_rules::SendRefused;
use crate::activation::temporary_pin::{Binding, Purpose, SentPin, TemporaryPin, Try};
use crate::telemetry;

/// How long after the proof the PIN may be replaced: time to think of one and type it twice.
const WINDOW: Duration = Duration::from_mins(5);

/// Temporary PINs in place of a forgotten one in [`RESET_TIME`]: with five tries each, thirty guesses a day.
const MOST_RESETS: u8 = 6;

/// See [`MOST_RESETS`].
const RESET_TIME: Duration = Duration::from_hours(24);

/// What is kept of temporary PINs in place of a forgotten one.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Reset {
    #[serde(with = "stored::pin")]
    pin: Option<SentPin>,
    /// Whether that one was proved.
    proved: bool,
    /// How many were sent since `since`.
    sent: u8,
    since: i64,
}

impl Service {
    /// Sends a temporary PIN in place of a forgotten personal one. Where it must not be sent, the answer is the same.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn send_reset_pin(&self, caller: &Caller, id: AppId, request: &PinRequest) -> Result<(), ServiceError> {
        let now = self.now();
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let mut state = PinState::of(&app)?;
        let user = self.user_of(&mut tx, app.user).await?;
        let mut reset = state.reset.take().unwrap_or_default();
        let refused = match now.duration_since(from_millis(reset.since)).ok().filter(|age| *age < RESET_TIME) {
            _ if state.tries().is_locked_for_good() => Some(ServiceError::Locked(Locked::ForGood)),
            Some(age) if reset.sent >= MOST_RESETS => {
                let retry_after = RESET_TIME.saturating_sub(age);
                Some(ServiceError::Sends(SendRefused::TooManyToNumber { retry_after }))
            }
            Some(_) => None,
            None => {
                reset = Reset { since: to_millis(now), ..Reset::default() };
                None
            }
        };
        let by_rules = self.send_refusal(&mut tx, caller, &user, now).await?;
        if let Some(rule) = by_rules {
            counter!(telemetry::SMS_REFUSED, "rule" => rule.label()).increment(1);
        }
        let is_withheld = by_rules == Some(SendRefused::NumberTooNew);
        if let Some(refused) = refused.or(by_rules.filter(|_| !is_withheld).map(ServiceError::Sends)) {
            // The proof is used up; nothing else has happened.
            tx.commit().await?;
            return Err(refused);
        }
        let Ok(place) = self.parts.sms.reserve() else {
            tx.commit().await?;
            return Err(ServiceError::SmsBusy);
        };
        let (sent, text) = {
            let rng = &mut (self.parts.environment.rng)();
            let pin = TemporaryPin::random(rng);
            let text = self.parts.texts.compose(&pin, Purpose::NewPin, request.language, request.app_hash.as_ref());
            let text = text.map_err(|_| ServiceError::UnknownAppHash)?;
            let sent = SentPin::new(&pin, binding(&app), &self.parts.pin_key, now);
            (if is_withheld { SentPin::decoy(rng, now) } else { sent }, text)
        };
        state.reset = Some(Reset { pin: Some(sent), proved: false, sent: reset.sent.saturating_add(1), ..reset });
        state.put(&mut app)?;
        tx.update_app(&app).await?;
        let number = self.parts.registry.sealer().number_tag(&user.phone);
        let row = tx.insert_send(number, self.address_tag(caller), now).await?;
        let what = if is_withheld { What::PinWithheld } else { What::PinSent };
        note(&mut tx, caller, &app, what, now).await?;
        tx.commit().await?;
        if !is_withheld {
            self.hand_over(place, (user.phone.clone(), text), row);
        }
        Ok(())
    }

    /// The person typed the temporary PIN: the personal one may be replaced now. The same one again changes nothing.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn prove_reset_pin(&self, caller: &Caller, id: AppId, typed: &TemporaryPin) -> Result<(), ServiceError> {
        let now = self.now();
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let mut state = PinState::of(&app)?;
        let mut reset = state.reset.take().unwrap_or_default();
        let was_proved = reset.proved;
        let taken = match reset.pin.as_mut() {
            _ if state.tries().is_locked_for_good() => Err(ServiceError::Locked(Locked::ForGood)),
            Some(pin) => Ok(pin.take(typed, binding(&app), &self.parts.pin_key, now)),
            None => Err(Refused::NoPin.into()),
        };
        if let Ok(taken) = &taken {
            counter!(telemetry::TEMPORARY_PIN_TRIES, "outcome" => taken.label()).increment(1);
        }
        if matches!(taken, Ok(Try::Right)) && !was_proved {
            reset.proved = true;
            state.unlocked = Some(to_millis(now));
            note(&mut tx, caller, &app, What::PinRight, now).await?;
        } else if matches!(taken, Ok(Try::Wrong { .. })) {
            note(&mut tx, caller, &app, What::PinWrong, now).await?;
        }
        state.reset = Some(reset);
        state.put(&mut app)?;
        tx.update_app(&app).await?;
        tx.commit().await?;
        match taken? {
            Try::Right => Ok(()),
            Try::Wrong { left } => Err(Refused::WrongPin { left }.into()),
            Try::Expired => Err(Refused::PinExpired.into()),
            Try::UsedUp => Err(Refused::PinUsedUp.into()),
        }
    }

    /// Answers the first message of the new PIN's registration. Keeps nothing.
    ///
    /// # Errors
    /// [`ServiceError::NotUnlocked`] outside the window.
    pub async fn new_pin_request(&self, caller: &Caller, id: AppId, request: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let (tx, app) = self.own_app(caller, id).await?;
        tx.commit().await?;
        self.check_window(&PinState::of(&app)?)?;
        Ok(self.parts.personal_pin.respond(id, request)?)
    }

    /// Takes the new PIN's record in place of the old one; the same one again changes nothing. All tries are free again.
    ///
    /// # Errors
    /// [`ServiceError::NotUnlocked`] outside the window.
    pub async fn replace_pin(&self, caller: &Caller, id: AppId, upload: &[u8]) -> Result<(), ServiceError> {
        let now = self.now();
        let record = self.parts.personal_pin.record(upload)?;
        let (mut tx, mut app) = self.own_app(caller, id).await?;
        let mut state = PinState::of(&app)?;
        if bool::from(app.pin_record.ct_eq(record.as_bytes())) {
            return Ok(tx.commit().await?);
        }
        if let Err(refused) = self.check_window(&state) {
            tx.commit().await?;
            return Err(refused);
        }
        app.pin_record = Zeroizing::new(record.as_bytes().to_vec());
        // A login that began with the old PIN ends nowhere, and the SMS has served.
        (state.login, state.unlocked) = (None, None);
        state.reset = state.reset.map(|reset| Reset { pin: None, proved: false, ..reset });
        state.set_tries(Tries::default());
        state.put(&mut app)?;
        tx.update_app(&app).await?;
        note(&mut tx, caller, &app, What::PersonalPinReplaced, now).await?;
        let others = tx.active_apps(app.user).await?;
        self.leave(&mut tx, EventKind::PinReplaced, &others, &[id]).await?;
        tx.commit().await?;
        self.wake();
        Ok(())
    }

    fn check_window(&self, state: &PinState) -> Result<(), ServiceError> {
        if state.tries().is_locked_for_good() {
            return Err(ServiceError::Locked(Locked::ForGood));
        }
        let age = |at: SystemTime| self.now().duration_since(at).ok();
        let is_open = state.unlocked.and_then(|at| age(from_millis(at))).is_some_and(|age| age < WINDOW);
        if is_open { Ok(()) } else { Err(ServiceError::NotUnlocked) }
    }
}

fn binding(app: &App) -> Binding<'_> {
    Binding { user: app.user.as_bytes(), activation: app.id.as_bytes(), purpose: Purpose::NewPin }
}
