//! A session that is opened and that nobody joins: it sits there until the relay ends it. Times how long after the
//! deadline the old app was told.

use std::time::{Duration, Instant};

use handoff_relay::client::{EndReason, OldEvent, OldOutcome};
use handoff_relay::protocol::close::CloseReason;
use rand::rngs::StdRng;

use super::recorder::now;
use super::session::{APP_GRACE, Around};
use super::{handoff, labels};
use crate::stats::Phase;

/// What the clocks of both ends and the way between them may disagree by.
const EARLY: Duration = Duration::from_millis(500);

/// Runs one lurker; returns how long after the deadline it was told.
pub(super) async fn run(around: &Around, due: Instant, mut rng: StdRng) -> Result<Duration, String> {
    let mut old = handoff::start_old(around, &mut rng, vec![0; around.phone.credential])?;
    let (mut deadline, mut offline_since, mut ended_at) = (None, None, None);
    while let Some(event) = old.next_event().await {
        match event {
            OldEvent::QrShown { left, .. } if deadline.is_none() => {
                around.recorder.time(Phase::Open, now().saturating_duration_since(due));
                deadline = now().checked_add(left);
            }
            OldEvent::Ended(_) => ended_at = Some(now()),
            OldEvent::Link(event) => around.on_link(&mut offline_since, event),
            OldEvent::QrShown { .. }
            | OldEvent::QrHidden
            | OldEvent::PeerJoined { .. }
            | OldEvent::PeerIdentified(_)
            | OldEvent::AskCode { .. }
            | OldEvent::CodeAccepted
            | OldEvent::Sending { .. }
            | OldEvent::Delivered => {}
        }
    }
    match (old.join().await, deadline, ended_at) {
        (OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)), Some(deadline), Some(ended_at)) => {
            judge(deadline, ended_at)
        }
        (OldOutcome::Ended(reason), ..) => Err(labels::end_reason(reason)),
        (OldOutcome::Delivered, ..) => Err("delivered_to_nobody".to_owned()),
    }
}

fn judge(deadline: Instant, ended_at: Instant) -> Result<Duration, String> {
    let late = ended_at.saturating_duration_since(deadline);
    if deadline.saturating_duration_since(ended_at) > EARLY {
        Err("ended_early".to_owned())
    } else if late >= APP_GRACE {
        // The app has looked at its own clock: the relay said nothing.
        Err("never_told".to_owned())
    } else {
        Ok(late)
    }
}
