//! Every state meets every event, every order of events to depth 8, and random walks. The rules are the bench's.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proptest::prelude::*;

use super::rig::{INTERVAL, LIFETIME, Rig, cancel, join, open, resume};
use crate::protocol::Role;
use crate::protocol::close::CloseReason;
use crate::protocol::limits;
use crate::protocol::message::ClientMessage;
use crate::session::Session;

/// Everything that can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Connect(Role),
    Open,
    Join,
    JoinByAnother,
    JoinStale,
    JoinWrong,
    Resume(Role),
    ResumeWrong(Role),
    Data(Role),
    Heartbeat(Role),
    Cancel(Role),
    Complete(Role),
    Violation(Role),
    HangUp(Role),
    Interval,
    Grace,
    Silence,
    Deadline,
}

const EVENTS: [Event; 25] = [
    Event::Connect(Role::Old),
    Event::Connect(Role::New),
    Event::Open,
    Event::Join,
    Event::JoinByAnother,
    Event::JoinStale,
    Event::JoinWrong,
    Event::Resume(Role::Old),
    Event::Resume(Role::New),
    Event::ResumeWrong(Role::Old),
    Event::ResumeWrong(Role::New),
    Event::Data(Role::Old),
    Event::Data(Role::New),
    Event::Heartbeat(Role::Old),
    Event::Cancel(Role::Old),
    Event::Cancel(Role::New),
    Event::Complete(Role::Old),
    Event::Complete(Role::New),
    Event::Violation(Role::New),
    Event::HangUp(Role::Old),
    Event::HangUp(Role::New),
    Event::Interval,
    Event::Grace,
    Event::Silence,
    Event::Deadline,
];

/// Applies an event on a connection that can have it: the newest of its role, or a new one for a first message.
fn apply(rig: &mut Rig, event: Event) {
    let first = |rig: &mut Rig, role, message: ClientMessage| {
        let id = rig.connect(role);
        rig.say(id, message);
    };
    let newest = |rig: &Rig, role| rig.connections(role).last().copied();
    match event {
        Event::Connect(role) => drop(rig.connect(role)),
        Event::Open => first(rig, Role::Old, open()),
        Event::Join => first(rig, Role::New, join(current_frame(rig), 1)),
        Event::JoinByAnother => first(rig, Role::New, join(current_frame(rig), 2)),
        Event::JoinStale => first(rig, Role::New, join(current_frame(rig) ^ 2, 3)),
        Event::JoinWrong => first(rig, Role::New, join(9, 3)),
        Event::Resume(role) => first(rig, role, resume(u8::from(role == Role::New))),
        Event::ResumeWrong(role) => first(rig, role, resume(9)),
        Event::Data(role) => newest(rig, role).into_iter().for_each(|id| rig.send(id, b"data")),
        Event::Heartbeat(role) => newest(rig, role).into_iter().for_each(|id| rig.heartbeat(id)),
        Event::Cancel(role) => newest(rig, role).into_iter().for_each(|id| rig.say(id, cancel())),
        Event::Complete(role) => newest(rig, role).into_iter().for_each(|id| rig.say(id, ClientMessage::Complete {})),
        Event::Violation(role) => {
            newest(rig, role).into_iter().for_each(|id| rig.violate(id, CloseReason::ProtocolError));
        }
        Event::HangUp(role) => newest(rig, role).into_iter().for_each(|id| rig.hang_up(id)),
        Event::Interval => rig.pass(INTERVAL),
        Event::Grace => rig.pass(limits::CLOSE_GRACE),
        Event::Silence => rig.pass(limits::SILENCE_TIMEOUT),
        Event::Deadline => rig.pass(LIFETIME),
    }
}

fn current_frame(rig: &Rig) -> u8 {
    u8::try_from(rig.elapsed().as_millis() / INTERVAL.as_millis()).unwrap_or(u8::MAX).min(3)
}

/// What tells two situations apart for the future.
fn fingerprint(rig: &Rig) -> u64 {
    let Session { settings: _, node: _, state, joined, connections, away: _, epochs: _, quotas, outputs } =
        &rig.session;
    assert!(outputs.is_empty());
    let mut hasher = DefaultHasher::new();
    (state, joined.is_some(), connections, quotas, &rig.route, rig.elapsed(), rig.ended()).hash(&mut hasher);
    hasher.finish()
}

