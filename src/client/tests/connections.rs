//! What a machine does about its connection: what it says first, when it comes back, and what the person sees
//! meanwhile.

use super::*;
use crate::client::time::tests::start;
use crate::protocol::close::CloseReason;
use crate::protocol::message::{ClientMessage, ServerMessage};

pub(super) fn old() -> Old {
    Old::new(old_settings(), Zeroizing::new(credential(10)), start(), rng(1)).unwrap()
}

/// The first message of a new connection.
pub(super) fn first_message(machine: &mut impl Machine, now: Instant) -> ClientMessage {
    machine.handle_connected(now);
    match machine.poll_transmit() {
        Some(Transmit::Text(text)) => ClientMessage::decode(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn hear(machine: &mut impl Machine, message: &ServerMessage, now: Instant) {
    machine.handle_message(&message.encode(), now);
}

fn close(machine: &mut impl Machine, reason: CloseReason, now: Instant) {
    hear(machine, &ServerMessage::ended(reason, None), now);
    assert_eq!(machine.poll_transmit(), Some(Transmit::Close));
}

pub(super) fn due(machine: &impl Machine) -> Instant {
    match machine.step() {
        Step::ConnectAt(due) => due,
        other => panic!("{other:?}"),
    }
}

pub(super) const OPENED: ServerMessage = ServerMessage::Opened { expires_in_ms: 180_000 };

pub(super) fn resumed(expires_in_ms: u64) -> ServerMessage {
    ServerMessage::Resumed { expires_in_ms, peer_online: false, joined: None, public_key: None }
}

fn shown_frames(world: &World) -> Vec<Option<u8>> {
    let events = world.old_events.iter().filter_map(|event| match event {
        OldEvent::QrShown { payload, .. } => Some(Some(payload.frame)),
        OldEvent::QrHidden => Some(None),
        _ => None,
    });
    events.collect()
}

#[test]
fn an_open_whose_answer_was_lost_is_resumed() {
    let (mut old, now) = (old(), start());
    assert!(matches!(first_message(&mut old, now), ClientMessage::Open { .. }));
    old.handle_disconnected(None, now);
    let now = due(&old);
    assert!(matches!(first_message(&mut old, now), ClientMessage::Resume { .. }));
    hear(&mut old, &resumed(170_000), now);
    let shown = std::iter::from_fn(|| old.poll_event()).find_map(|event| match event {
        OldEvent::QrShown { payload, next_in, .. } => Some((payload.frame, next_in)),
        _ => None,
    });
    // Ten seconds of three minutes are gone.
    assert_eq!(shown, Some((2, Duration::from_secs(5))));
}

#[test]
fn an_open_that_never_arrived_is_said_again() {
    let (mut old, now) = (old(), start());
    let first = first_message(&mut old, now);
    old.handle_disconnected(None, now);
    let now = due(&old);
    first_message(&mut old, now);
    close(&mut old, CloseReason::NothingToResume, now);
    let now = due(&old);
    assert_eq!(first_message(&mut old, now), first);
    hear(&mut old, &OPENED, now);
    old.handle_disconnected(None, now);
    let now = due(&old);
    first_message(&mut old, now);
    close(&mut old, CloseReason::NothingToResume, now);
    assert_eq!(old.step(), Step::Finished);
    assert_eq!(old.into_outcome(), OldOutcome::Ended(EndReason::SessionLost));
}

#[test]
fn an_open_that_a_relay_at_its_limit_refused_is_said_again_on_the_next_connection() {
    for told in [true, false] {
        let (mut old, mut now) = (old(), start());
        let first = first_message(&mut old, now);
        for _ in 0..3 {
            if told {
                close(&mut old, CloseReason::Overloaded, now);
            } else {
                old.handle_disconnected(Some(CloseReason::Overloaded.code()), now);
            }
            now = due(&old);
            assert_eq!(first_message(&mut old, now), first);
        }
        // It had been opened all the same: the relay's directory was late.
        close(&mut old, CloseReason::AlreadyOpen, now);
        now = due(&old);
        assert!(matches!(first_message(&mut old, now), ClientMessage::Resume { .. }));
        hear(&mut old, &resumed(170_000), now);
        close(&mut old, CloseReason::Overloaded, now);
        now = due(&old);
        assert!(matches!(first_message(&mut old, now), ClientMessage::Resume { .. }));
    }
}

#[test]
fn a_resume_that_a_relay_at_its_limit_refused_stays_a_resume() {
    let (mut old, now) = (old(), start());
    first_message(&mut old, now);
    old.handle_disconnected(None, now);
    let now = due(&old);
    first_message(&mut old, now);
    close(&mut old, CloseReason::Overloaded, now);
    let now = due(&old);
    assert!(matches!(first_message(&mut old, now), ClientMessage::Resume { .. }));
}

#[test]
fn an_open_that_arrives_late_is_recognised_as_the_apps_own() {
    let (mut old, mut now) = (old(), start());
    first_message(&mut old, now);
    old.handle_disconnected(None, now);
    for reason in [CloseReason::NothingToResume, CloseReason::AlreadyOpen] {
        now = due(&old);
        first_message(&mut old, now);
        close(&mut old, reason, now);
    }
    now = due(&old);
    assert!(matches!(first_message(&mut old, now), ClientMessage::Resume { .. }));
    hear(&mut old, &resumed(179_000), now);
    assert_eq!(old.step(), Step::Stay);
}

#[test]
fn an_id_that_somebody_else_uses_is_the_end() {
    let (mut old, now) = (old(), start());
    first_message(&mut old, now);
    close(&mut old, CloseReason::AlreadyOpen, now);
    assert_eq!(old.into_outcome(), OldOutcome::Ended(EndReason::Closed(CloseReason::AlreadyOpen)));
}

#[test]
fn a_join_that_never_arrived_is_said_again_and_one_whose_answer_was_lost_is_not() {
    for lost_up in [true, false] {
        let mut world = world(10);
        world.run_until(|world| world.connected[at(Role::New)]);
        if !lost_up {
            world.settle();
            while world.relay.joined.is_none() {
                assert!(world.deliver_one());
            }
        }
        world.cut(Role::New);
        let world = assert_handed_over(world.run(), 10);
        assert_eq!(world.relay.resumes, u32::from(!lost_up));
    }
}

#[test]
fn the_picture_changes_every_five_seconds() {
    let mut world = world(10);
    world.scans = false;
    let (_, _, world) = world.run();
    let expected: Vec<Option<u8>> = (0..36).map(Some).chain([None]).collect();
    assert_eq!(shown_frames(&world), expected);
    let next = world.old_events.iter().find_map(|event| match event {
        OldEvent::QrShown { next_in, left, .. } => Some((*next_in, *left)),
        _ => None,
    });
    assert_eq!(next, Some((Duration::from_secs(5), limits::SESSION_LIFETIME)));
}

#[test]
fn with_the_lifetime_as_interval_there_is_one_static_picture() {
    let settings = OldSettings { interval: limits::SESSION_LIFETIME, ..old_settings() };
    let mut world = World::new(settings, Zeroizing::new(credential(10)));
    world.scans = false;
    let (_, _, world) = world.run();
    assert_eq!(shown_frames(&world), [Some(0), None]);
}

#[test]
fn intervals_and_lifetimes_outside_the_protocol_are_refused() {
    for (interval, lifetime, error) in [
        (0, 180_000, TransferError::BadInterval),
        (999, 180_000, TransferError::BadInterval),
        (180_001, 180_000, TransferError::BadInterval),
        (1000, 180_001, TransferError::BadLifetime),
        (1000, 0, TransferError::BadLifetime),
    ] {
        let [interval, lifetime] = [interval, lifetime].map(Duration::from_millis);
        let settings = OldSettings { interval, lifetime, ..old_settings() };
        assert_eq!(Old::new(settings, Zeroizing::default(), start(), rng(1)).unwrap_err(), error);
    }
}

#[test]
fn while_old_is_offline_it_shows_no_picture() {
    let mut world = world(10);
    world.scans = false;
    world.run_for(Duration::from_secs(7));
    assert_eq!(shown_frames(&world), [Some(0), Some(1)]);
    world.cut(Role::Old);
    world.unreachable = Some(ConnectFailure::Connect);
    world.run_for(Duration::from_secs(20));
    assert_eq!(shown_frames(&world), [Some(0), Some(1), None]);
    world.unreachable = None;
    world.scans = true;
    world.run_until(|world| world.new.is_some());
    assert!(world.shown().unwrap().frame >= 5);
    assert_handed_over(world.run(), 10);
}

#[test]
fn a_join_that_old_did_not_hear_of_is_told_when_it_is_back() {
    let mut world = world(10);
    world.scans = false;
    world.run_for(Duration::from_secs(2));
    let shown = world.shown().unwrap().clone();
    world.cut(Role::Old);
    world.scan(shown);
    world.run_until(|world| !world.new_events.is_empty());
    let world = assert_handed_over(world.run(), 10);
    assert!(world.new_events.contains(&NewEvent::Link(LinkEvent::PeerOnline)) || world.relay.resumes == 1);
}

#[test]
fn each_side_hears_that_the_other_is_away_and_back() {
    let mut world = world(10);
    world.types = false;
    world.run_until(|world| world.asked && world.shown_code.is_some());
    world.cut(Role::New);
    world.types = true;
    let world = assert_handed_over(world.run(), 10);
    let old: Vec<_> = world.old_events.iter().filter(|event| matches!(event, OldEvent::Link(_))).collect();
    assert!(
        old.contains(&&OldEvent::Link(LinkEvent::PeerOffline)) && old.contains(&&OldEvent::Link(LinkEvent::PeerOnline))
    );
    let offline = world.new_events.iter().position(|event| {
        matches!(event, NewEvent::Link(LinkEvent::Offline { attempt: 1, cause: OfflineCause::Lost, .. }))
    });
    let online = world.new_events.iter().position(|event| *event == NewEvent::Link(LinkEvent::Online));
    assert!(offline.unwrap() < online.unwrap());
}

#[test]
fn a_relay_that_does_not_answer_the_first_message_is_left_after_ten_seconds() {
    let (mut old, now) = (old(), start());
    first_message(&mut old, now);
    assert_eq!(old.poll_timeout(), Some(now + Duration::from_secs(10)));
    old.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(old.poll_transmit(), Some(Transmit::Close));
    assert!(due(&old) > now + Duration::from_secs(10));
}

#[test]
fn waits_double_and_start_anew_after_a_connection_that_lasted() {
    let (mut old, mut now) = (old(), start());
    first_message(&mut old, now);
    hear(&mut old, &OPENED, now);
    let mut waits = Vec::new();
    for lasted in [0, 0, 0, 2, 0] {
        now += Duration::from_secs(lasted);
        old.handle_disconnected(None, now);
        waits.push((due(&old) - now).as_millis());
        now = due(&old);
        first_message(&mut old, now);
        hear(&mut old, &resumed(170_000), now);
    }
    for (wait, most) in waits.iter().zip([100, 200, 400, 100, 200]) {
        assert!((most / 2..=most).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_relay_that_asks_for_time_gets_it() {
    let (mut old, now) = (old(), start());
    first_message(&mut old, now);
    hear(&mut old, &OPENED, now);
    hear(&mut old, &ServerMessage::ended(CloseReason::Overloaded, Some(7000)), now);
    assert_eq!(due(&old) - now, Duration::from_secs(7));
    let now = due(&old);
    let busy = ConnectFailure::Busy { status: 503, retry_after: Some(Duration::from_secs(9)) };
    old.handle_connect_failed(busy, now);
    assert_eq!(due(&old) - now, Duration::from_secs(9));
}

#[test]
fn a_busy_relay_is_waited_for_longer_than_an_absent_one() {
    let wait = Duration::from_secs(80);
    let (mut old, now) = (old(), start());
    old.handle_connect_failed(ConnectFailure::Busy { status: 429, retry_after: Some(wait) }, now);
    old.handle_timeout(now + DEFAULT_PATIENCE);
    assert_eq!(due(&old), now + wait);
    assert!(matches!(first_message(&mut old, now + wait), ClientMessage::Open { .. }));
}

#[test]
fn a_handshake_that_was_refused_for_good_is_the_end() {
    for (status, refusal) in [
        (400, HttpRefusal::BadRequest),
        (401, HttpRefusal::Unauthorized),
        (403, HttpRefusal::Forbidden),
        (404, HttpRefusal::NotFound),
        (410, HttpRefusal::Other(410)),
    ] {
        let mut old = old();
        old.handle_connect_failed(ConnectFailure::from_status(status, None), start());
        assert_eq!(old.step(), Step::Finished);
        assert_eq!(old.into_outcome(), OldOutcome::Ended(EndReason::Refused(refusal)));
    }
}

#[test]
fn if_no_relay_ever_answers_the_last_failure_is_named_after_a_minute() {
    let mut world = world(10);
    world.unreachable = Some(ConnectFailure::Tls);
    let (old, _, world) = world.run();
    assert_eq!(old, OldOutcome::Ended(EndReason::Unreachable(ConnectFailure::Tls)));
    assert_eq!(world.elapsed(), DEFAULT_PATIENCE);
    assert!(shown_frames(&world).is_empty());
}

#[test]
fn what_belongs_to_a_connection_that_was_given_up_is_ignored() {
    let (mut old, now) = (old(), start());
    first_message(&mut old, now);
    hear(&mut old, &OPENED, now);
    close(&mut old, CloseReason::GoingAway, now);
    let step = old.step();
    old.handle_disconnected(Some(CloseReason::Expired.code()), now);
    hear(&mut old, &ServerMessage::ended(CloseReason::Expired, None), now);
    old.handle_frame(&[1, 2, 3], now);
    assert_eq!(old.step(), step);
}
