//! What the sessions report, as metrics and as one log line for each session that ended.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{debug, info};

use super::SessionTag;
use crate::protocol::Role;
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::limits;
use crate::session::Note;
use crate::telemetry::{self, Meters};

/// Counts a note; `paired` is the time since both were in the session, where this node saw it.
pub(super) fn take(note: Note, session: SessionTag, meters: &Meters, paired: impl FnOnce() -> Option<Duration>) {
    match note {
        Note::Opened => {
            meters.opened.increment(1);
            meters.sessions(false).increment(1.0);
            debug!("session opened");
        }
        Note::Joined(after) => {
            meters.joined.increment(1);
            meters.join_wait.record(after);
            debug!("session joined");
        }
        Note::Paired => {
            meters.sessions(false).decrement(1.0);
            meters.sessions(true).increment(1.0);
        }
        Note::MovedIn { joined } => meters.sessions(joined).increment(1.0),
        Note::MovedOut { joined } => meters.sessions(joined).decrement(1.0),
        Note::JoinRefused(reason) => {
            counter!(telemetry::JOINS_REFUSED, "reason" => reason.label()).increment(1);
            info!(%session, %reason, "join refused");
        }
        Note::Resumed(role) => {
            count_resume(role, "resumed");
            debug!(%role, "session resumed");
        }
        Note::NotResumed(role, reason) => count_resume(role, not_resumed(reason)),
        Note::Relayed(from, bytes) => {
            let bytes = u64::try_from(bytes.min(limits::MAX_FRAME_BYTES)).unwrap_or(0);
            meters.count_frame(from, bytes);
        }
        Note::Dropped(from) => counter!(telemetry::FRAMES_DROPPED, "from" => from.as_str()).increment(1),
        Note::Closed(role, reason) => meters.count_close(role, reason),
        Note::Ended { reason, age, joined, overshoot } => {
            meters.sessions(joined).decrement(1.0);
            meters.count_end(reason, joined);
            meters.duration.record(age);
            if reason == CloseReason::Completed
                && let Some(paired) = paired()
            {
                meters.transfer.record(paired);
            }
            if let Some(overshoot) = overshoot {
                histogram!(telemetry::DEADLINE_OVERSHOOT).record(overshoot);
            }
            info!(%session, %reason, joined, duration_ms = age.as_secs_f64() * 1e3, "session ended");
        }
    }
}

fn count_resume(role: Role, outcome: &'static str) {
    counter!(telemetry::RESUMES, "role" => role.as_str(), "outcome" => outcome).increment(1);
}

/// The label of a resume that failed: its own reasons, or that the session is over, for whatever reason.
fn not_resumed(reason: CloseReason) -> &'static str {
    if reason.scope() == Scope::Session && reason != CloseReason::TooManyResumes { "ended" } else { reason.label() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_which_a_resume_can_end_has_its_label() {
        use CloseReason::{Completed, Expired, NothingToResume, Overloaded, Superseded, TooManyResumes};
        for reason in [NothingToResume, TooManyResumes, Superseded, Overloaded, Completed, Expired] {
            assert!(telemetry::RESUME_OUTCOMES.contains(&not_resumed(reason)), "{reason}");
        }
        assert_eq!([Completed, Expired].map(not_resumed), ["ended", "ended"]);
    }
}
