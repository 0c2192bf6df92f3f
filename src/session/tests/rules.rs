//! One rule a test.

use std::time::Duration;

use super::rig::{INTERVAL, LIFETIME, Rig, Seen, cancel, join, open, open_with, resume, settings};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};
use crate::protocol::network::{Country, Network};
use crate::session::network_tag::Refuse;
use crate::session::{ConnectionId, Note, Settings};

const SECOND: Duration = Duration::from_secs(1);
const BOTH_MS: u64 = 20_000;

fn joined() -> (Rig, ConnectionId, ConnectionId) {
    let mut rig = Rig::new();
    let old = rig.old();
    let new = rig.new_app();
    rig.take(old);
    rig.take(new);
    (rig, old, new)
}

fn messages(seen: Vec<Seen>) -> Vec<ServerMessage> {
    let message = |seen| match seen {
        Seen::Message(message) => Some(message),
        Seen::Data(_) | Seen::Ping | Seen::Close(_) | Seen::Cut => None,
    };
    seen.into_iter().filter_map(message).collect()
}

#[test]
fn old_opens_new_joins_and_each_hears_it() {
    let mut rig = Rig::new();
    let old = rig.old();
    assert_eq!(messages(rig.take(old)), [ServerMessage::Opened { expires_in_ms: BOTH_MS }]);
    rig.pass(SECOND);
    let new = rig.new_app();
    let [ServerMessage::Joined { expires_in_ms: 19_000, peer_online: true, .. }] = messages(rig.take(new))[..] else {
        panic!("joined, with the time left");
    };
    let peer = JoinedPeer { frame: 0, network: Network::SameAddress, country: Country::Unknown };
    assert_eq!(messages(rig.take(old)), [ServerMessage::PeerJoined(peer)]);
}

#[test]
fn data_goes_to_the_other_app_in_order() {
    let (mut rig, old, new) = joined();
    rig.send(new, b"hello");
    rig.send(old, b"one");
    rig.send(old, b"two");
    assert_eq!(rig.take(old), [Seen::Data("hello".into())]);
    assert_eq!(rig.take(new), [Seen::Data("one".into()), Seen::Data("two".into())]);
}

#[test]
fn data_before_the_join_closes_the_connection_and_not_the_session() {
    let mut rig = Rig::new();
    let old = rig.old();
    rig.send(old, b"early");
    assert_eq!(rig.closed(old), Some(CloseReason::UnexpectedData));
    assert!(rig.session.is_open());
}

#[test]
fn data_for_an_app_that_is_away_is_dropped_and_never_kept() {
    let (mut rig, old, new) = joined();
    rig.hang_up(new);
    rig.send(old, b"lost");
    assert_eq!(rig.notes.last(), Some(&Note::Dropped(Role::Old)));
    let again = rig.connect(Role::New);
    rig.say(again, resume(1));
    assert!(!rig.take(again).iter().any(|seen| matches!(seen, Seen::Data(_))));
}

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
fn a_second_valid_join_ends_the_session_for_everybody() {
    let (mut rig, old, new) = joined();
    let thief = rig.connect(Role::New);
    rig.say(thief, join(0, 2));
    for id in [old, new, thief] {
        assert_eq!(rig.closed(id), Some(CloseReason::ScannedTwice));
    }
}

#[test]
fn a_second_valid_join_ends_the_session_also_while_the_first_is_away() {
    let (mut rig, old, new) = joined();
    rig.hang_up(new);
    let thief = rig.connect(Role::New);
    rig.say(thief, join(0, 2));
    assert_eq!(rig.closed(thief), Some(CloseReason::ScannedTwice));
    assert_eq!(rig.closed(old), Some(CloseReason::ScannedTwice));
    let back = rig.connect(Role::New);
    rig.say(back, resume(1));
    assert_eq!(rig.closed(back), Some(CloseReason::ScannedTwice), "the first hears it when it comes back");
}

