//! Arithmetic on points in time that cannot overflow. Reads no clock.

use std::time::{Duration, Instant};

/// `now` and so much later; `now` itself where the clock has no such time.
pub(super) fn after(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or(now)
}

/// The earlier of two points in time that may not exist.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    /// Where simulated time starts; only differences matter.
    #[expect(clippy::disallowed_methods, reason = "simulated time needs some origin")]
    pub(in crate::client) fn start() -> Instant {
        Instant::now()
    }
}
