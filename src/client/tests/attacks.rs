//! Who tampers gets nothing: not the relay, not a second device, not somebody on the way.

use proptest::prelude::*;

use super::*;
use crate::client::time::tests::start;
use crate::protocol::close::CloseReason;
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::message::ServerMessage;
use crate::protocol::network::{Country, Network, Verdict};

const VERIFICATION_FAILED: EndReason = EndReason::Closed(CloseReason::VerificationFailed);
const WRONG_CODE: EndReason = EndReason::Closed(CloseReason::WrongCode);

/// Changes one kind of the relay's messages to one side.
fn changing(to: Role, change: impl Fn(&mut ServerMessage) + 'static) -> Tamper {
    Box::new(move |role, text| {
        let mut message = ServerMessage::decode(text).unwrap();
        if role == to {
            change(&mut message);
        }
        message.encode()
    })
}

/// Puts a frame behind the `after`th that one side sends.
fn adding(from: Role, after: usize, frame: Vec<u8>) -> Weather {
    let mut seen = 0;
    Box::new(move |role, original| {
        seen += usize::from(role == from);
        let add = role == from && seen == after;
        std::iter::once(original).chain(add.then(|| frame.clone().into())).collect()
    })
}

fn kinds_sent(world: &mut World) -> std::rc::Rc<std::cell::RefCell<Vec<FrameKind>>> {
    let kinds = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = std::rc::Rc::clone(&kinds);
    world.weather = Box::new(move |_, frame| {
        log.borrow_mut().push(Header::decode(&frame).unwrap().0.kind);
        vec![frame]
    });
    kinds
}

#[test]
fn a_wrong_code_ends_the_transfer_for_both_and_nothing_was_sent() {
    let mut world = world(5000);
    let kinds = kinds_sent(&mut world);
    world.types = false;
    world.run_until(|world| world.shown_code.is_some());
    let shown = world.shown_code.as_ref().unwrap().to_string();
    world.typed = Some(if shown == "4711" { "4712" } else { "4711" });
    world.types = true;
    let outcome = world.run();
    assert_both_end(&outcome, WRONG_CODE, WRONG_CODE);
    assert!(!kinds.borrow().contains(&FrameKind::Credential));
}

#[test]
fn there_is_one_try_for_the_code() {
    let mut world = world(5000);
    world.types = false;
    world.run_until(|world| world.shown_code.is_some() && world.asked);
    let right = world.shown_code.clone().unwrap();
    let wrong = if right.to_string() == "4711" { "4712" } else { "4711" };
    world.old.enter_code(&wrong.parse().unwrap(), world.now);
    world.old.enter_code(&right, world.now);
    assert_both_end(&world.run(), WRONG_CODE, WRONG_CODE);
}

#[test]
fn no_part_of_the_credential_leaves_before_the_code() {
    let mut world = world(5000);
    let kinds = kinds_sent(&mut world);
    world.types = false;
    world.run_for(Duration::from_secs(50));
    assert!(world.asked && !kinds.borrow().contains(&FrameKind::Credential));
    world.types = true;
    assert_handed_over(world.run(), 5000);
    assert!(kinds.borrow().contains(&FrameKind::Credential));
}

#[test]
fn a_code_that_nobody_typed_within_a_minute_ends_the_transfer() {
    let mut world = world(5000);
    world.types = false;
    let outcome = world.run();
    let reason = EndReason::Closed(CloseReason::CodeTimeout);
    assert_both_end(&outcome, reason, reason);
    assert_eq!(outcome.2.elapsed(), Duration::from_mins(1));
}

#[test]
fn a_picture_that_is_more_than_two_frames_old_is_refused_whatever_the_relay_says() {
    for (told, accepted) in [(5, true), (2, false), (0, false), (6, false), (255, false)] {
        let mut world = world(10);
        world.scans = false;
        world.run_for(Duration::from_secs(26));
        assert_eq!(world.shown().unwrap().frame, 5);
        world.scan(world.shown().unwrap().clone());
        world.tamper = changing(Role::Old, move |message| {
            if let ServerMessage::PeerJoined(joined) = message {
                joined.frame = told;
            }
        });
        let outcome = world.run();
        if accepted {
            assert_handed_over(outcome, 10);
        } else {
            assert_both_end(&outcome, VERIFICATION_FAILED, VERIFICATION_FAILED);
            assert!(!outcome.2.old_events.iter().any(|event| matches!(event, OldEvent::PeerJoined { .. })), "{told}");
        }
    }
}

