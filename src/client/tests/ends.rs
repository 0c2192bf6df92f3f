//! How transfers end: every close reason, cancelling, deadlines, and the last word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::client::time::tests::start;
use crate::crypto::Binding;
use crate::protocol::close::{CloseReason, Scope};
use crate::protocol::message::{CancelReason, ClientMessage, ServerMessage};

/// A transfer in which both sides are attached and the code is awaited.
fn paired() -> World {
    let mut world = world(5000);
    world.types = false;
    world.run_until(|world| world.asked && world.shown_code.is_some());
    world
}

/// What a reason means to an app in the middle of a transfer; `None` if it connects again.
fn meaning(reason: CloseReason) -> Option<EndReason> {
    match reason {
        CloseReason::NothingToResume => Some(EndReason::SessionLost),
        CloseReason::StaleFrame => Some(EndReason::Closed(reason)),
        _ if reason.scope() == Scope::Connection && reason.can_retry() => None,
        _ => Some(EndReason::Closed(reason)),
    }
}

fn ended(world: &World, role: Role) -> Option<EndReason> {
    match role {
        Role::Old => world.old_events.iter().find_map(|event| match event {
            OldEvent::Ended(reason) => Some(*reason),
            _ => None,
        }),
        Role::New => world.new_events.iter().find_map(|event| match event {
            NewEvent::Ended(reason) => Some(*reason),
            _ => None,
        }),
    }
}

#[test]
fn every_close_reason_does_what_its_row_says() {
    for role in Role::BOTH {
        for reason in CloseReason::ALL.iter().filter(|reason| **reason != CloseReason::Completed) {
            let mut world = paired();
            world.relay.close(role, *reason);
            world.run_until(|world| ended(world, role).is_some() || world.now > world.start);
            assert_eq!(ended(&world, role), meaning(*reason), "{role} {reason}");
            if meaning(*reason).is_none() {
                world.types = true;
                assert_handed_over(world.run(), 5000);
            }
        }
    }
}

#[test]
fn the_code_of_the_close_frame_says_the_same_as_the_message_that_was_lost() {
    for role in Role::BOTH {
        for reason in CloseReason::ALL.iter().filter(|reason| **reason != CloseReason::Completed) {
            let mut world = paired();
            world.relay.close_with(role, [Down::Close(reason.code())]);
            world.run_until(|world| ended(world, role).is_some() || world.now > world.start);
            assert_eq!(ended(&world, role), meaning(*reason), "{role} {reason}");
        }
    }
}

#[test]
fn a_code_that_nobody_knows_is_final_only_if_its_range_says_so() {
    for (code, end) in [
        (1000, None),
        (1001, None),
        (1005, None),
        (1006, None),
        (3000, None),
        (4499, None),
        (4999, Some(EndReason::UnknownClose(4999))),
    ] {
        let mut world = paired();
        world.relay.close_with(Role::Old, [Down::Close(code)]);
        world.run_until(|world| ended(world, Role::Old).is_some() || world.now > world.start);
        assert_eq!(ended(&world, Role::Old), end, "{code}");
    }
}

#[test]
fn a_reason_that_only_a_newer_app_knows_is_obeyed_by_its_retry_flag() {
    let mut world = paired();
    let text = r#"{"type":"ended","reason":"eclipse","detail":"","retry":true,"retry_after_ms":3000}"#;
    world.relay.close_with(Role::New, [Down::Text(text.to_owned())]);
    world.types = true;
    let world = assert_handed_over(world.run(), 5000);
    assert!(world.elapsed() >= Duration::from_secs(3));
}

