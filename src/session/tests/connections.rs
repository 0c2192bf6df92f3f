//! One rule a test: connections that are lost, resumed, silent or rude.

use std::time::Duration;

use super::rig::{Rig, SECOND, Seen, cancel, join, joined, messages, open, open_with, resume};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::protocol::message::{ClientMessage, JoinedPeer, ServerMessage};
use crate::session::Settings;
use crate::session::network_tag::Refuse;

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
