//! Reliability between the two apps: what the peer has not acknowledged, and which frame is expected from it.
//!
//! No sockets and no keys: frames are opaque bytes here, kept and repeated byte for byte. The relay keeps nothing, so
//! this is the only place where a frame survives a lost connection. Go-back-N: a channel's contexts never skip, so
//! a receiver takes frames in order only and drops the rest.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::time::after;
use crate::protocol::Role;
use crate::protocol::frame::{FrameKind, Header};

/// Sealed frames in flight. 4 frames of 4 KiB sent again after each of 30 lost connections are 495 KiB, which fits
/// the relay's 1 MiB a direction beside the largest credential (268 KiB).
pub(super) const WINDOW: usize = 4;

/// Wait for an acknowledgement before a loss that nobody reported is assumed: far above a round trip through two
/// mobile networks.
const RESEND_AFTER: Duration = Duration::from_secs(2);

/// Longest wait between two repetitions.
const RESEND_AFTER_MOST: Duration = Duration::from_secs(16);

/// Bytes that the timer may send again in one session, so that it cannot use up the relay's quota: 1 MiB less the
/// largest credential and the windows of 30 lost connections leaves 280 KiB.
const RESEND_BUDGET: usize = 256 * 1024;

/// Frames that the timer may send again: the relay counts 512, of which 66 are first sent, 120 follow lost
/// connections, and the rest acknowledges.
const RESEND_BUDGET_FRAMES: usize = 128;

/// An acknowledgement for a frame that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BeyondSent;

/// The sealed frames that the peer has not acknowledged yet.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    /// Number of the first frame in `frames`.
    first: u64,
    /// How many of `frames` went out since the last reason to send them again.
    cursor: usize,
    /// Number after the newest frame that ever went out.
    sent: u64,
    wait: Duration,
    resend_at: Option<Instant>,
    budget: usize,
    budget_frames: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            frames: VecDeque::with_capacity(WINDOW),
            first: 0,
            cursor: 0,
            sent: 0,
            wait: RESEND_AFTER,
            resend_at: None,
            budget: RESEND_BUDGET,
            budget_frames: RESEND_BUDGET_FRAMES,
        }
    }

    /// Whether the window takes another frame.
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < WINDOW
    }

    /// Takes the next sealed frame into the window.
    pub(super) fn push(&mut self, frame: Vec<u8>) {
        self.frames.push_back(frame.into());
    }

    /// Notes that the peer has everything below `expected`; returns how many frames that covers for the first time.
    pub(super) fn acknowledge(&mut self, expected: u64) -> Result<usize, BeyondSent> {
        if expected > self.sent {
            return Err(BeyondSent);
        }
        let covered = usize::try_from(expected.saturating_sub(self.first)).map_err(|_| BeyondSent)?;
        if covered > 0 {
            self.frames.drain(..covered.min(self.frames.len()));
            self.first = expected;
            self.cursor = self.cursor.saturating_sub(covered);
            self.rewind_timer();
        }
        Ok(covered)
    }

    /// Everything unacknowledged goes out again: a connection was replaced, and nobody knows what it swallowed.
    pub(super) fn send_again(&mut self) {
        self.cursor = 0;
        self.rewind_timer();
    }

    /// Forgets everything: nothing will be sent any more.
    pub(super) fn clear(&mut self) {
        self.first = self.first.saturating_add(u64::try_from(self.frames.len()).unwrap_or(u64::MAX));
        self.frames.clear();
        self.cursor = 0;
        self.resend_at = None;
    }

    /// Starts the timer if something waits for an acknowledgement that can come.
    pub(super) fn arm(&mut self, both_online: bool, now: Instant) {
        if !both_online || self.frames.is_empty() || !self.can_afford() {
            self.resend_at = None;
        } else if self.resend_at.is_none() {
            self.resend_at = Some(after(now, self.wait));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.resend_at
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.resend_at.is_some_and(|at| at <= now) {
            self.resend_at = None;
            self.budget = self.budget.saturating_sub(self.bytes_in_flight());
            self.budget_frames = self.budget_frames.saturating_sub(self.cursor);
            self.cursor = 0;
            self.wait = self.wait.saturating_mul(2).min(RESEND_AFTER_MOST);
        }
    }

    /// The next frame to send, if any.
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        let frame = self.frames.get(self.cursor)?.clone();
        self.cursor = self.cursor.saturating_add(1);
        let next = self.first.saturating_add(u64::try_from(self.cursor).unwrap_or(u64::MAX));
        self.sent = self.sent.max(next);
        Some(frame)
    }

    fn rewind_timer(&mut self) {
        self.wait = RESEND_AFTER;
        self.resend_at = None;
    }

    fn can_afford(&self) -> bool {
        self.bytes_in_flight() <= self.budget && self.frames.len() <= self.budget_frames
    }

    fn bytes_in_flight(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }
}

