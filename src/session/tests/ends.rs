//! One rule a test: how a session ends, and what remains of it.

use std::time::Duration;

use super::rig::{LIFETIME, Rig, SECOND, Seen, join, joined, open, resume};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage};

#[test]
fn the_session_ends_at_its_deadline_and_not_earlier_whatever_happens() {
    let (mut rig, old, new) = joined();
    rig.pass(LIFETIME - Duration::from_millis(1));
    assert_eq!(rig.closed(old), None);
    rig.send(old, b"alive");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.closed(old), Some(CloseReason::Expired));
    assert_eq!(rig.closed(new), Some(CloseReason::Expired));
    rig.pass(limits::CLOSE_GRACE);
    assert!(rig.take(old).contains(&Seen::Cut) && rig.take(new).contains(&Seen::Cut) && rig.finished);
}

#[test]
fn either_app_may_cancel_and_both_hear_why() {
    for (role, reason, expected) in [
        (Role::Old, CancelReason::User, CloseReason::CancelledByOld),
        (Role::New, CancelReason::User, CloseReason::CancelledByNew),
        (Role::Old, CancelReason::WrongCode, CloseReason::WrongCode),
        (Role::Old, CancelReason::CodeTimeout, CloseReason::CodeTimeout),
        (Role::New, CancelReason::VerificationFailed, CloseReason::VerificationFailed),
    ] {
        let (mut rig, old, new) = joined();
        let by = if role == Role::Old { old } else { new };
        rig.say(by, ClientMessage::Cancel { reason });
        assert_eq!((rig.closed(old), rig.closed(new)), (Some(expected), Some(expected)));
    }
}

#[test]
fn only_old_completes_and_only_after_the_join() {
    let (mut rig, old, new) = joined();
    rig.say(new, ClientMessage::Complete {});
    assert_eq!(rig.closed(new), Some(CloseReason::UnexpectedMessage));
    assert_eq!(rig.ended(), None);
    rig.say(old, ClientMessage::Complete {});
    assert_eq!(rig.closed(old), Some(CloseReason::Completed));

    let mut rig = Rig::new();
    let old = rig.old();
    rig.say(old, ClientMessage::Complete {});
    assert_eq!(rig.closed(old), Some(CloseReason::UnexpectedMessage));
}

#[test]
fn an_app_that_was_away_at_the_end_hears_the_reason_until_half_a_minute_after_the_deadline() {
    let (mut rig, old, new) = joined();
    rig.hang_up(new);
    rig.say(old, ClientMessage::Complete {});
    rig.pass(LIFETIME + limits::TOMBSTONE_GRACE - SECOND);
    for (message, expected) in [(resume(1), CloseReason::Completed), (join(0, 2), CloseReason::Completed)] {
        let back = rig.connect(Role::New);
        rig.say(back, message);
        assert_eq!(rig.closed(back), Some(expected));
    }
    let reopening = rig.connect(Role::Old);
    rig.say(reopening, open());
    assert_eq!(rig.closed(reopening), Some(CloseReason::Completed));
    rig.pass(SECOND);
    let late = rig.connect(Role::New);
    rig.say(late, resume(1));
    assert_eq!(rig.closed(late), Some(CloseReason::NothingToResume));
}

#[test]
fn an_unknown_session_is_named_as_such() {
    let mut rig = Rig::new();
    let new = rig.connect(Role::New);
    rig.say(new, join(0, 1));
    assert_eq!(rig.closed(new), Some(CloseReason::UnknownSession));
    let old = rig.connect(Role::Old);
    rig.say(old, resume(0));
    assert_eq!(rig.closed(old), Some(CloseReason::NothingToResume));
}

#[test]
fn nothing_remains_of_a_finished_session() {
    let (mut rig, old, new) = joined();
    rig.say(old, ClientMessage::Complete {});
    rig.hang_up(old);
    assert!(!rig.finished);
    rig.hang_up(new);
    assert!(rig.finished);
    assert_eq!(rig.session.poll_timeout(), None);
}

#[test]
fn a_session_stays_while_nobody_is_there() {
    let (mut rig, old, new) = joined();
    rig.hang_up(old);
    rig.hang_up(new);
    assert!(!rig.finished);
    rig.pass(LIFETIME);
    assert_eq!(rig.ended(), Some(CloseReason::Expired));
    assert!(rig.finished);
}

#[test]
fn a_node_that_shuts_down_tells_every_connection_to_try_elsewhere() {
    let (mut rig, old, new) = joined();
    rig.session.handle_shutdown(rig.now);
    rig.pump();
    assert_eq!((rig.closed(old), rig.closed(new)), (Some(CloseReason::GoingAway), Some(CloseReason::GoingAway)));
    assert_eq!(rig.ended(), None, "the session itself goes on");
}

#[test]
fn a_directory_that_does_not_answer_is_overload() {
    let mut rig = Rig::new();
    let old = rig.connect(Role::Old);
    rig.session.handle_message(old, open(), rig.now);
    assert!(rig.session.poll_output().is_some());
    rig.session.handle_outcome(old, Err(SECOND), rig.now);
    rig.pump();
    assert_eq!(rig.closed(old), Some(CloseReason::Overloaded));
}