#[test]
fn either_person_can_cancel_at_any_time_and_both_apps_know() {
    let happy = assert_handed_over(world(5000).run(), 5000).delivered;
    for after in 0..happy {
        for role in Role::BOTH {
            let mut world = world(5000);
            world.run_until(|world| world.delivered >= after);
            let (now, has_new) = (world.now, world.new.is_some());
            let before = (world.old_events.clone(), world.new_events.clone());
            world.with(role, |old| old.cancel(now), |new| new.cancel(now));
            world.scans = has_new;
            let (old, new, _) = world.run();
            let received = before.1.contains(&NewEvent::CredentialReceived);
            match role {
                Role::Old if before.0.contains(&OldEvent::Delivered) => assert_eq!(old, OldOutcome::Delivered),
                Role::Old => assert_eq!(old, OldOutcome::Ended(EndReason::Cancelled), "{after}"),
                Role::New if received => assert!(matches!(new, NewOutcome::Received { .. })),
                Role::New if has_new => assert_eq!(new, NewOutcome::Ended(EndReason::Cancelled), "{after}"),
                Role::New => {}
            }
            if role == Role::Old && has_new && !received {
                let told = [CloseReason::CancelledByOld, CloseReason::UnknownSession].map(EndReason::Closed);
                // What was on its way when the person cancelled may still complete the credential.
                let overtaken = matches!(new, NewOutcome::Received { confirmed: false, .. });
                assert!(overtaken || told.iter().any(|reason| new == NewOutcome::Ended(*reason)), "{after} {new:?}");
            }
        }
    }
}

#[test]
fn a_transfer_that_is_cancelled_before_it_connects_is_over_at_once() {
    let mut old = Old::new(old_settings(), Zeroizing::default(), start(), rng(1)).unwrap();
    old.cancel(start());
    assert_eq!(old.step(), Step::Finished);
    assert_eq!(old.poll_transmit(), None);
    assert_eq!(old.into_outcome(), OldOutcome::Ended(EndReason::Cancelled));
}

#[test]
fn what_happened_while_offline_is_told_over_the_next_connection() {
    let mut world = paired();
    world.cut(Role::Old);
    let now = world.now;
    world.old.cancel(now);
    let outcome = world.run();
    assert_both_end(&outcome, EndReason::Cancelled, EndReason::Closed(CloseReason::CancelledByOld));
}

#[test]
fn a_last_word_that_cannot_be_said_is_given_up_after_eight_seconds() {
    let mut world = paired();
    world.cut(Role::Old);
    world.unreachable = Some(ConnectFailure::Connect);
    let now = world.now;
    world.old.cancel(now);
    world.run_until(|world| world.old.step() == Step::Finished);
    assert_eq!(world.now - now, Duration::from_secs(8));
}

#[test]
fn a_receipt_counts_even_if_the_answer_to_complete_is_lost() {
    let mut world = world(5000);
    world.run_until(|world| world.old_events.contains(&OldEvent::Delivered));
    world.cut(Role::Old);
    world.cut(Role::New);
    world.unreachable = Some(ConnectFailure::Connect);
    let (old, new, world) = world.run();
    assert_eq!(old, OldOutcome::Delivered);
    let NewOutcome::Received { credential: received, confirmed, .. } = new else { panic!("{new:?}") };
    assert!(*received == credential(5000) && !confirmed);
    assert!(world.new_events.contains(&NewEvent::Unconfirmed(EndReason::Closed(CloseReason::Expired))));
}

#[test]
fn a_session_ends_three_minutes_after_it_was_opened_with_or_without_the_relay() {
    for cut in [false, true] {
        let mut world = world(5000);
        world.scans = false;
        world.run_for(Duration::from_secs(10));
        if cut {
            world.cut(Role::Old);
            world.unreachable = Some(ConnectFailure::Connect);
        }
        let (old, _, world) = world.run();
        assert_eq!(old, OldOutcome::Ended(EndReason::Closed(CloseReason::Expired)));
        let grace = Duration::from_secs(if cut { 2 } else { 0 });
        assert_eq!(world.elapsed(), limits::SESSION_LIFETIME + grace);
    }
}

