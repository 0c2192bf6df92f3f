//! Conversions between counts, durations and floating point that cannot fail. No arithmetic of its own.

use std::time::Duration;

/// A count as a floating-point number; exact up to 2^53.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts here stay far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The nearest count; 0 for what is negative or no number.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and takes what is no number for 0"
)]
pub(crate) fn count(number: f64) -> u64 {
    number.round() as u64
}

/// A length as a count.
pub(crate) fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A count as an index or a length.
pub(crate) fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// So many seconds; zero for what is negative or no number, and at most a century.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 3.2e9)).unwrap_or_default()
}
