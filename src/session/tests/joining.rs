//! One rule a test: opening, joining, and what goes between the two apps.

use std::time::Duration;

use super::rig::{INTERVAL, LIFETIME, Rig, SECOND, Seen, join, joined, messages, open, open_with, resume, settings};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::protocol::message::{ClientMessage, JoinedPeer, ServerMessage};
use crate::protocol::network::{Country, Network};
use crate::session::network_tag::Refuse;
use crate::session::{Note, Settings};

const BOTH_MS: u64 = 20_000;

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
