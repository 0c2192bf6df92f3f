//! The rolling QR code as numbers: which frame is due, which was shown, and whether a frame that has joined can have
//! been scanned just now. Draws nothing, and knows no secrets.

use std::time::{Duration, Instant};

use super::time::after;
use crate::protocol::limits;

/// How far a scanned frame may lie behind: the two that the relay accepts, and one for a clock that is a little off.
const FRAMES_BEHIND: u8 = limits::FRAMES_ACCEPTED;

/// What old shows, and what it has shown.
#[derive(Debug)]
pub(super) struct Picture {
    interval: Duration,
    frames: u8,
    /// The session's whole life, as far as known: what its frames are counted by.
    lifetime: Duration,
    shown: Option<u8>,
    newest_shown: Option<u8>,
    proven_at: Option<Instant>,
}

impl Picture {
    pub(super) fn new(interval: Duration, frames: u8, lifetime: Duration) -> Self {
        Self { interval, frames, lifetime, shown: None, newest_shown: None, proven_at: None }
    }

    /// The session was opened just now, and lives so long.
    pub(super) fn opened(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// Nobody had joined when this was asked: see [`Probe::proven_at`](super::probe::Probe::proven_at).
    pub(super) fn note_proven(&mut self, asked_at: Option<Instant>) {
        self.proven_at = self.proven_at.max(asked_at);
    }

    /// The frame that is due; none once the session's time is over.
    pub(super) fn due(&self, deadline: Option<Instant>, now: Instant) -> Option<u8> {
        self.number_at(now, deadline.filter(|deadline| now < *deadline)?)
    }

    /// What is shown from now on, if anything; says whether that is new.
    pub(super) fn show(&mut self, frame: Option<u8>) -> bool {
        self.newest_shown = self.newest_shown.max(frame);
        std::mem::replace(&mut self.shown, frame) != frame
    }

    /// Whether nothing that the relay has answered was asked since the frame that is shown became due.
    pub(super) fn is_unproven(&self, deadline: Option<Instant>) -> bool {
        self.shown.is_some_and(|shown| self.known(deadline).is_none_or(|known| known < shown))
    }

    /// Until when the frame that is shown is the right one.
    pub(super) fn until(&self, deadline: Option<Instant>) -> Option<Instant> {
        let deadline = deadline?;
        let end = self.interval.saturating_mul(u32::from(self.shown?).saturating_add(1));
        Some(after(self.opened_at(deadline)?, end).min(deadline))
    }

    /// Whether a frame that has joined can have been scanned just now: the relay is not trusted to refuse old ones.
    ///
    /// An honest relay told of every join that it had accepted when it answered `proven_at`. So this one came later,
    /// and the relay accepted its frame: that is at most one below the one that was due at `proven_at`. Frames that
    /// old has shown since, over a connection that was dead, do not make the scanned one older.
    pub(super) fn is_fresh(&self, frame: u8, deadline: Option<Instant>) -> bool {
        let Some(shown) = self.newest_shown else { return false };
        let known = self.known(deadline).unwrap_or(shown);
        let newest = shown.min(known.saturating_add(1));
        frame <= shown && frame.saturating_add(FRAMES_BEHIND) >= newest
    }

    /// The frame that was due when old was last proven online.
    fn known(&self, deadline: Option<Instant>) -> Option<u8> {
        self.number_at(self.proven_at?, deadline?)
    }

    fn number_at(&self, at: Instant, deadline: Instant) -> Option<u8> {
        let elapsed = at.saturating_duration_since(self.opened_at(deadline)?);
        let number = elapsed.as_millis().checked_div(self.interval.as_millis())?;
        Some(u8::try_from(number).ok()?.min(self.frames.saturating_sub(1)))
    }

    /// When frame 0 began, on the relay's clock as far as it can be known here.
    fn opened_at(&self, deadline: Instant) -> Option<Instant> {
        deadline.checked_sub(self.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::time::tests::start;

    const INTERVAL: Duration = Duration::from_secs(5);

    /// Frames 0 to `shown` were shown; the relay's newest answer was to a question of the time of frame `known`.
    fn picture(shown: u8, known: u8) -> (Picture, Instant) {
        let start = start();
        let mut picture = Picture::new(INTERVAL, 36, limits::SESSION_LIFETIME);
        picture.note_proven(Some(after(start, INTERVAL * u32::from(known))));
        for frame in 0..=shown {
            picture.show(Some(frame));
        }
        (picture, start)
    }

    fn accepted(shown: u8, known: u8) -> Vec<u8> {
        let (picture, start) = picture(shown, known);
        let deadline = Some(after(start, limits::SESSION_LIFETIME));
        (0..=255).filter(|frame| picture.is_fresh(*frame, deadline)).collect()
    }

    #[test]
    fn while_pings_are_answered_a_frame_is_good_until_three_newer_ones_were_shown() {
        assert_eq!(accepted(20, 20), [18, 19, 20]);
        assert_eq!(accepted(20, 19), [18, 19, 20], "the ping of frame 20 is on its way");
        assert_eq!(accepted(0, 0), [0]);
    }

    #[test]
    fn frames_shown_over_a_dead_connection_make_a_scanned_one_no_older() {
        assert_eq!(accepted(20, 17), [16, 17, 18, 19, 20], "the relay took 16 while 17 was due");
        assert_eq!(accepted(28, 20).first(), Some(&19));
    }

    #[test]
    fn before_anything_was_shown_nothing_can_have_been_scanned() {
        let picture = Picture::new(INTERVAL, 36, limits::SESSION_LIFETIME);
        assert!(!picture.is_fresh(0, Some(start())));
    }

    #[test]
    fn each_frame_is_due_for_one_interval_and_the_last_until_the_deadline() {
        let (mut picture, start) = picture(0, 0);
        let deadline = Some(after(start, limits::SESSION_LIFETIME));
        let due = |picture: &Picture, millis| picture.due(deadline, after(start, Duration::from_millis(millis)));
        for (millis, frame) in [(0, 0), (4999, 0), (5000, 1), (179_999, 35)] {
            assert_eq!(due(&picture, millis), Some(frame), "{millis}");
        }
        assert_eq!(due(&picture, 180_000), None);
        assert!(!picture.is_unproven(deadline));
        assert!(picture.show(Some(1)) && !picture.show(Some(1)));
        assert!(picture.is_unproven(deadline), "the ping of frame 0 says nothing about frame 1");
        assert_eq!(picture.until(deadline), Some(after(start, INTERVAL * 2)));
        assert!(picture.show(None));
        assert!(!picture.is_unproven(deadline));
        assert_eq!(picture.until(deadline), None);
    }
}
