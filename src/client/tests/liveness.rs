//! Connections that die without a word: how an app finds out, and why nothing is lost by it, least of all the join of a
//! person who scanned meanwhile.

use super::connections::{OPENED, due, first_message, hear, old, resumed};
use super::*;
use crate::protocol::message::{JoinedPeer, ServerMessage};
use crate::protocol::network::{Country, Network};

/// An old app that shows frame 0, and when it opened the session.
fn shown() -> (Old, Instant) {
    let (mut old, start) = (old(), start());
    first_message(&mut old, start);
    hear(&mut old, &OPENED, start);
    (old, start)
}

#[test]
fn each_new_picture_pings_the_relay_and_a_ping_unanswered_for_four_seconds_takes_it_away() {
    let (mut old, start) = shown();
    let at_ms = |millis| start + Duration::from_millis(millis);
    assert_eq!(old.poll_transmit(), None, "the answer to the first message is as good as a pong");
    for change in [5000, 10_000] {
        old.handle_timeout(at_ms(change));
        assert_eq!(old.poll_transmit(), Some(Transmit::Ping));
        // Nothing that the relay may have sent before the ping counts.
        hear(&mut old, &ServerMessage::Tick { expires_in_ms: 180_000 - change }, at_ms(change + 1));
        old.handle_timeout(at_ms(change + 3999));
        assert_eq!(old.step(), Step::Stay);
        if change == 5000 {
            old.handle_pong(at_ms(change + 3999));
        }
    }
    assert_eq!(old.poll_timeout(), Some(at_ms(14_000)));
    old.handle_timeout(at_ms(14_000));
    assert_eq!(old.poll_transmit(), Some(Transmit::Close));
    let last = std::iter::from_fn(|| old.poll_event()).collect::<Vec<_>>();
    assert!(last.contains(&OldEvent::QrHidden));
    assert!(last.iter().any(|e| matches!(e, OldEvent::Link(LinkEvent::Offline { cause: OfflineCause::Silent, .. }))));
    assert!(due(&old) <= at_ms(14_100));
}

#[test]
fn without_a_picture_that_changes_a_ping_goes_out_every_five_seconds() {
    let settings = OldSettings { interval: limits::SESSION_LIFETIME, ..old_settings() };
    let mut world = World::new(settings, Zeroizing::new(credential(10)));
    world.types = false;
    world.run_until(|world| world.asked);
    for role in Role::BOTH {
        let before = world.relay.pings(role);
        world.run_for(Duration::from_secs(22));
        assert_eq!(world.relay.pings(role) - before, 4, "{role}");
    }
}

#[test]
fn the_pings_of_the_shortest_interval_leave_room_for_the_relays_own() {
    let settings = OldSettings { interval: limits::MIN_FRAME_INTERVAL, ..old_settings() };
    let mut world = World::new(settings, Zeroizing::new(credential(10)));
    world.scans = false;
    world.run_until(|world| world.elapsed() >= Duration::from_secs(179));
    let pings = world.relay.pings(Role::Old);
    assert!((170..=180).contains(&pings), "{pings}");
    let answers = limits::SESSION_LIFETIME.div_duration_f64(limits::PING_INTERVAL).ceil();
    assert!(f64::from(pings) + answers + 3.0 < f64::from(limits::MAX_CONTROL_FRAMES));
}

#[test]
fn where_pings_are_never_answered_the_waits_grow_and_the_resumes_suffice() {
    let (mut old, start) = shown();
    let (mut resumes, mut left) = (0, 180_000);
    while old.step() != Step::Finished {
        let due = if let Step::ConnectAt(due) = old.step() { Some(due) } else { None };
        let now = due.or(old.poll_timeout()).unwrap();
        left = 180_000_u64.saturating_sub(u64::try_from((now - start).as_millis()).unwrap());
        if due.is_some() && left > 0 {
            first_message(&mut old, now);
            hear(&mut old, &resumed(left), now);
            resumes += 1;
        } else {
            old.handle_timeout(now);
        }
        while old.poll_transmit().is_some() {}
    }
    assert_eq!(left, 0);
    assert!((10..limits::MAX_RESUMES).contains(&resumes), "{resumes}");
}