#[test]
fn a_wrong_join_proof_is_refused_and_ends_nothing() {
    let (mut rig, old, new) = joined();
    let guesser = rig.connect(Role::New);
    let ClientMessage::Join { proof, resume_hash, .. } = join(1, 2) else { unreachable!() };
    rig.say(guesser, ClientMessage::Join { frame: 0, proof, resume_hash });
    assert_eq!(rig.closed(guesser), Some(CloseReason::BadJoinProof));
    assert!(rig.notes.contains(&Note::JoinRefused(CloseReason::BadJoinProof)));
    assert_eq!((rig.closed(old), rig.closed(new)), (None, None));
}

#[test]
fn the_current_and_the_previous_frame_are_accepted_and_no_other() {
    for (seconds, frame, expected) in [
        (0, 0, None),
        (4, 0, None),
        (5, 0, None),
        (9, 0, None),
        (10, 0, Some(CloseReason::StaleFrame)),
        (10, 1, None),
        (10, 2, None),
        (4, 1, Some(CloseReason::StaleFrame)),
        (0, 4, Some(CloseReason::BadJoinProof)),
    ] {
        let mut rig = Rig::new();
        rig.old();
        rig.pass(SECOND * seconds);
        let new = rig.connect(Role::New);
        rig.say(new, join(frame, 1));
        assert_eq!(rig.closed(new), expected, "frame {frame} after {seconds} s");
        assert!(rig.session.is_open());
    }
}

#[test]
fn one_frame_for_the_whole_lifetime_is_the_static_code() {
    let mut rig = Rig::new();
    let old = rig.connect(Role::Old);
    rig.say(old, open_with(LIFETIME, 1));
    rig.pass(LIFETIME - SECOND);
    let new = rig.connect(Role::New);
    rig.say(new, join(0, 1));
    assert_eq!(rig.closed(new), None);
}

#[test]
fn an_offer_must_fit_the_relays_intervals_and_name_every_frame() {
    for (interval, frames) in [(INTERVAL, 3), (INTERVAL, 5), (INTERVAL, 0), (SECOND, 20), (Duration::ZERO, 4)] {
        let mut rig = Rig::new();
        let old = rig.connect(Role::Old);
        rig.say(old, open_with(interval, frames));
        assert_eq!(rig.closed(old), Some(CloseReason::BadOffer), "{interval:?} {frames}");
        assert_eq!(rig.route, None);
    }
}

#[test]
fn an_id_is_opened_once() {
    let mut rig = Rig::new();
    rig.old();
    let other = rig.connect(Role::Old);
    rig.say(other, open());
    assert_eq!(rig.closed(other), Some(CloseReason::AlreadyOpen));
    assert!(rig.session.is_open());
}

#[test]
fn resume_takes_the_seat_back_and_tells_the_peer_to_send_again() {
    let (mut rig, old, new) = joined();
    rig.hang_up(new);
    assert_eq!(messages(rig.take(old)), [ServerMessage::PeerOffline {}]);
    let back = rig.connect(Role::New);
    rig.say(back, resume(1));
    let [ServerMessage::Resumed { peer_online: true, joined: None, public_key: Some(_), .. }] =
        &messages(rig.take(back))[..]
    else {
        panic!("resumed, with the key in case `joined` was lost");
    };
    assert_eq!(messages(rig.take(old)), [ServerMessage::PeerOnline {}]);
}

#[test]
fn old_hears_of_a_join_that_happened_while_it_was_away() {
    let mut rig = Rig::new();
    let old = rig.old();
    rig.hang_up(old);
    let new = rig.new_app();
    let [ServerMessage::Joined { peer_online: false, .. }] = messages(rig.take(new))[..] else { panic!("joined") };
    let back = rig.connect(Role::Old);
    rig.say(back, resume(0));
    let [ServerMessage::Resumed { joined: Some(JoinedPeer { frame: 0, .. }), peer_online: true, .. }] =
        messages(rig.take(back))[..]
    else {
        panic!("resumed, with what peer_joined would have said");
    };
}

