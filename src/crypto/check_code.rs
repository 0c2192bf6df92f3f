//! The check code: four digits that new shows and the person types into old. Not a secret from the person, and worth
//! exactly one try: whoever sits between the apps guesses it once in 9,000 times.

use std::fmt;
use std::str::FromStr;

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Codes run from 1000 to 9999, so that a leading zero cannot be lost on the way.
const LOWEST: u16 = 1000;
const HIGHEST: u16 = 9999;
const COUNT: u64 = 9000;

/// Four digits derived from everything that both apps have said so far.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CheckCode(u16);

impl CheckCode {
    /// The code of eight exported bytes. The bias of the remainder is below 2^-50.
    pub(super) fn derive(exported: [u8; 8]) -> Self {
        let offset = u64::from_be_bytes(exported).checked_rem(COUNT).and_then(|rest| u16::try_from(rest).ok());
        Self(offset.unwrap_or_default().saturating_add(LOWEST))
    }
}

impl ConstantTimeEq for CheckCode {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for CheckCode {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for CheckCode {}

/// The four digits, for the screen.
impl fmt::Display for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckCode([redacted])")
    }
}

/// Reads what a person typed; white space anywhere is ignored.
impl FromStr for CheckCode {
    type Err = BadCheckCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut code = 0_u16;
        let mut digits = 0_u8;
        for c in text.chars().filter(|c| !c.is_whitespace()) {
            let digit = c.to_digit(10).and_then(|digit| u16::try_from(digit).ok()).ok_or(BadCheckCode)?;
            digits = digits.saturating_add(1);
            code = code.saturating_mul(10).saturating_add(digit);
        }
        (digits == 4 && (LOWEST..=HIGHEST).contains(&code)).then_some(Self(code)).ok_or(BadCheckCode)
    }
}

/// The text cannot be a check code; ask again, it was no try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the check code has four digits and does not start with 0")]
pub struct BadCheckCode;

/// The person typed another code than the new app showed: the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the check code is wrong")]
pub struct WrongCode;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_is_the_remainder_of_the_exported_number() {
        for (exported, code) in [(0, "1000"), (8999, "9999"), (9000, "1000"), (u64::MAX, "4615")] {
            assert_eq!(CheckCode::derive(exported.to_be_bytes()).to_string(), code);
        }
    }

    #[test]
    fn a_person_may_type_spaces_and_nothing_else_but_four_digits() {
        for good in ["4711", " 4711\n", "47 11", "4 7 1 1", "4711\u{a0}"] {
            assert_eq!(good.parse::<CheckCode>().unwrap().to_string(), "4711", "{good:?}");
        }
        for bad in ["", "471", "47111", "0471", "00004711", "-471", "+4711", "4711.", "٤٧١١", "47a1", "99999999999"]
        {
            assert_eq!(bad.parse::<CheckCode>(), Err(BadCheckCode), "{bad:?}");
        }
    }

    #[test]
    fn a_code_is_shown_on_purpose_only() {
        let code: CheckCode = "4711".parse().unwrap();
        assert_eq!(format!("{code:?}"), "CheckCode([redacted])");
    }

    proptest! {
        #[test]
        fn every_derived_code_can_be_typed(exported: [u8; 8]) {
            let code = CheckCode::derive(exported);
            prop_assert_eq!(code.to_string().parse::<CheckCode>(), Ok(code));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,12}") {
            if let Ok(code) = text.parse::<CheckCode>() {
                let digits: String = text.split_whitespace().collect();
                prop_assert_eq!(code.to_string(), digits);
            }
        }
    }
}