#[test]
fn a_join_that_is_told_twice_with_two_frames_is_refused() {
    let mut world = world(10);
    world.types = false;
    world.run_until(|world| world.asked);
    let mut joined = world.relay.joined.unwrap();
    world.relay.say(Role::Old, &ServerMessage::PeerJoined(joined));
    world.run_for(Duration::from_secs(1));
    assert!(!world.old_events.iter().any(|event| matches!(event, OldEvent::Ended(_))));
    joined.frame += 1;
    world.relay.say(Role::Old, &ServerMessage::PeerJoined(joined));
    assert_both_end(&world.run(), VERIFICATION_FAILED, VERIFICATION_FAILED);
}

#[test]
fn a_verdict_that_the_policy_refuses_ends_the_transfer() {
    let settings = OldSettings {
        policy: VerdictPolicy { refuse_different_network: true, ..VerdictPolicy::default() },
        ..old_settings()
    };
    let mut world = World::new(settings, Zeroizing::new(credential(10)));
    world.relay.network = Network::Different;
    let verdict = Verdict { network: Network::Different, country: Country::Unknown };
    let outcome = world.run();
    let new = EndReason::Closed(CloseReason::CancelledByOld);
    assert_both_end(&outcome, EndReason::VerdictRefused(verdict), new);
}