/// A named way into each state that the protocol's state table has.
fn states() -> Vec<(&'static str, Vec<Event>)> {
    let joined = || vec![Event::Open, Event::Join];
    let then = |mut events: Vec<Event>, more: &[Event]| {
        events.extend(more);
        events
    };
    vec![
        ("vacant", vec![]),
        ("old connected", vec![Event::Connect(Role::Old)]),
        ("new connected", vec![Event::Connect(Role::New)]),
        ("waiting", vec![Event::Open]),
        ("waiting, old away", vec![Event::Open, Event::HangUp(Role::Old)]),
        ("joined", joined()),
        ("joined, old away", then(joined(), &[Event::HangUp(Role::Old)])),
        ("joined, new away", then(joined(), &[Event::HangUp(Role::New)])),
        ("joined, both away", then(joined(), &[Event::HangUp(Role::Old), Event::HangUp(Role::New)])),
        ("joined, a stranger connected", then(joined(), &[Event::Connect(Role::New)])),
        ("ending", then(joined(), &[Event::Complete(Role::Old)])),
        ("ended", then(joined(), &[Event::Complete(Role::Old), Event::Grace])),
        ("scanned twice", then(joined(), &[Event::JoinByAnother])),
        ("expired", vec![Event::Open, Event::Deadline]),
        ("forgotten", vec![Event::Open, Event::Deadline, Event::Silence]),
    ]
}

#[test]
fn every_state_meets_every_event() {
    let mut cells = 0;
    for (name, path) in states() {
        let mut reached = Rig::new();
        path.iter().for_each(|event| apply(&mut reached, *event));
        let ended = reached.ended();
        for event in EVENTS {
            let mut rig = reached.clone();
            apply(&mut rig, event);
            if let Some(reason) = ended.filter(|_| name != "forgotten") {
                assert_eq!(rig.ended(), Some(reason), "{name}: {event:?} cannot change how it ended");
                assert!(!rig.session.is_open(), "{name}: {event:?} cannot reopen");
            }
            rig.pass(LIFETIME + limits::CLOSE_GRACE);
            rig.pass(limits::FIRST_MESSAGE_TIMEOUT + limits::CLOSE_GRACE);
            let idle = rig.connections(Role::Old).is_empty() && rig.connections(Role::New).is_empty();
            assert!(idle && rig.session.poll_timeout().is_none(), "{name}: {event:?} leaves something behind");
            cells += 1;
        }
    }
    println!("{cells} pairs of state and event");
}

/// What each event makes of a situation, each result once.
fn followers(rig: &Rig, events: &[Event]) -> Vec<(u64, Rig)> {
    let mut known = HashSet::from([fingerprint(rig)]);
    let follow = |event: &Event| {
        let mut rig = rig.clone();
        apply(&mut rig, *event);
        rig.forget_the_past();
        (fingerprint(&rig), rig)
    };
    events.iter().map(follow).filter(|(fingerprint, _)| known.insert(*fingerprint)).collect()
}

#[test]
fn every_order_of_the_main_events_to_depth_8() {
    let main = [
        Event::Open,
        Event::Join,
        Event::JoinByAnother,
        Event::Resume(Role::Old),
        Event::Resume(Role::New),
        Event::Data(Role::Old),
        Event::HangUp(Role::Old),
        Event::HangUp(Role::New),
        Event::Cancel(Role::New),
        Event::Complete(Role::Old),
        Event::Interval,
        Event::Deadline,
    ];
    let mut level = vec![Rig::new()];
    let mut seen: HashSet<u64> = level.iter().map(fingerprint).collect();
    let mut orders = 1_u64;
    for _ in 0..8 {
        let half = level.len().div_ceil(2);
        let follow = |rigs: &[Rig]| -> Vec<(u64, Rig)> { rigs.iter().flat_map(|rig| followers(rig, &main)).collect() };
        let (first, second) = level.split_at(half);
        let reached = std::thread::scope(|scope| {
            let second = scope.spawn(|| follow(second));
            [follow(first), second.join().unwrap()].concat()
        });
        let next =
            reached.into_iter().filter_map(|(fingerprint, rig)| seen.insert(fingerprint).then_some(rig)).collect();
        orders *= 12;
        level = next;
    }
    println!("{} different situations in {orders} orders of 8 events", seen.len());
    assert!(seen.len() > 250_000);
}

proptest! {
    #[test]
    fn random_walks_never_break_a_rule(walk in proptest::collection::vec(proptest::sample::select(&EVENTS[..]), 0..80)) {
        let mut rig = Rig::new();
        walk.into_iter().for_each(|event| apply(&mut rig, event));
    }
}
