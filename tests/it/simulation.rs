//! Whole transfers under simulated time: both real client machines, the real relay core, and a network that loses what
//! is on its way. Each test is a sentence of what the product promises on bad networks.
//!
//! `HANDOFF_SIM_SEED=n` replays one transfer of the sweep, `HANDOFF_SIM_TRANSFERS=n` makes the sweep longer or shorter.

mod relay;
mod sweep;
mod world;

use std::time::Duration;

use handoff_relay::client::{EndReason, LinkEvent, NewEvent, NewOutcome, OfflineCause, OldEvent, OldOutcome, Step};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::limits;

use self::world::{App, Network, World};

const OLD: usize = 0;
const NEW: usize = 1;
const SECOND: Duration = Duration::from_secs(1);

fn world(length: usize) -> World {
    World::new(1, length, Network::GOOD)
}

/// Both sides agree that the credential arrived, complete and once.
#[track_caller]
fn assert_handed_over(world: &mut World) {
    let (old, new) = world.outcomes();
    assert_eq!(old, OldOutcome::Delivered);
    let [NewOutcome::Received { credential, confirmed: true, .. }] = &new[..] else { panic!("{new:?}") };
    assert!(world.is_intact(credential));
    let count = |wanted: &NewEvent| world.new_events.iter().filter(|event| *event == wanted).count();
    assert_eq!((count(&NewEvent::CredentialReceived), count(&NewEvent::Confirmed)), (1, 1));
    assert_eq!(world.old_events.iter().filter(|event| **event == OldEvent::Delivered).count(), 1);
    assert_eq!(world.old_events.iter().filter(|event| matches!(event, OldEvent::AskCode { .. })).count(), 1);
    assert_eq!(world.relay.ended, Some(CloseReason::Completed));
}

#[track_caller]
fn assert_both_end(world: &mut World, reason: CloseReason) {
    let reason = EndReason::Closed(reason);
    let (old, new) = world.outcomes();
    assert_eq!(old, OldOutcome::Ended(reason));
    assert!(new.iter().all(|new| *new == NewOutcome::Ended(reason)), "{new:?}");
}

#[test]
fn a_transfer_of_256_kib_completes() {
    let mut world = world(limits::MAX_CREDENTIAL_BYTES);
    world.run();
    assert!(world.elapsed() < 10 * SECOND, "{:?}", world.elapsed());
    assert_handed_over(&mut world);
}

#[test]
fn credentials_of_every_size_arrive() {
    // The largest that fits into one frame, and the smallest that does not.
    for length in [0, 1, 4084, 4085] {
        assert_handed_over(world(length).run());
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let network = Network { breaks_after: Some(SECOND), ..Network::GOOD };
        let mut world = World::new(7, 100_000, network);
        world.run();
        (world.steps, world.elapsed(), world.relay.resumes, world.relay.used)
    };
    assert_eq!(run(), run());
}

#[test]
fn thirty_cuts_are_survived_with_the_largest_credential() {
    let mut world = world(limits::MAX_CREDENTIAL_BYTES);
    world.run_until(|world| world.relay.code_accepted);
    for cut in 0..limits::MAX_RESUMES {
        world.cut(if cut % 2 == 0 { OLD } else { NEW });
        world.run_until(|world| world.relay.resumes > cut || world.is_over());
        // The worst moment: windows are full again.
        let steps = world.steps + 12;
        world.run_until(|world| world.steps >= steps || world.is_over());
    }
    world.run();
    assert_eq!(world.relay.resumes, limits::MAX_RESUMES);
    assert_handed_over(&mut world);
}

#[test]
fn one_cut_more_than_thirty_ends_both() {
    let mut world = world(limits::MAX_CREDENTIAL_BYTES);
    world.person.types_after = None;
    world.run_until(|world| !world.new_events.is_empty());
    for cut in 0..=limits::MAX_RESUMES {
        world.cut(NEW);
        world.run_until(|world| world.relay.resumes > cut || world.is_over());
    }
    world.run();
    assert_both_end(&mut world, CloseReason::TooManyResumes);
}

/// A message is lost with its connection, and the transfer completes all the same.
#[track_caller]
fn assert_survives_the_loss_of(whose: Role, message: &'static str, resumes: u32) {
    let mut world = world(10_000);
    world.loses = vec![(whose, message)];
    world.run();
    assert!(world.loses.is_empty(), "{message} was never said");
    assert_eq!(world.relay.resumes, resumes);
    assert_handed_over(&mut world);
}

#[test]
fn open_is_lost() {
    assert_survives_the_loss_of(Role::Old, "open", 0);
}

#[test]
fn the_answer_to_open_is_lost() {
    assert_survives_the_loss_of(Role::Old, "opened", 1);
}

#[test]
fn join_is_lost() {
    assert_survives_the_loss_of(Role::New, "join", 0);
}