#[test]
fn old_hears_of_a_join_whose_connection_did_not_wait_for_the_answer() {
    let mut rig = Rig::new();
    let old = rig.old();
    rig.take(old);
    let new = rig.connect(Role::New);
    rig.say_unanswered(new, join(0, 1));
    rig.session.handle_disconnect(new);
    rig.hang_up(new);
    assert!(
        matches!(messages(rig.take(old))[..], [ServerMessage::PeerJoined(_), ServerMessage::PeerOffline {}]),
        "joined, and gone"
    );
}

#[test]
fn a_newer_connection_supersedes_the_older_one() {
    let (mut rig, old, new) = joined();
    let newer = rig.connect(Role::Old);
    rig.say(newer, resume(0));
    assert_eq!(rig.closed(old), Some(CloseReason::Superseded));
    assert_eq!(messages(rig.take(new)), [ServerMessage::PeerOnline {}], "frames may have been lost: send again");
    rig.hang_up(old);
    rig.send(new, b"to the newer one");
    assert!(rig.take(newer).contains(&Seen::Data("to the newer one".into())));
}

#[test]
fn a_resume_needs_the_token_of_its_role() {
    let (mut rig, ..) = joined();
    for (role, app) in [(Role::Old, 1), (Role::New, 0), (Role::Old, 7), (Role::New, 7)] {
        let id = rig.connect(role);
        rig.say(id, resume(app));
        assert_eq!(rig.closed(id), Some(CloseReason::NothingToResume), "{role} {app}");
    }
    assert!(rig.session.is_open());
}

#[test]
fn joining_again_with_the_same_token_counts_as_a_resume() {
    let (mut rig, old, new) = joined();
    rig.hang_up(new);
    rig.pass(SECOND * 12);
    let again = rig.connect(Role::New);
    rig.say(again, join(0, 1));
    assert!(matches!(messages(rig.take(again))[..], [ServerMessage::Joined { .. }]));
    assert_eq!(messages(rig.take(old)), [ServerMessage::PeerOffline {}, ServerMessage::PeerOnline {}]);
}

#[test]
fn thirty_lost_connections_are_survived_and_one_more_is_not() {
    let (mut rig, _, mut new) = joined();
    for lost in 1..=limits::MAX_RESUMES {
        rig.hang_up(new);
        new = rig.connect(Role::New);
        rig.say(new, resume(1));
        assert_eq!(rig.closed(new), None, "{lost}");
    }
    let last = rig.connect(Role::New);
    rig.say(last, resume(1));
    assert_eq!(rig.closed(last), Some(CloseReason::TooManyResumes));
    assert_eq!(rig.ended(), Some(CloseReason::TooManyResumes));
}

#[test]
fn a_session_carries_512_frames_and_a_mebibyte_a_direction() {
    let (mut rig, old, new) = joined();
    (0..limits::MAX_DIRECTION_FRAMES).for_each(|_| rig.send(old, b"x"));
    assert_eq!(rig.ended(), None);
    rig.send(new, &vec![0; limits::MAX_FRAME_BYTES]);
    rig.send(old, b"x");
    assert_eq!(rig.ended(), Some(CloseReason::QuotaExceeded));

    let (mut rig, _, new) = joined();
    (0..16).for_each(|_| rig.send(new, &vec![0; limits::MAX_FRAME_BYTES]));
    assert_eq!(rig.ended(), None);
    rig.send(new, b"x");
    assert_eq!(rig.ended(), Some(CloseReason::QuotaExceeded));
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
fn the_first_message_must_fit_the_role_and_come_in_time() {
    for (role, message) in
        [(Role::Old, join(0, 1)), (Role::New, open()), (Role::Old, cancel()), (Role::New, ClientMessage::Complete {})]
    {
        let mut rig = Rig::new();
        let id = rig.connect(role);
        rig.say(id, message);
        assert_eq!(rig.closed(id), Some(CloseReason::UnexpectedMessage));
    }
    let mut rig = Rig::new();
    let silent = rig.connect(Role::New);
    rig.pass(limits::FIRST_MESSAGE_TIMEOUT - Duration::from_millis(1));
    assert_eq!(rig.closed(silent), None);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.closed(silent), Some(CloseReason::FirstMessageTimeout));
}