#[test]
fn no_message_prolongs_a_session() {
    let mut world = paired();
    world.cut(Role::New);
    world.run_for(Duration::from_secs(20));
    let mut told = Vec::new();
    for expires_in_ms in [u64::MAX, 100_000, 170_000] {
        world.relay.say(Role::Old, &ServerMessage::Tick { expires_in_ms });
        world.run_until(|world| world.relay.down[at(Role::Old)].is_empty());
        told.push(world.old_events.last().cloned().unwrap());
    }
    let left = |seconds| OldEvent::Link(LinkEvent::Waiting { left: Duration::from_secs(seconds) });
    assert_eq!(told, [left(160), left(100), left(100)]);
}

#[test]
fn a_second_device_ends_the_transfer_for_both() {
    let mut world = paired();
    world.relay.end(CloseReason::ScannedTwice);
    let reason = EndReason::Closed(CloseReason::ScannedTwice);
    assert_both_end(&world.run(), reason, reason);
}

#[test]
fn a_stale_picture_ends_the_new_apps_try_and_the_next_scan_succeeds() {
    let mut world = world(10);
    world.scans = false;
    world.run_for(Duration::from_secs(1));
    let stale = world.shown().unwrap().clone();
    world.run_for(Duration::from_secs(11));
    world.scan(stale);
    world.run_until(|world| ended(world, Role::New).is_some());
    assert_eq!(ended(&world, Role::New), Some(EndReason::Closed(CloseReason::StaleFrame)));
    world.settle();
    while world.deliver_one() {}
    world.new_events.clear();
    let shown = world.shown().unwrap().clone();
    world.scan(shown);
    assert_handed_over(world.run(), 10);
}

#[test]
fn the_relay_hears_why_an_app_ends_the_session() {
    let mut world = paired();
    let code = if world.shown_code.as_ref().unwrap().to_string() == "4711" { "4712" } else { "4711" };
    let now = world.now;
    world.old.enter_code(&code.parse().unwrap(), now);
    let said = std::iter::from_fn(|| world.old.poll_transmit()).find_map(|transmit| match transmit {
        Transmit::Text(text) => Some(ClientMessage::decode(&text).unwrap()),
        _ => None,
    });
    assert_eq!(said, Some(ClientMessage::Cancel { reason: CancelReason::WrongCode }));
}

#[test]
fn a_statement_that_old_makes_after_the_code_names_the_handoff_and_the_device_that_new_knows() {
    let key = new_settings().device_key.public();
    let named = |binding: &Binding| [binding.transcript().as_slice(), binding.device_key()].concat();
    let world = World::new(old_settings(), Payload::bound(move |binding| Zeroizing::new(named(binding))));
    let (old, new, _) = world.run();
    assert_eq!(old, OldOutcome::Delivered);
    let NewOutcome::Received { ref credential, ref binding, .. } = new else { panic!("{new:?}") };
    assert_eq!(binding.device_key(), key);
    assert_eq!(**credential, [binding.transcript().as_slice(), &key].concat());
    assert_eq!(format!("{new:?} {binding:?}"), "Received { confirmed: true, .. } Binding { .. }");
}

#[test]
fn old_makes_no_statement_before_the_right_code() {
    let made = Arc::new(AtomicBool::new(false));
    let signed = Arc::clone(&made);
    let mut world = World::new(
        old_settings(),
        Payload::bound(move |_| {
            signed.store(true, Ordering::Relaxed);
            Zeroizing::default()
        }),
    );
    world.types = false;
    world.run_until(|world| world.asked && world.shown_code.is_some());
    world.typed = Some(if world.shown_code.as_ref().unwrap().to_string() == "4711" { "4712" } else { "4711" });
    world.types = true;
    assert_eq!(world.run().0, OldOutcome::Ended(EndReason::Closed(CloseReason::WrongCode)));
    assert!(!made.load(Ordering::Relaxed));
}

#[test]
fn a_statement_that_is_too_large_ends_the_transfer_and_sends_nothing() {
    let too_large = Zeroizing::new(vec![0; limits::MAX_CREDENTIAL_BYTES + 1]);
    let world = World::new(old_settings(), Payload::bound(move |_| too_large));
    let (old, new, _) = world.run();
    assert_eq!(old, OldOutcome::Ended(EndReason::Internal));
    assert!(matches!(new, NewOutcome::Ended(_)));
}
