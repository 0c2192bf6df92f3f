//! The temporary PIN: eight digits that go out by SMS, and come back typed by the person or filled in by the phone.
//!
//! Not the sending (that is [`super::sms`]) and not the storage: what is kept of a PIN is a [`SentPin`], a keyed hash
//! that is bound to one user, one activation and one purpose. Pure: time and randomness are passed in. A new PIN
//! replaces the one before simply by overwriting its [`SentPin`]. Whether another SMS may go out is [`send_rules`].

pub mod send_rules;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::keyed_hash::HashKey;

/// Digits of a temporary PIN: 26 bits.
pub const DIGITS: usize = 8;

/// How long a PIN can be used. NIST SP 800-63B wants ten minutes at most.
pub const LIFETIME: Duration = Duration::from_mins(5);

/// Wrong PINs for each PIN that was sent. With three sends, one activation is guessed with probability 1.5 in ten
/// million.
pub const TRIES: u8 = 5;

/// How many of the 32-bit numbers are used: the largest multiple of 10^8, so that every PIN is equally likely.
const USABLE: u32 = 4_200_000_000;

/// What separates and joins the groups that people type.
const IGNORED: [char; 4] = [' ', '-', '\u{a0}', '\u{2009}'];

/// Eight digits; zeroized when dropped, never printed.
#[derive(Clone)]
pub struct TemporaryPin(Zeroizing<[u8; DIGITS]>);

impl TemporaryPin {
    /// A PIN that nobody can predict; each of the 10^8 is equally likely.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut number = loop {
            let number = rng.next_u32();
            if number < USABLE {
                break number;
            }
        };
        let mut pin = Zeroizing::new([b'0'; DIGITS]);
        for digit in pin.iter_mut().rev() {
            *digit = u8::try_from(number % 10).unwrap_or_default().saturating_add(b'0');
            number /= 10;
        }
        number.zeroize();
        Self(pin)
    }

    /// The digits without a space, for the text of the SMS and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        // Digits are ASCII.
        std::str::from_utf8(self.0.as_slice()).unwrap_or_default()
    }

    /// The digits in two groups of four, which people read and type with fewer errors.
    #[must_use]
    pub fn grouped(&self) -> Zeroizing<String> {
        let (first, second) = self.expose().split_at(DIGITS / 2);
        Zeroizing::new(format!("{first} {second}"))
    }
}

/// As typed: spaces and hyphens are tolerated anywhere.
impl FromStr for TemporaryPin {
    type Err = BadTemporaryPin;

    fn from_str(typed: &str) -> Result<Self, BadTemporaryPin> {
        let mut pin = Zeroizing::new([0; DIGITS]);
        let mut free = pin.iter_mut();
        for digit in typed.chars().filter(|c| !IGNORED.contains(c)) {
            let digit = u8::try_from(digit).ok().filter(u8::is_ascii_digit).ok_or(BadTemporaryPin)?;
            *free.next().ok_or(BadTemporaryPin)? = digit;
        }
        let is_full = free.next().is_none();
        is_full.then_some(Self(pin)).ok_or(BadTemporaryPin)
    }
}

impl fmt::Debug for TemporaryPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TemporaryPin([redacted])")
    }
}

/// The text is not eight digits. This is no try: it tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the temporary PIN must be eight digits; spaces between them are allowed")]
pub struct BadTemporaryPin;

/// What a PIN may be used for. One that was sent for the one is wrong for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Activating the app on the phone where the identity was proved.
    ThisPhone,
    /// Activating a copy, on another phone or tablet.
    OtherPhone,
    /// Choosing another personal PIN in place of a forgotten one.
    NewPin,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::ThisPhone => "temporary PIN, this phone",
            Self::OtherPhone => "temporary PIN, other phone",
            Self::NewPin => "temporary PIN, new PIN",
        }
    }
}

/// To what a PIN is bound: with anything else it is wrong.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    /// The user's row id, or whatever names the user once and for all.
    pub user: &'a [u8],
    /// The activation's id.
    pub activation: &'a [u8],
    /// What the PIN is for.
    pub purpose: Purpose,
}

impl Binding<'_> {
    fn hash(&self, key: &HashKey, pin: &TemporaryPin) -> PinHash {
        let mut data = Zeroizing::new(Vec::with_capacity(64));
        for part in [self.user, self.activation, pin.0.as_slice()] {
            // With the lengths, no two bindings are the same bytes.
            data.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            data.extend(part);
        }
        PinHash(key.hash(self.purpose.label(), &data))
    }
}

