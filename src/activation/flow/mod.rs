//! One activation as a state machine: which step is due, what a step changes, and what it may not.
//!
//! Pure: time, randomness and keys are passed in. Who may take a step, where the state is kept and how an SMS is sent is
//! `service`'s. Every step may be repeated, because phones retry: the same step with the same content changes nothing
//! and is answered like the first time. A refused step may have been counted, so that the state is stored in any case.

mod step;
pub(super) mod stored;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use step::{Choices, Done, Due, End, Refused, Step, Way};
pub(crate) use stored::{from_millis, to_millis};

use super::temporary_pin::{Binding, SentPin, TemporaryPin, Try};
use crate::keyed_hash::HashKey;

/// How often the user ID may be wrong.
pub const USER_ID_TRIES: u8 = 5;

/// Temporary PINs that one activation may ask for: with five tries each, that is how much can be guessed.
pub const MOST_PINS: u8 = 6;

/// One activation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    way: Way,
    /// When the copy may start.
    #[serde(with = "stored::time")]
    starts: SystemTime,
    #[serde(with = "stored::time")]
    expires: SystemTime,
    due: Due,
    end: Option<End>,
    user_id_tries: u8,
    pins: u8,
    #[serde(with = "stored::pin")]
    pin: Option<SentPin>,
    record: Option<Secret>,
    biometrics: Option<bool>,
    notifications: Option<Secret>,
}

