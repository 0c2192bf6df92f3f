//! The credential arrives: in every size, and whatever the network does short of stopping.

use proptest::prelude::*;

use super::*;
use crate::client::time::tests::start;
use crate::crypto::ChannelError;

#[test]
fn a_credential_of_any_size_arrives() {
    for length in [0, 1, 4084, 4085, 262_144] {
        let world = assert_handed_over(world(length).run(), length);
        assert_eq!(world.relay.resumes, 0, "{length}");
    }
}

#[test]
fn a_credential_that_is_too_large_never_starts() {
    let transfer = Old::new(old_settings(), Zeroizing::new(credential(262_145)), start(), rng(1));
    assert_eq!(transfer.unwrap_err(), TransferError::Channel(ChannelError::CredentialTooLarge));
}

#[test]
fn the_old_app_tells_its_story_in_order() {
    let world = assert_handed_over(world(5000).run(), 5000);
    let story: Vec<String> = world.old_events.iter().map(|event| format!("{event:?}")).collect();
    let names: Vec<&str> = story.iter().map(|event| event.split([' ', '(']).next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "Link",
            "QrShown",
            "PeerJoined",
            "QrHidden",
            "PeerIdentified",
            "AskCode",
            "CodeAccepted",
            "Sending",
            "Sending",
            "Delivered"
        ]
    );
    assert!(matches!(world.old_events[7], OldEvent::Sending { sent: 4084, total: 5000 }));
    assert!(matches!(world.old_events[8], OldEvent::Sending { sent: 5000, total: 5000 }));
}

#[test]
fn the_new_app_tells_its_story_in_order() {
    let world = assert_handed_over(world(5000).run(), 5000);
    let code = world.shown_code.clone().unwrap();
    assert_eq!(
        world.new_events,
        [
            NewEvent::Link(LinkEvent::Waiting { left: limits::SESSION_LIFETIME }),
            NewEvent::Joined,
            NewEvent::PeerIdentified(device("old phone")),
            NewEvent::ShowCode(code),
            NewEvent::CodeAccepted,
            NewEvent::Receiving { received: 4084, total: 5000 },
            NewEvent::Receiving { received: 5000, total: 5000 },
            NewEvent::CredentialReceived,
            NewEvent::Confirmed,
        ]
    );
    assert!(world.old_events.contains(&OldEvent::PeerIdentified(device("new phone"))));
}

#[test]
fn no_event_and_no_machine_can_print_a_secret() {
    let mut world = world(64);
    world.run_until(|world| world.new_events.contains(&NewEvent::CredentialReceived));
    let code = world.shown_code.as_ref().unwrap().to_string();
    let text = world.old_events.iter().find_map(|event| match event {
        OldEvent::QrShown { payload, .. } => Some(payload.to_text()),
        _ => None,
    });
    let printed = format!("{:?} {:?} {:?} {:?}", world.old, world.new, world.old_events, world.new_events);
    assert!(!printed.contains(&code) && !printed.contains(text.unwrap().as_str()), "{printed}");
    assert!(!printed.contains(&format!("{:?}", &credential(64)[..8]).trim_matches(['[', ']']).to_owned()));
}

#[test]
fn a_connection_lost_after_any_message_costs_nothing_but_time() {
    let length = 9000;
    let messages = assert_handed_over(world(length).run(), length).delivered;
    assert!(messages > 20, "{messages}");
    for after in 1..=messages {
        for role in Role::BOTH {
            let mut world = world(length);
            world.cuts = vec![(after, role)];
            assert_handed_over(world.run(), length);
        }
        let mut world = world(length);
        world.cuts = vec![(after, Role::Old), (after, Role::New)];
        assert_handed_over(world.run(), length);
    }
}

#[test]
fn thirty_lost_connections_of_the_largest_credential_stay_within_the_quotas() {
    for seed in 0..6 {
        let mut rng = rng(seed);
        let length = limits::MAX_CREDENTIAL_BYTES;
        let mut world = world(length);
        world.cuts = (0..30).map(|cut| (20 + 9 * cut, Role::BOTH[usize::from(rng.random::<bool>())])).collect();
        let world = assert_handed_over(world.run(), length);
        assert!(world.relay.resumes >= 25, "{}", world.relay.resumes);
    }
}

#[test]
fn frames_that_arrive_twice_count_once() {
    let mut world = world(20_000);
    world.weather = Box::new(|_, frame| vec![frame.clone(), frame]);
    assert_handed_over(world.run(), 20_000);
}

#[test]
fn a_frame_that_nobody_reported_lost_is_sent_again_after_two_seconds() {
    for lost in 0..12 {
        let mut world = world(9000);
        let mut seen = 0;
        world.weather = Box::new(move |_, frame| {
            seen += 1;
            if seen == lost { vec![] } else { vec![frame] }
        });
        let world = assert_handed_over(world.run(), 9000);
        assert!(world.elapsed() <= Duration::from_secs(2), "{lost}: {:?}", world.elapsed());
    }
}

/// Loses, doubles and delays frames at random: `per_mille` of them each.
fn storm(seed: u64, per_mille: u32) -> Weather {
    let mut rng = rng(seed);
    let mut held: [Vec<Bytes>; 2] = Default::default();
    Box::new(move |from, frame| {
        let luck = rng.random_range(0..1000);
        let held = &mut held[at(from)];
        let mut out = Vec::new();
        if luck < per_mille {
            return out;
        } else if luck < 2 * per_mille {
            held.push(frame);
            return out;
        } else if luck < 3 * per_mille {
            out.push(frame.clone());
        }
        out.push(frame);
        out.append(held);
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_storm_delays_the_credential_and_does_not_change_it(
        seed: u64,
        length in 0_usize..20_000,
        per_mille in 0_u32..60,
        cuts in proptest::collection::vec((1_usize..60, any::<bool>()), 0..8),
    ) {
        let mut world = world(length);
        world.weather = storm(seed, per_mille);
        world.cuts = cuts.into_iter().map(|(after, new)| (after, Role::BOTH[usize::from(new)])).collect();
        assert_handed_over(world.run(), length);
    }
}