#[test]
fn the_answer_to_join_is_lost() {
    assert_survives_the_loss_of(Role::New, "joined", 1);
}

#[test]
fn the_news_of_the_join_is_lost() {
    assert_survives_the_loss_of(Role::Old, "peer_joined", 1);
}

#[test]
fn complete_is_lost_and_said_again() {
    assert_survives_the_loss_of(Role::Old, "complete", 1);
}

#[test]
fn resume_and_its_answer_are_lost() {
    for message in ["resume", "resumed"] {
        let mut world = world(10_000);
        world.loses = vec![(Role::New, "joined"), (Role::New, message)];
        world.run();
        assert!(world.loses.is_empty());
        assert_handed_over(&mut world);
    }
}

#[test]
fn the_news_of_completion_is_lost_and_new_hears_it_when_it_is_back() {
    let mut world = world(10);
    world.loses = vec![(Role::New, "ended")];
    world.run();
    assert_handed_over(&mut world);
}

#[test]
fn both_apps_lose_their_connection_at_once() {
    let mut world = world(100_000);
    world.run_until(|world| world.relay.code_accepted);
    let steps = world.steps + 20;
    world.run_until(|world| world.steps >= steps);
    world.cut(OLD);
    world.cut(NEW);
    world.run();
    assert_eq!(world.relay.resumes, 2);
    assert_handed_over(&mut world);
}

#[test]
fn a_cut_at_every_step_of_either_or_both_is_survived() {
    const LENGTH: usize = 30_000;
    let steps = world(LENGTH).run().steps;
    for step in 1..=steps {
        for phones in [&[OLD][..], &[NEW], &[OLD, NEW]] {
            let mut world = world(LENGTH);
            world.breaks = phones.iter().map(|phone| (step, *phone)).collect();
            world.run();
            assert!(world.elapsed() < 30 * SECOND, "step {step} {phones:?}: {:?}", world.elapsed());
            let most = u32::try_from(phones.len()).unwrap();
            assert!(world.relay.resumes <= most, "step {step} {phones:?}: one loss is one resume");
            assert_handed_over(&mut world);
        }
    }
    println!("{} transfers, each cut at another of {steps} steps", 3 * steps);
}

#[test]
fn a_half_open_connection_is_noticed_soon_and_the_handoff_completes() {
    for phone in [OLD, NEW] {
        let mut world = world(50_000);
        world.run_until(|world| world.relay.code_accepted);
        let (silent_at, steps) = (world.now, world.steps + 5);
        world.run_until(|world| world.steps >= steps);
        world.silence(phone);
        world.run_until(|world| world.relay.resumes > 0);
        assert!(world.now - silent_at < 15 * SECOND, "{:?}", world.now - silent_at);
        world.run();
        let silent = LinkEvent::Offline { attempt: 1, retry_in: Duration::ZERO, cause: OfflineCause::Silent };
        let is_silent = |event: &LinkEvent| matches!((event, silent), (LinkEvent::Offline { cause, .. }, LinkEvent::Offline { cause: same, .. }) if *cause == same);
        let noticed = if phone == OLD {
            world.old_events.iter().any(|event| matches!(event, OldEvent::Link(event) if is_silent(event)))
        } else {
            world.new_events.iter().any(|event| matches!(event, NewEvent::Link(event) if is_silent(event)))
        };
        assert!(noticed);
        assert_handed_over(&mut world);
    }
}

#[test]
fn a_relay_that_shuts_down_hands_both_apps_to_another_node() {
    let mut world = world(200_000);
    world.run_until(|world| world.relay.code_accepted);
    let steps = world.steps + 30;
    world.run_until(|world| world.steps >= steps);
    world.shut_down_at.push(world.now);
    world.run();
    assert_eq!(world.relay.resumes, 2);
    assert_handed_over(&mut world);
}

#[test]
fn slow_handshakes_and_refused_connections_only_cost_time() {
    let mut world = World::new(3, 10_000, Network { refused: 60, slow: 50, ..Network::GOOD });
    // Scanned late, a frame would be stale by the time the relay hears of it.
    world.run_until(|world| world.shown().is_some());
    world.network = Network::GOOD;
    world.run_until(|world| !world.new_events.is_empty());
    world.network = Network { refused: 60, slow: 50, ..Network::GOOD };
    world.cut(NEW);
    world.run();
    assert_handed_over(&mut world);
}

#[test]
fn the_deadline_ends_old_when_nobody_scans() {
    let mut world = world(10);
    world.person.scans_after = None;
    world.run();
    assert!(world.elapsed() < limits::SESSION_LIFETIME + SECOND, "{:?}", world.elapsed());
    assert_both_end(&mut world, CloseReason::Expired);
}

