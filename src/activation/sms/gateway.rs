//! What every SMS gateway is to the rest: something that takes one message and says how that went.
//!
//! A gateway tries once. Trying again, waiting, timeouts and the choice between gateways are [`super::sender`]'s.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::text::SmsText;
use crate::activation::ids::PhoneNumber;

/// One SMS. Its `Debug` shows neither number nor text.
#[derive(Clone, Debug)]
pub struct SmsMessage {
    /// Where it goes.
    pub to: PhoneNumber,
    /// What it says.
    pub text: SmsText,
    /// The same for every attempt at this message, and for no other message.
    pub key: IdempotencyKey,
    /// How long it is worth delivering: what comes later only confuses.
    pub valid_for: Duration,
}

/// What lets a gateway recognise a message that it has taken already, and links a delivery report to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey([u8; 16]);

impl IdempotencyKey {
    /// A key made from 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A number that is the same whenever this key is tried for the nth time, between 0 and 1: spreads retries without
    /// randomness of their own.
    pub(in crate::activation) fn spread(self, attempt: u32) -> f64 {
        let at = usize::try_from(attempt).unwrap_or_default().checked_rem(self.0.len()).unwrap_or_default();
        f64::from(self.0.get(at).copied().unwrap_or_default()) / 255.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The gateway has taken the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the gateway calls it, in its delivery reports.
    pub message_id: String,
}

/// The gateway has not taken the message, or not said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// No connection.
    #[error("the gateway cannot be reached")]
    Unreachable,
    /// No answer in time; it may have sent the message.
    #[error("the gateway does not answer")]
    TimedOut,
    /// Too much at once (HTTP 429).
    #[error("the gateway takes no more at the moment")]
    Busy {
        /// What the gateway says about when to try again.
        retry_after: Option<Duration>,
    },
    /// HTTP 5xx.
    #[error("the gateway failed with status {0}")]
    Failed(u16),
    /// HTTP 3xx or 4xx: this message, or these credentials, it will never take.
    #[error("the gateway refused the message with status {0}")]
    Refused(u16),
    /// Says that all is well, and gives no id for the message: it may or may not have been taken.
    #[error("the gateway's answer cannot be understood")]
    Nonsense,
}

impl GatewayError {
    /// Every value of [`Self::label`].
    pub const LABELS: [&'static str; 6] = ["unreachable", "timeout", "busy", "failed", "refused", "nonsense"];

    /// For metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        let [unreachable, timeout, busy, failed, refused, nonsense] = Self::LABELS;
        match self {
            Self::Unreachable => unreachable,
            Self::TimedOut => timeout,
            Self::Busy { .. } => busy,
            Self::Failed(_) => failed,
            Self::Refused(_) => refused,
            Self::Nonsense => nonsense,
        }
    }

    /// Whether the same message may be taken later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// The end of one attempt, when it is there.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Accepted, GatewayError>> + Send + 'a>>;

/// A way to send an SMS.
pub trait SmsGateway: fmt::Debug + Send + Sync + 'static {
    /// Tries once, with [`SmsMessage::key`] where the gateway knows such a thing. Need not give up by itself: dropping
    /// the attempt ends it.
    fn send<'a>(&'a self, message: &'a SmsMessage) -> Attempt<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_neither_number_nor_text() {
        let texts = crate::activation::sms::text::SmsTexts::new("eid.example", "e-ID", vec![]).unwrap();
        let purpose = crate::activation::temporary_pin::Purpose::ThisPhone;
        let language = crate::activation::sms::text::Language::English;
        let text = texts.compose(&"12345678".parse().unwrap(), purpose, language, None).unwrap();
        let key = IdempotencyKey::from_random([7; 16]);
        let to = "+4587654321".parse().unwrap();
        let shown = format!("{:?}", SmsMessage { to, text, key, valid_for: Duration::from_mins(5) });
        assert!(!shown.contains("8765") && !shown.contains("1234") && !shown.contains("eid"), "{shown}");
    }

    #[test]
    fn a_key_is_written_in_32_hexadecimal_digits_and_spreads_retries() {
        let key = IdempotencyKey::from_random([0, 255, 51, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(key.to_string(), "00ff330a000000000000000000000001");
        let spread = [0, 1, 2, 16].map(|attempt| (key.spread(attempt) * 10.0).round().to_string());
        assert_eq!(spread, ["0", "10", "2", "0"]);
    }
}
