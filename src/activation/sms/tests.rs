use std::time::Duration;

use super::gateway::{IdempotencyKey, SmsMessage};
use super::text::{AppHash, Language, SmsTexts};
use crate::activation::temporary_pin::Purpose;

/// A message to +4512345678 with the PIN 12345678, different for each number.
pub(super) fn message(number: u8) -> SmsMessage {
    let hash: AppHash = "FA+9qCX9VSu".parse().unwrap();
    let texts = SmsTexts::new("eid.example", "e-ID", vec![hash.clone()]).unwrap();
    let pin = "12345678".parse().unwrap();
    SmsMessage {
        to: "+4512345678".parse().unwrap(),
        text: texts.compose(&pin, Purpose::ThisPhone, Language::English, Some(&hash)).unwrap(),
        key: IdempotencyKey::from_random([number; 16]),
        valid_for: Duration::from_mins(5),
    }
}