#[test]
fn a_second_first_message_is_unexpected() {
    let (mut rig, old, _) = joined();
    rig.say(old, resume(0));
    assert_eq!(rig.closed(old), Some(CloseReason::UnexpectedMessage));
}

#[test]
fn connections_that_say_nothing_cannot_crowd_a_session() {
    let mut rig = Rig::new();
    let waiting: Vec<_> = (0..limits::MAX_UNIDENTIFIED).map(|_| rig.connect(Role::New)).collect();
    let one_more = rig.connect(Role::New);
    assert_eq!(rig.closed(one_more), Some(CloseReason::Crowded));
    assert!(waiting.into_iter().all(|id| rig.closed(id).is_none()));
}

#[test]
fn a_silent_connection_is_dead_after_two_missed_pings() {
    let lifetime = limits::SESSION_LIFETIME;
    let mut rig = Rig::with(Settings { lifetime, intervals: vec![lifetime], refuse: Refuse::Nothing });
    let old = rig.connect(Role::Old);
    rig.say(old, open_with(lifetime, 1));
    rig.pass(limits::SILENCE_TIMEOUT - Duration::from_millis(1));
    let seen = rig.take(old);
    assert_eq!(seen.iter().filter(|seen| **seen == Seen::Ping).count(), 2);
    assert!(seen.contains(&Seen::Message(ServerMessage::Tick { expires_in_ms: 155_000 })));
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.closed(old), Some(CloseReason::Unresponsive));
    assert!(limits::SILENCE_TIMEOUT < Duration::from_secs(40));
}

#[test]
fn a_flood_of_pings_closes_the_connection_and_not_the_session() {
    let (mut rig, old, new) = joined();
    // `join` was the first control frame of this connection.
    (1..limits::MAX_CONTROL_FRAMES).for_each(|_| rig.heartbeat(new));
    assert_eq!(rig.closed(new), None);
    rig.heartbeat(new);
    assert_eq!(rig.closed(new), Some(CloseReason::Flooding));
    assert!(messages(rig.take(old)).contains(&ServerMessage::PeerOffline {}));
    assert!(rig.session.is_open());
}

#[test]
fn empty_binary_messages_are_counted_with_the_pings() {
    let (mut rig, _, new) = joined();
    (1..limits::MAX_CONTROL_FRAMES).for_each(|_| rig.send(new, b""));
    assert_eq!(rig.closed(new), None);
    rig.send(new, b"");
    assert_eq!(rig.closed(new), Some(CloseReason::Flooding));
    assert!(rig.session.is_open());
}

#[test]
fn a_peer_that_does_not_read_is_closed_alone() {
    let (mut rig, old, new) = joined();
    rig.violate(new, CloseReason::TooSlow);
    assert_eq!(rig.closed(new), Some(CloseReason::TooSlow));
    assert_eq!(messages(rig.take(old)), [ServerMessage::PeerOffline {}]);
    rig.pass(limits::CLOSE_GRACE);
    assert!(rig.take(new).contains(&Seen::Cut));
}

#[test]
fn a_policy_may_refuse_different_networks() {
    let mut rig = Rig::with(Settings { refuse: Refuse::Different, ..settings() });
    let old = rig.old();
    let far = rig.connect_from(Role::New, 2);
    rig.say(far, join(0, 1));
    assert_eq!(
        (rig.closed(old), rig.closed(far)),
        (Some(CloseReason::NetworkRefused), Some(CloseReason::NetworkRefused))
    );

    let mut rig = Rig::with(Settings { refuse: Refuse::Different, ..settings() });
    let old = rig.old();
    rig.new_app();
    assert_eq!(rig.closed(old), None);
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
