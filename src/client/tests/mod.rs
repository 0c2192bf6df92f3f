//! Two machines, a small relay and simulated time: everything that happens to a transfer, as a specification.

mod attacks;
mod connections;
mod ends;
mod handover;
mod liveness;
mod relay;
mod sockets;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use self::relay::{Down, Relay, at};
use super::time::tests::start;
use super::*;
use crate::crypto::{CheckCode, DeviceInfo, DeviceKey};
use crate::protocol::Role;
use crate::protocol::limits;
use crate::protocol::qr::{QrPayload, RelayRef};

type Old = OldTransfer<StdRng>;
type New = NewTransfer<StdRng>;

/// What the network does to a data frame on its way to the receiver: any number of frames take its place.
type Weather = Box<dyn FnMut(Role, Bytes) -> Vec<Bytes>>;

/// What a malicious relay does to its own messages.
type Tamper = Box<dyn FnMut(Role, &str) -> String>;

struct World {
    start: Instant,
    now: Instant,
    old: Old,
    new: Option<New>,
    relay: Relay,
    connected: [bool; 2],
    /// Connections over which nothing passes any more, and nobody knows.
    dead: [bool; 2],
    up: [VecDeque<Transmit>; 2],
    old_events: Vec<OldEvent>,
    new_events: Vec<NewEvent>,
    /// Delivered messages, either way.
    delivered: usize,
    /// Connections to cut after so many delivered messages.
    cuts: Vec<(usize, Role)>,
    weather: Weather,
    tamper: Tamper,
    /// Whether no relay can be reached.
    unreachable: Option<ConnectFailure>,
    /// What the person types; the code shown if `None`.
    typed: Option<&'static str>,
    types: bool,
    scans: bool,
    shown_code: Option<CheckCode>,
    asked: bool,
    prefer_up: bool,
    /// Time does not jump past this.
    horizon: Option<Instant>,
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn device(model: &str) -> DeviceInfo {
    DeviceInfo::new(model, "1.2.3").unwrap()
}

fn old_settings() -> OldSettings {
    OldSettings::new(RelayRef::Listed(std::num::NonZeroU8::MIN), device("old phone"))
}

fn new_settings() -> NewSettings {
    NewSettings::new(device("new phone"), DeviceKey::generate(&mut rng(3)))
}

fn credential(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn world(length: usize) -> World {
    World::new(old_settings(), Zeroizing::new(credential(length)))
}

impl World {
    fn new(settings: OldSettings, payload: impl Into<Payload>) -> Self {
        let now = start();
        Self {
            start: now,
            now,
            old: Old::new(settings, payload, now, rng(1)).unwrap(),
            new: None,
            relay: Relay::new(),
            connected: [false; 2],
            dead: [false; 2],
            up: Default::default(),
            old_events: Vec::new(),
            new_events: Vec::new(),
            delivered: 0,
            cuts: Vec::new(),
            weather: Box::new(|_, frame| vec![frame]),
            tamper: Box::new(|_, text| text.to_owned()),
            unreachable: None,
            typed: None,
            types: true,
            scans: true,
            shown_code: None,
            asked: false,
            prefer_up: false,
            horizon: None,
        }
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn scan(&mut self, payload: QrPayload) {
        self.new = Some(New::new(new_settings(), payload, self.now, rng(2)).unwrap());
    }

    /// The frame on the screen.
    fn shown(&self) -> Option<&QrPayload> {
        self.old_events.iter().rev().find_map(|event| match event {
            OldEvent::QrShown { payload, .. } => Some(Some(payload)),
            OldEvent::QrHidden => Some(None),
            _ => None,
        })?
    }

    /// Runs until both sides are finished.
    fn run(mut self) -> (OldOutcome, NewOutcome, Self) {
        self.run_until(|world| {
            world.old.step() == Step::Finished && world.new.as_ref().is_none_or(|new| new.step() == Step::Finished)
        });
        let fresh = || Old::new(old_settings(), Zeroizing::default(), start(), rng(9)).unwrap();
        let old = std::mem::replace(&mut self.old, fresh()).into_outcome();
        let new = self.new.take().map_or(NewOutcome::Ended(EndReason::Internal), Machine::into_outcome);
        (old, new, self)
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            self.settle();
            if done(self) {
                return;
            }
            if !self.deliver_one() && !self.pass_time() {
                return;
            }
        }
        panic!("the transfer never comes to rest");
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.horizon = Some(until);
        self.run_until(|world| world.now >= until);
        self.horizon = None;
    }

    /// Takes everything out of both machines, and does what a person and a driver do.
    fn settle(&mut self) {
        for role in Role::BOTH {
            while let Some(transmit) = self.poll_transmit(role) {
                match transmit {
                    Transmit::Close if self.connected[at(role)] => self.up[at(role)].push_back(Transmit::Close),
                    other if self.connected[at(role)] => self.up[at(role)].push_back(other),
                    other => panic!("{role} sends {other:?} over no connection"),
                }
            }
        }
        while let Some(event) = self.old.poll_event() {
            if let (OldEvent::QrShown { payload, .. }, true, true) = (&event, self.scans, self.new.is_none()) {
                self.scan(payload.clone());
            }
            self.asked |= matches!(event, OldEvent::AskCode { .. });
            self.old_events.push(event);
        }
        while let Some(event) = self.new.as_mut().and_then(Machine::poll_event) {
            if let NewEvent::ShowCode(code) = &event {
                self.shown_code = Some(code.clone());
            }
            self.new_events.push(event);
        }
        if let (true, true, Some(code)) = (self.asked, self.types, &self.shown_code) {
            let typed = self.typed.map_or_else(|| code.clone(), |typed| typed.parse().unwrap());
            self.asked = false;
            self.old.enter_code(&typed, self.now);
            self.settle();
        }
        self.connect_if_due();
    }

    fn poll_transmit(&mut self, role: Role) -> Option<Transmit> {
        match role {
            Role::Old => self.old.poll_transmit(),
            Role::New => self.new.as_mut()?.poll_transmit(),
        }
    }

    fn step(&self, role: Role) -> Option<Step> {
        match role {
            Role::Old => Some(self.old.step()),
            Role::New => self.new.as_ref().map(Machine::step),
        }
    }

    fn connect_if_due(&mut self) {
        for role in Role::BOTH {
            match self.step(role) {
                Some(Step::ConnectAt(due)) if due <= self.now && !self.connected[at(role)] => {
                    let (failure, now) = (self.unreachable, self.now);
                    self.connected[at(role)] = failure.is_none();
                    self.relay.connect(role);
                    self.with(role, |old| connect(old, failure, now), |new| connect(new, failure, now));
                    return self.settle();
                }
                _ => {}
            }
        }
    }

    fn with(&mut self, role: Role, on_old: impl FnOnce(&mut Old), on_new: impl FnOnce(&mut New)) {
        match (role, &mut self.new) {
            (Role::Old, _) => on_old(&mut self.old),
            (Role::New, Some(new)) => on_new(new),
            (Role::New, None) => {}
        }
    }

    /// Delivers the message that is next; the two directions and roles take turns.
    fn deliver_one(&mut self) -> bool {
        self.prefer_up = !self.prefer_up;
        let order = if self.prefer_up { [true, false] } else { [false, true] };
        let found = order.into_iter().any(|up| Role::BOTH.into_iter().any(|role| self.deliver(role, up)));
        if found {
            self.delivered += 1;
            for (_, role) in self.cuts.extract_if(.., |(after, _)| *after <= self.delivered).collect::<Vec<_>>() {
                self.cut(role);
            }
        }
        found
    }

    fn deliver(&mut self, role: Role, up: bool) -> bool {
        if up { self.deliver_up(role) } else { self.deliver_down(role) }
    }

    fn deliver_up(&mut self, role: Role) -> bool {
        if self.dead[at(role)] && self.up[at(role)].pop_front_if(|item| *item != Transmit::Close).is_some() {
            return true;
        }
        match self.up[at(role)].pop_front() {
            None => return false,
            Some(Transmit::Text(text)) => self.relay.text(role, &text, self.now),
            Some(Transmit::Binary(frame)) => {
                let frames = self.relay.binary(role, frame).map(|frame| (self.weather)(role, frame));
                self.relay.down[at(role.peer())].extend(frames.into_iter().flatten().map(Down::Binary));
            }
            Some(Transmit::Ping) => self.relay.ping(role),
            Some(Transmit::Close) => self.hang_up(role),
        }
        true
    }

    fn deliver_down(&mut self, role: Role) -> bool {
        let Some(item) = self.relay.down[at(role)].pop_front() else { return false };
        // What the relay still says on a connection that the app has given up is nobody's.
        if !self.connected[at(role)] || self.dead[at(role)] {
            return true;
        }
        let now = self.now;
        match item {
            Down::Text(text) => {
                let text = (self.tamper)(role, &text);
                self.with(role, |old| old.handle_message(&text, now), |new| new.handle_message(&text, now));
            }
            Down::Binary(frame) => {
                self.with(role, |old| old.handle_frame(&frame, now), |new| new.handle_frame(&frame, now));
            }
            Down::Pong => self.with(role, |old| old.handle_pong(now), |new| new.handle_pong(now)),
            Down::Close(code) => self.lose(role, Some(code)),
        }
        true
    }

    /// The connection breaks, and what is on its way is lost.
    fn cut(&mut self, role: Role) {
        if self.connected[at(role)] {
            self.settle_transmits(role);
            self.lose(role, None);
            self.relay.leave(role);
        }
    }

    /// What the machine had said already is lost with the connection.
    fn settle_transmits(&mut self, role: Role) {
        while self.poll_transmit(role).is_some() {}
    }

    fn lose(&mut self, role: Role, code: Option<u16>) {
        let now = self.now;
        self.forget(role);
        self.with(role, |old| old.handle_disconnected(code, now), |new| new.handle_disconnected(code, now));
    }

    /// The app closes the connection.
    fn hang_up(&mut self, role: Role) {
        self.forget(role);
        self.relay.leave(role);
    }

    fn forget(&mut self, role: Role) {
        self.connected[at(role)] = false;
        self.dead[at(role)] = false;
        self.up[at(role)].clear();
        self.relay.down[at(role)].clear();
    }

    /// Jumps to the next thing that is due; `false` if nothing ever is.
    fn pass_time(&mut self) -> bool {
        let due = Role::BOTH.into_iter().filter_map(|role| match self.step(role)? {
            Step::ConnectAt(due) if !self.connected[at(role)] => Some(due),
            _ => None,
        });
        let timeouts = [self.old.poll_timeout(), self.new.as_ref().and_then(Machine::poll_timeout)];
        let next = due.chain(timeouts.into_iter().flatten()).chain(self.relay.expires_at()).min();
        let Some(next) = next.into_iter().chain(self.horizon).min() else { return false };
        self.now = self.now.max(next);
        if self.relay.expires_at().is_some_and(|at| at <= self.now) {
            self.relay.end(crate::protocol::close::CloseReason::Expired);
        }
        let now = self.now;
        self.old.handle_timeout(now);
        self.with(Role::New, |_| {}, |new| new.handle_timeout(now));
        true
    }
}

fn connect(machine: &mut impl Machine, failure: Option<ConnectFailure>, now: Instant) {
    match failure {
        None => machine.handle_connected(now),
        Some(failure) => machine.handle_connect_failed(failure, now),
    }
}

/// Both sides agree that the credential arrived, complete and once.
#[track_caller]
fn assert_handed_over(outcome: (OldOutcome, NewOutcome, World), length: usize) -> World {
    let (old, new, world) = outcome;
    assert_eq!(old, OldOutcome::Delivered);
    let NewOutcome::Received { credential: received, confirmed, .. } = new else { panic!("{new:?}") };
    assert!(*received == credential(length));
    assert!(confirmed);
    for (role, (frames, bytes)) in Role::BOTH.map(|role| (role, world.relay.used(role))) {
        assert!(frames <= limits::MAX_DIRECTION_FRAMES && bytes <= limits::MAX_DIRECTION_BYTES, "{role}");
    }
    let once = |count: usize, what: &str| assert_eq!(count, 1, "{what}");
    let new_events = &world.new_events;
    once(new_events.iter().filter(|event| **event == NewEvent::CredentialReceived).count(), "received");
    once(new_events.iter().filter(|event| matches!(event, NewEvent::ShowCode(_))).count(), "code shown");
    once(world.old_events.iter().filter(|event| **event == OldEvent::Delivered).count(), "delivered");
    once(world.old_events.iter().filter(|event| matches!(event, OldEvent::AskCode { .. })).count(), "code asked");
    world
}

#[track_caller]
fn assert_both_end(outcome: &(OldOutcome, NewOutcome, World), old: EndReason, new: EndReason) {
    assert_eq!(outcome.0, OldOutcome::Ended(old));
    assert_eq!(outcome.1, NewOutcome::Ended(new));
}