/// Old's connection dies, new scans a frame that is still on the screen, and joins with it when the relay still takes
/// it. Returns how many frames old had shown since, if the join was possible.
fn scan_while_dead(interval: u64, dies_at: u64, scans_after: u64, joins_after: u64) -> Option<u8> {
    let interval = Duration::from_millis(interval);
    let mut world = World::new(OldSettings { interval, ..old_settings() }, Zeroizing::new(credential(10)));
    world.scans = false;
    world.run_for(Duration::from_millis(dies_at));
    world.dead[at(Role::Old)] = true;
    world.run_for(Duration::from_millis(scans_after));
    let scanned = world.shown()?.clone();
    world.run_for(Duration::from_millis(joins_after));
    let current = world.elapsed().as_millis() / interval.as_millis();
    if u128::from(scanned.frame) + 1 < current {
        return None;
    }
    let frame = scanned.frame;
    world.scan(scanned);
    let world = assert_handed_over(world.run(), 10);
    let newest = world.old_events.iter().filter_map(|event| match event {
        OldEvent::QrShown { payload, .. } => Some(payload.frame),
        _ => None,
    });
    newest.max().map(|newest| newest - frame)
}

#[test]
fn a_frame_scanned_over_a_dead_connection_is_accepted_whenever_the_relay_accepts_it() {
    for interval in [1000, 2500, 5000, 7000, 180_000] {
        let mut ages = Vec::new();
        for dies_at in (100..11_000).step_by(1100) {
            for scans_after in (0..=9000).step_by(1500) {
                for joins_after in [0, 900, 4900, 9900] {
                    ages.extend(scan_while_dead(interval, dies_at, scans_after, joins_after));
                }
            }
        }
        let oldest = ages.iter().max().unwrap();
        println!("interval {interval} ms: {} joins, the oldest {oldest} frames below the newest shown", ages.len());
        // What an old app that looks at nothing but its screen would refuse.
        assert!(interval < 5000 || *oldest <= 2, "{interval}: {oldest}");
    }
}

#[test]
fn a_phone_that_slept_accepts_what_was_scanned_before() {
    let (mut old, start) = shown();
    let at_ms = |millis| start + Duration::from_millis(millis);
    old.handle_timeout(at_ms(5000));
    old.handle_pong(at_ms(5050));
    // Frame 1 is on the screen; the app stands still for half a minute, and the join waits to be read.
    old.handle_timeout(at_ms(35_000));
    let joined = JoinedPeer { frame: 0, network: Network::Unknown, country: Country::Unknown };
    hear(&mut old, &ServerMessage::PeerJoined(joined), at_ms(35_001));
    assert!(std::iter::from_fn(|| old.poll_event()).any(|event| matches!(event, OldEvent::PeerJoined { .. })));
}

#[test]
fn a_last_word_over_a_dead_connection_is_said_again_in_time() {
    let mut world = world(10);
    world.run_until(|world| world.old_events.contains(&OldEvent::CodeAccepted));
    world.run_until(|world| world.new_events.contains(&NewEvent::CredentialReceived));
    world.settle();
    while !world.old_events.contains(&OldEvent::Delivered) {
        assert!(world.deliver_one());
        world.settle();
    }
    world.dead[at(Role::Old)] = true;
    let world = assert_handed_over(world.run(), 10);
    assert!(world.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_picture_that_appears_after_a_slow_answer_is_pinged_at_once() {
    let (mut old, start) = shown();
    let at_ms = |millis| start + Duration::from_millis(millis);
    old.handle_disconnected(None, at_ms(1000));
    let back_at = due(&old);
    first_message(&mut old, back_at);
    hear(&mut old, &resumed(174_500), at_ms(5500));
    assert_eq!(old.poll_transmit(), Some(Transmit::Ping), "frame 1 was not due yet when the relay was asked");
}

#[test]
fn a_relay_that_withholds_its_pongs_makes_no_frame_good_for_longer() {
    for (told, accepted) in [(4, true), (2, true), (1, false)] {
        let (mut old, start) = shown();
        let at_ms = |millis| start + Duration::from_millis(millis);
        for change in [5000, 10_000, 15_000, 20_000] {
            old.handle_timeout(at_ms(change));
            assert_eq!(old.poll_transmit(), Some(Transmit::Ping));
            if change < 20_000 {
                old.handle_pong(at_ms(change + 50));
            }
        }
        // Frame 4 is on the screen, and the picture will be gone in a moment.
        let joined = JoinedPeer { frame: told, network: Network::Unknown, country: Country::Unknown };
        hear(&mut old, &ServerMessage::PeerJoined(joined), at_ms(23_999));
        let events: Vec<_> = std::iter::from_fn(|| old.poll_event()).collect();
        assert_eq!(events.iter().any(|event| matches!(event, OldEvent::PeerJoined { .. })), accepted, "{told}");
    }
}
