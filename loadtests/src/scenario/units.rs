//! How durations and shares are written in a scenario: `"250ms"`, `"3m"`, `"12.5%"`. Values only, no meaning.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A duration as it is written in a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) struct Time(pub(crate) Duration);

/// A share between 0 and 1, written as a percentage.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Share(pub(crate) f64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("\"{text}\" is not a duration; write it like \"250ms\", \"10s\" or \"3m\""))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let share = number.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| Self(percent / 100.0));
        share.ok_or_else(|| format!("\"{text}\" is not a share; write it like \"0.5%\" or \"90%\""))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares_are_read() {
        assert_eq!("250ms".parse(), Ok(Time(Duration::from_millis(250))));
        assert_eq!("3m".parse(), Ok(Time(Duration::from_mins(3))));
        assert_eq!("12.5%".parse(), Ok(Share(0.125)));
    }

    #[test]
    fn what_is_neither_is_quoted_with_an_example() {
        assert!("10".parse::<Time>().unwrap_err().contains("\"10\" is not a duration"));
        for bad in ["10", "101%", "-1%", "NaN%"] {
            assert!(bad.parse::<Share>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