/// Names a user.
impl fmt::Debug for Binding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// HMAC-SHA256 under the server's key; without that key, trying all PINs finds nothing.
#[derive(Clone, Copy)]
pub struct PinHash([u8; Self::LEN]);

impl PinHash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The hash as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// What is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for PinHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinHash([redacted])")
    }
}

/// What is kept of a PIN that was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentPin {
    /// The keyed hash.
    pub hash: PinHash,
    /// From this time on the PIN is dead.
    pub valid_until: SystemTime,
    /// Wrong PINs so far.
    pub wrong_tries: u8,
}

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// The PIN is the one that was sent. The caller forgets the [`SentPin`]: it works once.
    Right,
    /// It is another one.
    Wrong {
        /// Tries that are left for this PIN.
        left: u8,
    },
    /// The PIN is too old; a new one can be sent.
    Expired,
    /// Wrong too often; a new one can be sent.
    UsedUp,
}

impl Try {
    /// For metrics: the values of `outcome`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong { .. } => "wrong",
            Self::Expired => "expired",
            Self::UsedUp => "used_up",
        }
    }
}

impl SentPin {
    /// What to keep of a PIN that goes out now.
    #[must_use]
    pub fn new(pin: &TemporaryPin, binding: Binding<'_>, key: &HashKey, now: SystemTime) -> Self {
        let hash = binding.hash(key, pin);
        Self { hash, valid_until: now.checked_add(LIFETIME).unwrap_or(now), wrong_tries: 0 }
    }

    /// What to keep where no SMS went out, because there is no such user or the number may not be used: looks and
    /// costs the same, and no PIN fits.
    #[must_use]
    pub fn decoy(rng: &mut impl CryptoRng, now: SystemTime) -> Self {
        let mut hash = [0; PinHash::LEN];
        rng.fill_bytes(&mut hash);
        Self { hash: PinHash(hash), valid_until: now.checked_add(LIFETIME).unwrap_or(now), wrong_tries: 0 }
    }