#[test]
fn the_deadline_ends_both_whatever_the_network_does() {
    for seed in 0..20 {
        let bad = Network { breaks_after: Some(8 * SECOND), half_open: 20, ..Network::GOOD };
        let mut unscanned = World::new(seed, 10, bad);
        unscanned.person.scans_after = None;
        unscanned.run();
        let mut dark = World::new(seed, 10, Network::GOOD);
        dark.run_until(|world| world.relay.code_accepted);
        dark.network.refused = 100;
        dark.cut(OLD);
        dark.cut(NEW);
        dark.run();
        for mut world in [unscanned, dark] {
            let latest = limits::SESSION_LIFETIME + 3 * SECOND;
            assert!(
                (limits::SESSION_LIFETIME.saturating_sub(2 * SECOND)..=latest).contains(&world.elapsed()),
                "{seed}: {:?}",
                world.elapsed()
            );
            let (old, new) = world.outcomes();
            assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)), "{seed}");
            let expired = NewOutcome::Ended(EndReason::Closed(CloseReason::Expired));
            assert!(new.iter().all(|new| *new == expired), "{seed}: {new:?}");
        }
    }
}

#[test]
fn a_photographed_frame_is_refused() {
    let mut world = world(10);
    world.person.scans_after = None;
    world.run_until(|world| world.shown().is_some());
    let photo = world.shown().unwrap().clone();
    let taken_at = world.now;
    world.run_until(|world| world.now >= taken_at + 10 * SECOND);
    world.scan(photo);
    world.run_until(|world| matches!(&world.phones[NEW], App::New(new) if handoff_relay::client::Machine::step(&**new) == Step::Finished));
    let stale = NewEvent::Ended(EndReason::Closed(CloseReason::StaleFrame));
    assert_eq!(world.new_events.last(), Some(&stale));
    assert_eq!(world.relay.refused, [CloseReason::StaleFrame]);
    assert_eq!(world.relay.ended, None, "and the session goes on");
    world.run();
    assert!(!world.old_events.iter().any(|event| matches!(event, OldEvent::PeerJoined { .. })));
    assert_eq!(world.outcomes().0, OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)), "to its deadline");
}

#[test]
fn two_scanners_get_nothing() {
    let mut world = world(10);
    world.run_until(|world| world.shown().is_some());
    let shown = world.shown().unwrap().clone();
    world.scan(shown.clone());
    world.scan(shown);
    world.run();
    assert_both_end(&mut world, CloseReason::ScannedTwice);
}

#[test]
fn a_second_scanner_ends_it_even_while_the_first_is_offline() {
    let mut world = world(10);
    world.run_until(|world| world.shown().is_some());
    let shown = world.shown().unwrap().clone();
    world.scan(shown.clone());
    world.run_until(|world| !world.new_events.is_empty());
    world.cut(NEW);
    world.scan(shown);
    world.run();
    assert_both_end(&mut world, CloseReason::ScannedTwice);
}

#[test]
fn a_wrong_code_ends_both_and_nothing_of_the_credential_was_sent() {
    let mut world = world(10);
    world.person.types = Some("1000");
    world.run();
    assert!(!world.relay.code_accepted);
    assert!(!world.new_events.contains(&NewEvent::CredentialReceived));
    assert_both_end(&mut world, CloseReason::WrongCode);
}

#[test]
fn a_code_that_nobody_types_ends_both_after_a_minute() {
    let mut world = world(10);
    world.person.types_after = None;
    world.run();
    assert!((60 * SECOND..65 * SECOND).contains(&world.elapsed()), "{:?}", world.elapsed());
    assert_both_end(&mut world, CloseReason::CodeTimeout);
}

#[test]
fn a_code_that_nobody_types_ends_both_although_old_is_offline_at_that_moment() {
    let mut world = world(10);
    world.person.types_after = None;
    world.run_until(|world| world.elapsed() > 61 * SECOND);
    world.cut(OLD);
    world.run();
    assert_both_end(&mut world, CloseReason::CodeTimeout);
}

#[test]
fn cancelling_on_either_side_ends_both() {
    for phone in [OLD, NEW] {
        let mut world = world(10);
        world.person.types_after = None;
        world.run_until(|world| world.new_events.len() > 3);
        let now = world.now;
        match &mut world.phones[phone] {
            App::Old(old) => handoff_relay::client::Machine::cancel(&mut **old, now),
            App::New(new) => handoff_relay::client::Machine::cancel(&mut **new, now),
        }
        world.run();
        let (old, new) = world.outcomes();
        let cancelled = EndReason::Cancelled;
        let by =
            EndReason::Closed(if phone == OLD { CloseReason::CancelledByOld } else { CloseReason::CancelledByNew });
        let [of_old, of_new] = if phone == OLD { [cancelled, by] } else { [by, cancelled] };
        assert_eq!((old, &new[..]), (OldOutcome::Ended(of_old), &[NewOutcome::Ended(of_new)][..]));
    }
}