/// Which sealed frame is expected from the peer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    expected: u64,
    ack_due: bool,
}

impl Inbox {
    /// Whether a sealed frame is the one expected. Every other is dropped, and told again what is expected.
    pub(super) fn is_next(&mut self, seq: u64) -> bool {
        match seq.cmp(&self.expected) {
            Ordering::Equal => true,
            Ordering::Less | Ordering::Greater => {
                self.ack_due = true;
                false
            }
        }
    }

    /// The expected frame opened.
    pub(super) fn accept(&mut self) {
        self.expected = self.expected.saturating_add(1);
        self.ack_due = true;
    }

    /// The acknowledgement to send, if one is due.
    pub(super) fn poll(&mut self, from: Role) -> Option<Bytes> {
        std::mem::take(&mut self.ack_due)
            .then(|| Header { from, kind: FrameKind::Ack, seq: self.expected }.frame(&[]).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::time::tests::start;

    fn outbox_with(frames: u8) -> Outbox {
        let mut outbox = Outbox::new();
        (0..frames).for_each(|byte| outbox.push(vec![byte; 100]));
        outbox
    }

    fn sent(outbox: &mut Outbox) -> Vec<u8> {
        std::iter::from_fn(|| outbox.poll()).map(|frame| frame[0]).collect()
    }

    #[test]
    fn the_window_holds_four_frames() {
        let mut outbox = outbox_with(3);
        assert!(outbox.has_room());
        outbox.push(vec![3]);
        assert!(!outbox.has_room());
        assert_eq!(sent(&mut outbox), [0, 1, 2, 3]);
        assert_eq!(outbox.acknowledge(2), Ok(2));
        assert!(outbox.has_room());
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let mut outbox = outbox_with(4);
        assert_eq!(sent(&mut outbox), [0, 1, 2, 3]);
        assert!(sent(&mut outbox).is_empty());
        outbox.acknowledge(1).unwrap();
        outbox.send_again();
        assert_eq!(sent(&mut outbox), [1, 2, 3]);
    }

    #[test]
    fn an_acknowledgement_beyond_what_was_sent_is_refused() {
        let mut outbox = outbox_with(2);
        assert_eq!(outbox.acknowledge(1), Err(BeyondSent));
        outbox.poll().unwrap();
        assert_eq!(outbox.acknowledge(2), Err(BeyondSent));
        assert_eq!(outbox.acknowledge(u64::MAX), Err(BeyondSent));
        assert_eq!(outbox.acknowledge(1), Ok(1));
        assert_eq!(outbox.acknowledge(0), Ok(0));
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!(outbox.acknowledge(2), Ok(1));
        assert!(outbox.frames.is_empty());
    }

    #[test]
    fn the_timer_doubles_up_to_sixteen_seconds_and_starts_anew_with_progress() {
        let mut now = start();
        let mut outbox = outbox_with(2);
        sent(&mut outbox);
        for seconds in [2, 4, 8, 16, 16] {
            outbox.arm(true, now);
            let due = outbox.next_timeout().unwrap();
            assert_eq!(due - now, Duration::from_secs(seconds));
            outbox.handle_timeout(now);
            assert!(sent(&mut outbox).is_empty());
            outbox.handle_timeout(due);
            assert_eq!(sent(&mut outbox), [0, 1]);
            now = due;
        }
        outbox.acknowledge(1).unwrap();
        outbox.arm(true, now);
        assert_eq!(outbox.next_timeout().unwrap() - now, Duration::from_secs(2));
        outbox.arm(false, now);
        assert_eq!(outbox.next_timeout(), None);
    }

    #[test]
    fn the_timer_cannot_use_up_the_quota_of_the_relay() {
        let mut now = start();
        let mut outbox = Outbox::new();
        (0..4).for_each(|_| outbox.push(vec![0; 4124]));
        let mut bytes = 0;
        loop {
            bytes += std::iter::from_fn(|| outbox.poll()).map(|frame| frame.len()).sum::<usize>();
            outbox.arm(true, now);
            let Some(due) = outbox.next_timeout() else { break };
            now = due;
            outbox.handle_timeout(now);
        }
        assert!(bytes > RESEND_BUDGET && bytes <= RESEND_BUDGET + 4 * 4124, "{bytes}");
    }

    #[test]
    fn only_the_expected_frame_is_next_and_every_other_is_answered() {
        let mut inbox = Inbox::default();
        assert!(inbox.poll(Role::New).is_none());
        assert!(!inbox.is_next(1));
        assert_eq!(inbox.poll(Role::New).unwrap()[..], [1, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(inbox.is_next(0));
        inbox.accept();
        assert!(!inbox.is_next(0));
        assert_eq!(inbox.poll(Role::New).unwrap()[..], [1, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(inbox.poll(Role::New).is_none());
    }
}
