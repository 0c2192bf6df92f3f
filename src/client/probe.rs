//! Finds out that a connection is dead although nobody has closed it: when to ping, and how long to wait for the pong.
//! Sends nothing, and knows nothing of the picture that old shows meanwhile.

use std::time::{Duration, Instant};

use super::time::after;

/// Time between two pings, if nobody asks for one earlier. Half the time that a photographed picture is good for.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Time for the pong. Three times the round trip of a network on which connecting takes ten seconds; and short enough
/// that the answer to a ping of one QR frame is there, or missed, before the next frame at the default interval.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);

/// The pings of one connection. At most one waits for its pong, so that each pong has one ping that it can answer.
#[derive(Debug)]
pub(super) struct Probe {
    due_at: Instant,
    unanswered_since: Option<Instant>,
    proven_at: Instant,
    was_answered: bool,
    data_at: Instant,
}

impl Probe {
    /// A connection whose first message, said at `said_at`, has just been answered.
    pub(super) fn new(said_at: Instant, now: Instant) -> Self {
        Self {
            due_at: after(now, PROBE_INTERVAL),
            unanswered_since: None,
            proven_at: said_at,
            was_answered: false,
            data_at: now,
        }
    }

    /// The newest moment after which the relay is known to have sent something over this connection: when the newest
    /// question was asked that it has answered. Later than that nothing is certain; what it sent before is here.
    pub(super) fn proven_at(&self) -> Instant {
        self.proven_at
    }

    /// Whether the relay has answered any ping.
    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// Asks for a ping now, or as soon as the one before is answered.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.due_at = self.due_at.min(now);
    }

    /// Whether to send a ping now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.unanswered_since.is_none() && self.due_at <= now;
        if is_due {
            self.unanswered_since = Some(now);
            self.due_at = after(now, PROBE_INTERVAL);
        }
        is_due
    }

    pub(super) fn handle_pong(&mut self) {
        if let Some(asked_at) = self.unanswered_since.take() {
            self.proven_at = asked_at;
            self.was_answered = true;
        }
    }

    /// A data frame of the peer arrived. On a slow network a pong has to wait behind many of them.
    pub(super) fn handle_data(&mut self, now: Instant) {
        self.data_at = now;
    }

    /// Whether the connection is dead.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.over_at().is_some_and(|at| at <= now)
    }

    /// When to call [`Self::poll`] or [`Self::is_over`] next.
    pub(super) fn next_timeout(&self) -> Instant {
        self.over_at().unwrap_or(self.due_at)
    }

    fn over_at(&self) -> Option<Instant> {
        self.unanswered_since.map(|asked_at| after(asked_at.max(self.data_at), PROBE_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::time::tests::start;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection attached after 1 s, by a first message that was said at the start.
    fn probe() -> (Probe, Instant) {
        let start = start();
        (Probe::new(start, after(start, SECOND)), start)
    }

    #[test]
    fn a_ping_goes_out_every_five_seconds_and_is_waited_for_four() {
        let (mut probe, start) = probe();
        let at = |seconds| after(start, SECOND * seconds);
        assert_eq!(probe.proven_at(), start);
        assert_eq!(probe.next_timeout(), at(6));
        assert!(!probe.poll(at(5)));
        assert!(probe.poll(at(6)));
        assert!(!probe.poll(at(6)));
        assert_eq!(probe.next_timeout(), at(10));
        probe.handle_pong();
        assert_eq!(probe.proven_at(), at(6));
        assert!(!probe.is_over(at(60)));
        assert!(probe.poll(at(11)));
        assert!(!probe.is_over(at(14)));
        assert!(probe.is_over(at(15)));
    }

    #[test]
    fn a_ping_that_is_wanted_earlier_waits_only_for_the_pong_of_the_one_before() {
        let (mut probe, start) = probe();
        let at = |seconds| after(start, SECOND * seconds);
        probe.hasten(at(2));
        assert!(probe.poll(at(2)));
        probe.hasten(at(3));
        assert!(!probe.poll(at(3)));
        probe.handle_pong();
        assert_eq!(probe.proven_at(), at(2));
        assert!(probe.poll(at(4)));
    }

    #[test]
    fn data_of_the_peer_proves_that_the_connection_lives_and_not_when_the_ping_arrived() {
        let (mut probe, start) = probe();
        let at = |seconds| after(start, SECOND * seconds);
        assert!(probe.poll(at(6)));
        probe.handle_data(at(9));
        assert!(!probe.is_over(at(12)));
        assert_eq!(probe.proven_at(), start);
        assert!(probe.is_over(at(13)));
    }

    #[test]
    fn a_pong_that_nobody_asked_for_proves_nothing() {
        let (mut probe, start) = probe();
        probe.handle_pong();
        assert_eq!(probe.proven_at(), start);
        assert!(!probe.was_answered());
    }
}