    /// Takes one try. A wrong one is counted in `self`, which the caller stores in the same transaction in which it was
    /// read: otherwise tries at the same moment count as one.
    ///
    /// Takes the same time whether the PIN is right or wrong.
    pub fn take(&mut self, typed: &TemporaryPin, binding: Binding<'_>, key: &HashKey, now: SystemTime) -> Try {
        // First the hash, so that the answers differ in nothing that can be measured.
        let is_right = binding.hash(key, typed) == self.hash;
        if now >= self.valid_until {
            Try::Expired
        } else if self.wrong_tries >= TRIES {
            Try::UsedUp
        } else if is_right {
            Try::Right
        } else {
            self.wrong_tries = self.wrong_tries.saturating_add(1);
            Try::Wrong { left: TRIES.saturating_sub(self.wrong_tries) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const BINDING: Binding<'static> = Binding { user: b"user", activation: b"activation", purpose: Purpose::ThisPhone };

    fn key() -> HashKey {
        HashKey::new([9; 32])
    }

    fn pin(text: &str) -> TemporaryPin {
        text.parse().unwrap()
    }

    fn sent() -> SentPin {
        SentPin::new(&pin("12345678"), BINDING, &key(), NOW)
    }

    #[test]
    fn a_pin_has_eight_digits_which_are_all_used_in_every_place() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen = [[0_u32; 10]; DIGITS];
        for _ in 0..10_000 {
            let pin = TemporaryPin::random(&mut rng);
            for (place, digit) in pin.expose().bytes().enumerate() {
                seen[place][usize::from(digit - b'0')] += 1;
            }
        }
        // 1,000 expected, standard deviation 30.
        assert!(seen.iter().flatten().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn spaces_and_hyphens_are_tolerated_and_nothing_else() {
        for typed in ["12345678", "1234 5678", " 12 34 56 78 ", "1234-5678", "1234\u{a0}5678", "1234\u{2009}5678"] {
            assert_eq!(pin(typed).expose(), "12345678", "{typed}");
        }
        for typed in
            ["", " ", "1234567", "123456789", "1234567a", "1234.5678", "١٢٣٤٥٦٧٨", "+12345678", "１２３４５６７８"]
        {
            assert_eq!(typed.parse::<TemporaryPin>().unwrap_err(), BadTemporaryPin, "{typed}");
        }
    }

    #[test]
    fn what_people_read_can_be_typed_as_they_read_it() {
        let shown = pin("01234567").grouped();
        assert_eq!(shown.as_str(), "0123 4567");
        assert_eq!(pin(&shown).expose(), "01234567");
    }

    #[test]
    fn the_pin_that_was_sent_is_right() {
        assert_eq!(sent().take(&pin("1234 5678"), BINDING, &key(), NOW), Try::Right);
    }

    #[test]
    fn a_pin_of_another_user_activation_purpose_or_key_is_wrong() {
        let wrong = |binding, key| sent().take(&pin("12345678"), binding, &key, NOW) == Try::Wrong { left: 4 };
        assert!(wrong(Binding { user: b"other", ..BINDING }, key()));
        assert!(wrong(Binding { activation: b"other", ..BINDING }, key()));
        assert!(wrong(Binding { purpose: Purpose::OtherPhone, ..BINDING }, key()));
        assert!(wrong(BINDING, HashKey::new([8; 32])));
        // The boundary between the parts counts as well.
        assert!(wrong(Binding { user: b"use", activation: b"ractivation", ..BINDING }, key()));
    }

    #[test]
    fn after_five_wrong_pins_the_right_one_does_not_help() {
        let mut sent = sent();
        for left in (0..TRIES).rev() {
            assert_eq!(sent.take(&pin("00000000"), BINDING, &key(), NOW), Try::Wrong { left });
        }
        assert_eq!(sent.take(&pin("12345678"), BINDING, &key(), NOW), Try::UsedUp);
        assert_eq!(sent.wrong_tries, TRIES);
    }

    #[test]
    fn a_pin_dies_after_five_minutes() {
        let (mut sent, end) = (sent(), NOW + LIFETIME);
        assert_eq!(sent.take(&pin("12345678"), BINDING, &key(), end), Try::Expired);
        assert_eq!(sent.take(&pin("12345678"), BINDING, &key(), end - Duration::from_nanos(1)), Try::Right);
    }

    #[test]
    fn no_pin_fits_a_decoy_and_its_tries_end_like_those_of_any_other() {
        let mut decoy = SentPin::decoy(&mut StdRng::seed_from_u64(1), NOW);
        assert_eq!((decoy.valid_until, decoy.wrong_tries), (sent().valid_until, sent().wrong_tries));
        for left in (0..TRIES).rev() {
            assert_eq!(decoy.take(&pin("12345678"), BINDING, &key(), NOW), Try::Wrong { left });
        }
        assert_eq!(decoy.take(&pin("12345678"), BINDING, &key(), NOW), Try::UsedUp);
    }

    #[test]
    fn every_outcome_is_a_value_of_its_label() {
        let outcomes = [Try::Right, Try::Wrong { left: 1 }, Try::Expired, Try::UsedUp].map(Try::label);
        assert_eq!(outcomes, crate::telemetry::TEMPORARY_PIN_OUTCOMES);
    }

    #[test]
    fn neither_pin_nor_hash_nor_user_shows_in_debug_output() {
        let shown = format!("{:?} {:?} {:?}", pin("12345678"), sent(), BINDING);
        assert!(!shown.contains("1234") && !shown.contains("117") && shown.contains("[redacted]"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_text_is_eight_digits_or_refused(typed in ".{0,20}") {
            let digits: String = typed.chars().filter(|c| !IGNORED.contains(c)).collect();
            let is_pin = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
            let parsed = typed.parse::<TemporaryPin>();
            prop_assert_eq!(parsed.is_ok(), is_pin);
            if let Ok(pin) = parsed {
                prop_assert_eq!(pin.expose(), digits);
            }
        }

        #[test]
        fn only_the_same_pin_is_right(sent in 0..100_000_000_u32, typed in 0..100_000_000_u32) {
            let (first, second) = (pin(&format!("{sent:08}")), pin(&format!("{typed:08}")));
            let mut kept = SentPin::new(&first, BINDING, &key(), NOW);
            prop_assert_eq!(kept.take(&second, BINDING, &key(), NOW) == Try::Right, sent == typed);
        }
    }
}