#[test]
fn a_key_that_the_relay_replaced_is_noticed_before_anything_is_said() {
    let settings = old_settings();
    let foreign = Old::new(settings, Zeroizing::default(), start(), rng(77)).unwrap();
    let mut foreign_world = world(0);
    foreign_world.old = foreign;
    let mut key = None;
    foreign_world.scans = false;
    foreign_world.settle();
    for transmit in &foreign_world.up[at(Role::Old)] {
        if let Transmit::Text(text) = transmit
            && let Ok(crate::protocol::message::ClientMessage::Open { public_key, .. }) =
                crate::protocol::message::ClientMessage::decode(text)
        {
            key = Some(public_key);
        }
    }
    let foreign_key = key.unwrap();

    let mut world = world(10);
    world.tamper = changing(Role::New, move |message| {
        if let ServerMessage::Joined { public_key, .. } = message {
            *public_key = foreign_key.clone();
        }
    });
    let outcome = world.run();
    assert_both_end(&outcome, VERIFICATION_FAILED, EndReason::KeyReplaced);
    assert_eq!(outcome.2.relay.used(Role::New), (0, 0));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_an_attack() {
    for (from, after) in [(Role::New, 1), (Role::New, 3), (Role::Old, 1), (Role::Old, 2)] {
        for seq in [90, u64::MAX] {
            let mut world = world(200_000);
            world.weather = adding(from, after, Header { from, kind: FrameKind::Ack, seq }.frame(&[]));
            assert_both_end(&world.run(), VERIFICATION_FAILED, VERIFICATION_FAILED);
        }
    }
}

#[test]
fn a_repeated_or_older_acknowledgement_changes_nothing() {
    for from in Role::BOTH {
        for after in 1..6 {
            let mut world = world(20_000);
            world.weather = adding(from, after, Header { from, kind: FrameKind::Ack, seq: 0 }.frame(&[]));
            assert_handed_over(world.run(), 20_000);
        }
    }
}

#[test]
fn a_frame_that_is_none_is_an_attack() {
    let reflected = |from: Role| Header { from: from.peer(), kind: FrameKind::Ack, seq: 0 }.frame(&[]);
    let long_ack = |from: Role| Header { from, kind: FrameKind::Ack, seq: 0 }.frame(&[0]);
    for from in Role::BOTH {
        for garbage in [vec![], vec![1], vec![0; 12], vec![255; 4000], reflected(from), long_ack(from)] {
            let mut world = world(20_000);
            world.weather = adding(from, 2, garbage);
            assert_both_end(&world.run(), VERIFICATION_FAILED, VERIFICATION_FAILED);
        }
    }
}

#[test]
fn a_sealed_frame_of_the_wrong_kind_is_an_attack() {
    // Old's first frame acknowledges the hello, its second is the reply.
    for (from, after, kind, seq) in [
        (Role::New, 1, FrameKind::Receipt, 1),
        (Role::New, 1, FrameKind::Hello, 1),
        (Role::Old, 1, FrameKind::Credential, 0),
        (Role::Old, 2, FrameKind::Reply, 1),
        (Role::Old, 2, FrameKind::Receipt, 1),
    ] {
        let mut world = world(20_000);
        world.types = false;
        world.weather = adding(from, after, Header { from, kind, seq }.frame(&[0; 1040]));
        assert_both_end(&world.run(), VERIFICATION_FAILED, VERIFICATION_FAILED);
    }
}

#[test]
fn a_relay_that_claims_completion_early_is_not_believed() {
    for to in Role::BOTH {
        let mut world = world(10);
        world.types = false;
        world.run_until(|world| world.asked);
        world.relay.say(to, &ServerMessage::ended(CloseReason::Completed, None));
        let outcome = world.run();
        let role_ended = match to {
            Role::Old => outcome.0 == OldOutcome::Ended(EndReason::ProtocolViolated),
            Role::New => outcome.1 == NewOutcome::Ended(EndReason::ProtocolViolated),
        };
        assert!(role_ended, "{to}");
    }
}

#[test]
fn a_message_for_the_other_side_or_out_of_turn_breaks_the_protocol() {
    let opened = ServerMessage::Opened { expires_in_ms: 1000 };
    let resumed = ServerMessage::Resumed { expires_in_ms: 1000, peer_online: true, joined: None, public_key: None };
    for to in Role::BOTH {
        for message in [opened.encode(), resumed.encode(), "nonsense".to_owned(), r#"{"type":"tick"}"#.to_owned()] {
            let mut world = world(10);
            world.types = false;
            world.run_until(|world| world.asked && world.shown_code.is_some());
            world.relay.down[at(to)].push_back(Down::Text(message));
            let (old, new) = match to {
                Role::Old => (EndReason::ProtocolViolated, VERIFICATION_FAILED),
                Role::New => (VERIFICATION_FAILED, EndReason::ProtocolViolated),
            };
            assert_both_end(&world.run(), old, new);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_never_changes_what_arrives(frame in 0_usize..20, byte: prop::sample::Index, bit in 0_u8..8) {
        let mut world = world(9000);
        let mut seen = 0;
        world.weather = Box::new(move |_, original| {
            let mut bytes = original.to_vec();
            if seen == frame {
                bytes[byte.index(original.len())] ^= 1 << bit;
            }
            seen += 1;
            vec![bytes.into()]
        });
        let outcome = world.run();
        if outcome.0 == OldOutcome::Delivered {
            // A changed number only makes a frame one to be sent again.
            assert_handed_over(outcome, 9000);
        } else {
            prop_assert_eq!(outcome.0, OldOutcome::Ended(VERIFICATION_FAILED));
            // New may hold the verified credential when its receipt is what was changed.
            let harmless = match outcome.1 {
                NewOutcome::Ended(reason) => reason == VERIFICATION_FAILED,
                NewOutcome::Received { credential: received, confirmed, .. } => !confirmed && *received == credential(9000),
            };
            prop_assert!(harmless);
        }
    }

    #[test]
    fn no_order_of_calls_makes_a_machine_panic(calls in proptest::collection::vec(call(), 0..40), seed: u64) {
        let now = start();
        let mut old = Old::new(old_settings(), Zeroizing::new(credential(100)), now, rng(seed)).unwrap();
        let payload = payload_of(&mut old, now);
        let mut new = New::new(new_settings(), payload, now, rng(seed)).unwrap();
        abuse(&mut old, &calls, now);
        abuse(&mut new, &calls, now);
    }
}

#[derive(Clone, Debug)]
enum Call {
    Connected,
    Failed(u16),
    Text(String),
    Frame(Vec<u8>),
    Lost(Option<u16>),
    Wait(u64),
    Cancel,
}

fn call() -> impl Strategy<Value = Call> {
    let key = crate::protocol::ids::PublishedKey::new(vec![4; 65]).unwrap();
    let joined =
        crate::protocol::message::JoinedPeer { frame: 0, network: Network::Unknown, country: Country::Unknown };
    let message = prop_oneof![
        any::<u64>().prop_map(|expires_in_ms| ServerMessage::Opened { expires_in_ms }),
        any::<u64>().prop_map(|expires_in_ms| ServerMessage::Tick { expires_in_ms }),
        (any::<u64>(), any::<bool>(), Just(key)).prop_map(|(expires_in_ms, peer_online, public_key)| {
            ServerMessage::Joined { expires_in_ms, public_key, peer_online }
        }),
        (any::<u64>(), any::<bool>()).prop_map(move |(expires_in_ms, peer_online)| ServerMessage::Resumed {
            expires_in_ms,
            peer_online,
            joined: peer_online.then_some(joined),
            public_key: None
        }),
        Just(ServerMessage::PeerJoined(joined)),
        Just(ServerMessage::PeerOnline {}),
        Just(ServerMessage::PeerOffline {}),
        (proptest::sample::select(CloseReason::ALL), any::<Option<u64>>())
            .prop_map(|(reason, after)| ServerMessage::ended(reason, after)),
    ];
    let header =
        (any::<bool>(), proptest::sample::select(FrameKind::ALL.to_vec()), 0_u64..3).prop_map(|(old, kind, seq)| {
            Header { from: if old { Role::Old } else { Role::New }, kind, seq }.frame(&[0; 40])
        });
    prop_oneof![
        4 => Just(Call::Connected),
        1 => any::<u16>().prop_map(Call::Failed),
        8 => message.prop_map(|message| Call::Text(message.encode())),
        1 => ".{0,40}".prop_map(Call::Text),
        3 => header.prop_map(Call::Frame),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Call::Frame),
        2 => any::<Option<u16>>().prop_map(Call::Lost),
        2 => (0_u64..60_000).prop_map(Call::Wait),
        1 => Just(Call::Cancel),
    ]
}

/// Makes all the calls, then lets time pass until the machine is finished.
fn abuse(machine: &mut impl Machine, calls: &[Call], mut now: Instant) {
    for call in calls {
        match call.clone() {
            Call::Connected => machine.handle_connected(now),
            Call::Failed(status) => machine.handle_connect_failed(ConnectFailure::from_status(status, None), now),
            Call::Text(text) => machine.handle_message(&text, now),
            Call::Frame(frame) => machine.handle_frame(&frame, now),
            Call::Lost(code) => machine.handle_disconnected(code, now),
            Call::Wait(ms) => now += Duration::from_millis(ms),
            Call::Cancel => machine.cancel(now),
        }
        machine.handle_timeout(now);
        while machine.poll_transmit().is_some() {}
        while machine.poll_event().is_some() {}
    }
    for _ in 0..1000 {
        while machine.poll_transmit().is_some() {}
        if machine.step() == Step::Finished {
            return;
        }
        let due = machine.poll_timeout().expect("what is not finished has a deadline");
        now = now.max(due);
        machine.handle_timeout(now);
    }
    panic!("the machine never finishes");
}

fn payload_of(old: &mut Old, now: Instant) -> QrPayload {
    let mut probe = Old::new(old_settings(), Zeroizing::default(), now, rng(5)).unwrap();
    assert_eq!(old.step(), Step::ConnectAt(now));
    probe.handle_connected(now);
    probe.handle_message(&ServerMessage::Opened { expires_in_ms: 180_000 }.encode(), now);
    let shown = std::iter::from_fn(|| probe.poll_event()).find_map(|event| match event {
        OldEvent::QrShown { payload, .. } => Some(payload),
        _ => None,
    });
    shown.unwrap()
}
