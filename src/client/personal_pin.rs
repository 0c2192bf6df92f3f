//! The personal PIN on the device's side: chosen and repeated, weak ones refused before anything is sent, registered and
//! used with OPAQUE. Not its storage: an app keeps no PIN.
//!
//! With OPAQUE the server never sees the PIN, so nobody but this library can refuse a weak one. The rules are frozen in
//! `tests/vectors/weak-pins.json`, so that every library refuses the same ones.
//!
//! ```
//! use handoff_relay::client::personal_pin::{PersonalPin, WeakPin};
//!
//! let pin = PersonalPin::choose("493827", "493827", &["maria82", "+4512345678"])?;
//! assert_eq!(PersonalPin::choose("010180", "010180", &[]).unwrap_err(), WeakPin::Date);
//! # Ok::<(), WeakPin>(())
//! ```

mod common;

#[cfg(test)]
mod tests;

use std::fmt;

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::opaque::client::{Login, Registration};
pub use crate::opaque::{AppName, SessionKey};
use crate::opaque::{OpaqueError, REGISTRATION_RESPONSE};

/// Digits of a personal PIN.
pub const DIGITS: usize = 6;

/// Bytes of the name of the server's setup, in front of its registration response and of the upload.
const SETUP_NAME: usize = 8;

/// Six digits; zeroized when dropped, never printed.
#[derive(Clone)]
pub struct PersonalPin(Zeroizing<[u8; DIGITS]>);

/// Why a PIN cannot be chosen. The sentences are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPin {
    /// Not six digits.
    #[error("the PIN must be six digits")]
    NotSixDigits,
    /// One or two digits only, or a group that repeats.
    #[error("the PIN repeats itself; choose another one")]
    Repeated,
    /// Digits in order.
    #[error("the PIN is a sequence; choose another one")]
    Sequence,
    /// Could be a birthday or another date.
    #[error("the PIN is a date; choose another one")]
    Date,
    /// Among those that most people choose.
    #[error("the PIN is one of the most common ones; choose another one")]
    Common,
    /// Part of something that is known of the person.
    #[error("the PIN is part of the user ID or phone number; choose another one")]
    Known,
    /// The second time it was another one.
    #[error("the two PINs are not the same")]
    NotRepeated,
}

impl PersonalPin {
    /// A PIN that was chosen and typed again. `known` is what others know of the person: the user ID, phone numbers.
    ///
    /// # Errors
    /// [`WeakPin`] with the first rule that is broken; then nothing may be sent.
    pub fn choose(first: &str, again: &str, known: &[&str]) -> Result<Self, WeakPin> {
        let pin = Self::typed(first)?;
        pin.check(known)?;
        let is_same = Self::typed(again).is_ok_and(|again| again.0.ct_eq(pin.0.as_slice()).into());
        is_same.then_some(pin).ok_or(WeakPin::NotRepeated)
    }

    /// A PIN that was chosen before, typed to open the app: six digits, however weak.
    ///
    /// # Errors
    /// [`WeakPin::NotSixDigits`].
    pub fn typed(text: &str) -> Result<Self, WeakPin> {
        let bytes: &[u8; DIGITS] = text.trim().as_bytes().try_into().map_err(|_| WeakPin::NotSixDigits)?;
        let is_pin = bytes.iter().all(u8::is_ascii_digit);
        is_pin.then(|| Self(Zeroizing::new(*bytes))).ok_or(WeakPin::NotSixDigits)
    }

    fn check(&self, known: &[&str]) -> Result<(), WeakPin> {
        let digits = Zeroizing::new(self.0.map(|byte| byte.wrapping_sub(b'0')));
        if is_repeated(*digits) {
            Err(WeakPin::Repeated)
        } else if is_sequence(*digits) {
            Err(WeakPin::Sequence)
        } else if is_date(*digits) {
            Err(WeakPin::Date)
        } else if common::COMMON.iter().any(|common| common.as_bytes() == self.0.as_slice()) {
            Err(WeakPin::Common)
        } else if known.iter().any(|known| self.is_in(known)) {
            Err(WeakPin::Known)
        } else {
            Ok(())
        }
    }

    /// Whether the digits of the text have this PIN in them, forwards or backwards.
    fn is_in(&self, text: &str) -> bool {
        let digits: Zeroizing<Vec<u8>> = Zeroizing::new(text.bytes().filter(u8::is_ascii_digit).collect());
        let mut backwards = self.0.clone();
        backwards.reverse();
        digits.windows(DIGITS).any(|part| part == self.0.as_slice() || part == backwards.as_slice())
    }
}

impl fmt::Debug for PersonalPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonalPin([redacted])")
    }
}

