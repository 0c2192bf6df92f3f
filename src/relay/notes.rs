//! What the sessions report, as metrics and as one log line for each session that ended.

use std::time::Duration;

use metrics::{counter, histogram};
use tracing::{debug, info};

use super::SessionTag;
use crate::protocol::close::CloseReason;
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
            counter!(telemetry::RESUMES, "role" => role.as_str()).increment(1);
            debug!(%role, "session resumed");
        }
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