/// Bytes that are wiped when dropped.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secret(#[serde(with = "stored::bytes")] Vec<u8>);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Flow {
    /// An activation that begins now; a copy may have to wait first. From the time that it may start, it has
    /// `lifetime`.
    #[must_use]
    pub fn new(way: Way, now: SystemTime, wait: Duration, lifetime: Duration) -> Self {
        let wait = if way == Way::ThisPhone { Duration::ZERO } else { wait };
        let starts = now.checked_add(wait).unwrap_or(now);
        Self {
            way,
            starts,
            expires: starts.checked_add(lifetime).unwrap_or(starts),
            due: if way == Way::ThisPhone { Due::TemporaryPin } else { Due::UserId },
            end: None,
            user_id_tries: 0,
            pins: 0,
            pin: None,
            record: None,
            biometrics: None,
            notifications: None,
        }
    }

    /// Which way it goes.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    /// The step that is due.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Due {
        if self.due < Due::Active && now >= self.expires {
            Due::Ended
        } else if self.due < Due::Active && now < self.starts {
            Due::Waiting
        } else {
            self.due
        }
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn end(&self, now: SystemTime) -> Option<End> {
        (self.due(now) == Due::Ended).then(|| self.end.unwrap_or(End::Expired))
    }

    /// From this time on it is over, if it is not active by then.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// When a copy may start.
    #[must_use]
    pub fn starts(&self) -> SystemTime {
        self.starts
    }

    /// Whether a temporary PIN is waiting to be typed.
    #[must_use]
    pub fn has_pin(&self, now: SystemTime) -> bool {
        self.due(now) == Due::TemporaryPin && self.pin.as_ref().is_some_and(|pin| now < pin.valid_until)
    }

    /// What was chosen, once all was.
    #[must_use]
    pub fn choices(&self) -> Option<Choices<'_>> {
        let record = self.record.as_ref().filter(|_| self.due == Due::Active)?;
        let token = self.notifications.as_ref()?;
        let token = std::str::from_utf8(&token.0).ok().filter(|token| !token.is_empty());
        Some(Choices { record: &record.0, biometrics: self.biometrics?, notifications: token })
    }

    /// Takes a step. The state is to be stored whatever the answer is: refused tries count.
    ///
    /// # Errors
    /// [`Refused`] with the reason.
    pub fn handle(&mut self, step: Step<'_>, now: SystemTime) -> Result<Done, Refused> {
        match self.due(now) {
            Due::Ended => return self.ended(step, now),
            Due::Waiting if !matches!(step, Step::Cancel | Step::GrantorGone) => {
                return Err(Refused::Waiting(self.starts.duration_since(now).unwrap_or_default()));
            }
            Due::Waiting
            | Due::UserId
            | Due::TemporaryPin
            | Due::PersonalPin
            | Due::Biometrics
            | Due::Notifications
            | Due::Active => {}
        }
        match step {
            Step::UserId { matches } => self.user_id(matches),
            Step::SendPin(pin) => self.send_pin(pin),
            Step::TemporaryPin { typed, binding, key } => self.temporary_pin(typed, binding, key, now),
            Step::PersonalPin(record) => self.personal_pin(record),
            Step::Biometrics(wanted) => self.biometrics(wanted),
            Step::Notifications(token) => self.notifications(token.unwrap_or_default()),
            Step::Cancel => self.give_up(End::Cancelled),
            Step::GrantorGone => self.give_up(End::GrantorGone),
        }
    }

    /// Ends it if its time is over; whether that is new.
    pub fn expire(&mut self, now: SystemTime) -> bool {
        let is_new = self.due < Due::Active && now >= self.expires;
        if is_new {
            self.close(End::Expired);
        }
        is_new
    }

    /// What is over stays so; that it expired is written down when somebody looks.
    fn ended(&mut self, step: Step<'_>, now: SystemTime) -> Result<Done, Refused> {
        let end = self.end(now).unwrap_or(End::Expired);
        self.close(end);
        if matches!(step, Step::Cancel) && end == End::Cancelled {
            Ok(Done::Repeated)
        } else {
            Err(Refused::Ended(end))
        }
    }

    fn user_id(&mut self, matches: bool) -> Result<Done, Refused> {
        let is_copy = self.way != Way::ThisPhone;
        match (self.due, matches) {
            (Due::UserId, true) => {
                self.due = Due::TemporaryPin;
                Ok(Done::Changed)
            }
            (Due::UserId, false) => {
                self.user_id_tries = self.user_id_tries.saturating_add(1);
                let left = USER_ID_TRIES.saturating_sub(self.user_id_tries);
                if left == 0 {
                    self.close(End::UserIdWrong);
                }
                Err(Refused::WrongUserId { left })
            }
            (_, true) if is_copy => Ok(Done::Repeated),
            (due, _) if is_copy => Err(Refused::DoneOtherwise(due)),
            (due, _) => Err(Refused::NotDue(due)),
        }
    }

    fn send_pin(&mut self, pin: &SentPin) -> Result<Done, Refused> {
        self.expect(Due::TemporaryPin)?;
        if self.pins >= MOST_PINS {
            self.close(End::PinsUsedUp);
            return Err(Refused::Ended(End::PinsUsedUp));
        }
        self.pins = self.pins.saturating_add(1);
        self.pin = Some(pin.clone());
        Ok(Done::Changed)
    }

    fn temporary_pin(
        &mut self,
        typed: &TemporaryPin,
        binding: Binding<'_>,
        key: &HashKey,
        now: SystemTime,
    ) -> Result<Done, Refused> {
        let Some(pin) = self.pin.as_mut() else {
            return Err(if self.due == Due::TemporaryPin { Refused::NoPin } else { Refused::NotDue(self.due) });
        };
        if self.due != Due::TemporaryPin {
            // The PIN that was right before: the answer was lost on the way. Its age does not matter any more.
            let mut accepted = SentPin { hash: pin.hash, valid_until: self.expires, wrong_tries: 0 };
            let is_same = accepted.take(typed, binding, key, SystemTime::UNIX_EPOCH) == Try::Right;
            return if is_same { Ok(Done::Repeated) } else { Err(Refused::DoneOtherwise(self.due)) };
        }
        match pin.take(typed, binding, key, now) {
            Try::Right => {
                self.due = Due::PersonalPin;
                Ok(Done::Changed)
            }
            Try::Wrong { left } => Err(Refused::WrongPin { left }),
            Try::Expired => Err(Refused::PinExpired),
            Try::UsedUp => Err(Refused::PinUsedUp),
        }
    }

    fn personal_pin(&mut self, record: &[u8]) -> Result<Done, Refused> {
        self.choose(Due::PersonalPin, Due::Biometrics, |flow| &mut flow.record, Secret(record.to_vec()))
    }

    fn biometrics(&mut self, wanted: bool) -> Result<Done, Refused> {
        self.choose(Due::Biometrics, Due::Notifications, |flow| &mut flow.biometrics, wanted)
    }

    fn notifications(&mut self, token: &str) -> Result<Done, Refused> {
        let token = Secret(token.as_bytes().to_vec());
        let done = self.choose(Due::Notifications, Due::Active, |flow| &mut flow.notifications, token)?;
        Ok(if done == Done::Changed { Done::Activated } else { done })
    }

    /// A step that is done once, with one content.
    fn choose<T: PartialEq>(
        &mut self,
        step: Due,
        next: Due,
        place: impl Fn(&mut Self) -> &mut Option<T>,
        content: T,
    ) -> Result<Done, Refused> {
        let due = self.due;
        match place(self) {
            Some(chosen) if *chosen == content => return Ok(Done::Repeated),
            Some(_) => return Err(Refused::DoneOtherwise(due)),
            chosen @ None if due == step => *chosen = Some(content),
            None => return Err(Refused::NotDue(due)),
        }
        self.due = next;
        Ok(Done::Changed)
    }

    fn give_up(&mut self, end: End) -> Result<Done, Refused> {
        if self.due == Due::Active {
            return Err(Refused::NotDue(Due::Active));
        }
        self.close(end);
        Ok(Done::Changed)
    }

    fn expect(&self, due: Due) -> Result<(), Refused> {
        if self.due == due { Ok(()) } else { Err(Refused::NotDue(self.due)) }
    }

    /// Over; nothing of what was entered stays.
    fn close(&mut self, end: End) {
        self.due = Due::Ended;
        self.end = Some(end);
        self.pin = None;
        self.record = None;
        self.notifications = None;
    }
}

/// Without anything that was entered.
impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("due", &self.due).field("end", &self.end).finish_non_exhaustive()
    }
}
