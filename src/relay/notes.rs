//! What the sessions report, as metrics and as one log line for each session that ended.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tracing::{debug, info};

use super::SessionTag;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::session::Note;
use crate::telemetry;

/// Counts a note; `paired` is the time since both were in the session, where this node saw it.
pub(super) fn take(note: Note, session: SessionTag, paired: Option<Duration>) {
    match note {
        Note::Opened => {
            counter!(telemetry::SESSIONS_OPENED).increment(1);
            gauge!(telemetry::SESSIONS, "state" => "waiting").increment(1.0);
            debug!("session opened");
        }
        Note::Joined(after) => {
            counter!(telemetry::SESSIONS_JOINED).increment(1);
            histogram!(telemetry::SESSION_JOIN_WAIT).record(after);
            debug!("session joined");
        }
        Note::Paired => {
            gauge!(telemetry::SESSIONS, "state" => "waiting").decrement(1.0);
            gauge!(telemetry::SESSIONS, "state" => "joined").increment(1.0);
        }
        Note::MovedIn { joined } => gauge!(telemetry::SESSIONS, "state" => state(joined)).increment(1.0),
        Note::MovedOut { joined } => gauge!(telemetry::SESSIONS, "state" => state(joined)).decrement(1.0),
        Note::JoinRefused(reason) => {
            counter!(telemetry::JOINS_REFUSED, "reason" => reason.label()).increment(1);
            info!(%session, %reason, "join refused");
        }
        Note::Resumed(role) => {
            counter!(telemetry::RESUMES, "role" => role.as_str()).increment(1);
            debug!(%role, "session resumed");
        }
        Note::Relayed(from, bytes) => {
            counter!(telemetry::FRAMES_RELAYED, "from" => from.as_str()).increment(1);
            let bytes = u64::try_from(bytes.min(limits::MAX_FRAME_BYTES)).unwrap_or(0);
            counter!(telemetry::FRAME_BYTES_RELAYED, "from" => from.as_str()).increment(bytes);
        }
        Note::Dropped(from) => counter!(telemetry::FRAMES_DROPPED, "from" => from.as_str()).increment(1),
        Note::Closed(role, reason) => {
            counter!(telemetry::CONNECTIONS_CLOSED, "role" => role.as_str(), "reason" => reason.label()).increment(1);
        }
        Note::Ended { reason, age, joined, overshoot } => {
            gauge!(telemetry::SESSIONS, "state" => state(joined)).decrement(1.0);
            counter!(telemetry::SESSIONS_ENDED, "reason" => reason.label()).increment(1);
            if joined {
                counter!(telemetry::JOINED_ENDED, "reason" => reason.label()).increment(1);
            }
            histogram!(telemetry::SESSION_DURATION).record(age);
            if let Some(paired) = paired.filter(|_| reason == CloseReason::Completed) {
                histogram!(telemetry::SESSION_TRANSFER).record(paired);
            }
            if let Some(overshoot) = overshoot {
                histogram!(telemetry::DEADLINE_OVERSHOOT).record(overshoot);
            }
            info!(%session, %reason, joined, duration_ms = age.as_secs_f64() * 1e3, "session ended");
        }
    }
}

fn state(joined: bool) -> &'static str {
    if joined { "joined" } else { "waiting" }
}