/// Fewer than three different digits, or a group of two or three that repeats.
fn is_repeated(digits: [u8; DIGITS]) -> bool {
    let different = (0..10).filter(|digit| digits.contains(digit)).count();
    let repeats_after = |period| digits.iter().zip(digits.iter().skip(period)).all(|(a, b)| a == b);
    different < 3 || repeats_after(2) || repeats_after(3)
}

/// Equal steps all the way, also beyond 9 (`890123`, `246802`), or two runs of three (`123789`, `321654`).
fn is_sequence(digits: [u8; DIGITS]) -> bool {
    let step = |a: u8, b: u8| b.wrapping_add(10).wrapping_sub(a).checked_rem(10).unwrap_or_default();
    let steps: Vec<u8> = digits.iter().zip(digits.iter().skip(1)).map(|(from, to)| step(*from, *to)).collect();
    let is_run = |steps: Option<&[u8]>| matches!(steps, Some([1, 1] | [9, 9]));
    let is_even = steps.iter().all(|step| steps.first() == Some(step));
    is_even || (is_run(steps.get(..2)) && is_run(steps.get(3..)))
}

/// A day of any century in the orders DDMMYY, MMDDYY, YYMMDD, or a month from 1900 to 2099 as MMYYYY or YYYYMM.
fn is_date(digits: [u8; DIGITS]) -> bool {
    let two = |at: usize| {
        digits.iter().skip(at).take(2).fold(0, |number: u8, digit| number.wrapping_mul(10).wrapping_add(*digit))
    };
    let (first, middle, last) = (two(0), two(2), two(4));
    let is_month = |month| (1..=12).contains(&month);
    let is_day = |day, month| {
        let most = match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        is_month(month) && (1..=most).contains(&day)
    };
    let is_century = |century| century == 19 || century == 20;
    is_day(first, middle)
        || is_day(middle, first)
        || is_day(last, middle)
        || (is_month(first) && is_century(middle))
        || (is_century(first) && is_month(last))
}

/// Why a step with the server did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinExchangeError {
    /// Not what a server answers.
    #[error("the server's answer cannot be understood")]
    Malformed,
    /// Wrong PIN. A server that does not know the app looks the same.
    #[error("the PIN is wrong")]
    WrongPin,
}

impl From<OpaqueError> for PinExchangeError {
    fn from(error: OpaqueError) -> Self {
        match error {
            OpaqueError::Malformed => Self::Malformed,
            OpaqueError::Wrong => Self::WrongPin,
        }
    }
}

/// A PIN on its way to the server.
#[derive(Debug)]
pub struct PinRegistration {
    registration: Registration,
    app: AppName,
}

impl PinRegistration {
    /// The first step: what to send, 33 bytes.
    ///
    /// # Errors
    /// Only if the cryptography fails, which it does with no PIN.
    pub fn start(
        pin: &PersonalPin,
        app: AppName,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Vec<u8>), PinExchangeError> {
        let (registration, request) = Registration::start(pin.0.as_slice(), rng)?;
        Ok((Self { registration, app }, request.to_vec()))
    }

    /// The second step, after the server's 74 bytes: what to send, 137 bytes. Tens of milliseconds of work.
    ///
    /// # Errors
    /// [`PinExchangeError::Malformed`] if the answer is none.
    pub fn finish(self, response: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, PinExchangeError> {
        let (setup, response) = response.split_first_chunk::<SETUP_NAME>().ok_or(PinExchangeError::Malformed)?;
        let response: &[u8; REGISTRATION_RESPONSE] = response.try_into().map_err(|_| PinExchangeError::Malformed)?;
        let upload = self.registration.finish(&self.app, response, rng)?;
        Ok([&setup[..], &upload].concat())
    }
}

/// The app being opened with the PIN.
#[derive(Debug)]
pub struct PinLogin {
    login: Login,
    app: AppName,
}

impl PinLogin {
    /// The first step: KE1 to send, 98 bytes. The server counts a try when it answers.
    ///
    /// # Errors
    /// Only if the cryptography fails, which it does with no PIN.
    pub fn start(
        pin: &PersonalPin,
        app: AppName,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Vec<u8>), PinExchangeError> {
        let (login, ke1) = Login::start(pin.0.as_slice(), rng)?;
        Ok((Self { login, app }, ke1.to_vec()))
    }

    /// The second step, after KE2 (259 bytes): KE3 to send, 32 bytes, within 30 seconds. The server gives the try back
    /// when it has it. Tens of milliseconds of work.
    ///
    /// # Errors
    /// [`PinExchangeError::WrongPin`]: nothing is to be sent, and the try is used up.
    pub fn finish(self, ke2: &[u8], rng: &mut impl CryptoRng) -> Result<(Vec<u8>, SessionKey), PinExchangeError> {
        let ke2 = ke2.try_into().map_err(|_| PinExchangeError::Malformed)?;
        let (ke3, key) = self.login.finish(&self.app, ke2, rng)?;
        Ok((ke3.to_vec(), key))
    }
}
