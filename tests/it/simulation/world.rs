//! Everything between two thumbs: both apps' machines, their connections, the relay's session, the person, the clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handoff_relay::client::{
    EndReason, Machine, NewEvent, NewOutcome, NewSettings, NewTransfer, OldEvent, OldOutcome, OldSettings, OldTransfer,
    Step, Transmit,
};
use handoff_relay::crypto::{CheckCode, Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::limits::SESSION_LIFETIME;
use handoff_relay::protocol::message::{ClientMessage, ServerMessage};
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use handoff_relay::session::network_tag::{NetworkTag, Refuse};
use handoff_relay::session::route::Route;
use handoff_relay::session::{ConnectionId, Note, Output, Session, Settings};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::half_open::HalfOpen;

/// One way, one hop.
const LATENCY: Duration = Duration::from_millis(40);

/// How long a side needs to notice that its connection was cut.
const NOTICE: Duration = Duration::from_millis(200);

/// When connections are cut. A step is one thing arriving over a connection, in either direction.
#[derive(Clone, Debug)]
pub(super) enum Cuts {
    None,
    At(Vec<usize>),
    /// At random, at most so often.
    Random(usize),
}

/// What the person does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) scans: bool,
    /// From the first QR code on.
    pub(super) scans_after: Duration,
    /// From the scan on.
    pub(super) joins_after: Duration,
    pub(super) types: bool,
    pub(super) types_right: bool,
}

impl Person {
    pub(super) fn careful() -> Self {
        Self {
            scans: true,
            scans_after: Duration::from_secs(3),
            joins_after: Duration::ZERO,
            types: true,
            types_right: true,
        }
    }
}

#[derive(Debug)]
enum Arrival {
    /// The handshake is done, at both ends.
    Connected(Role, ConnectionId),
    AtRelay(ConnectionId, Transmit),
    AtApp(ConnectionId, Down),
    LostAtRelay(ConnectionId),
    LostAtApp(ConnectionId, Option<u16>),
    Scan,
    Join(QrPayload),
    Type(CheckCode),
}

#[derive(Debug)]
enum Down {
    Text(String),
    Binary(Bytes),
    Ping,
    Pong,
}

/// One app, and the connection it has or is making.
#[derive(Debug)]
struct Phone<M> {
    machine: M,
    connection: Option<ConnectionId>,
}

impl<M> Phone<M> {
    /// The connection to send this over; after a close it is no longer the machine's.
    fn connection_for(&mut self, transmit: &Transmit) -> Option<ConnectionId> {
        if *transmit == Transmit::Close { self.connection.take() } else { self.connection }
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) notes: Vec<Note>,
    pub(super) steps: usize,
    pub(super) cut: usize,
    /// How often the new app said that the credential is there.
    pub(super) received: usize,
    start: Instant,
    now: Instant,
    rng: StdRng,
    cuts: Cuts,
    pub(super) half_open: HalfOpen,
    person: Person,
    old: Phone<OldTransfer<StdRng>>,
    new: Option<Phone<NewTransfer<StdRng>>>,
    shown: Option<QrPayload>,
    scanned: bool,
    asked: bool,
    code: Option<CheckCode>,
    session: Session,
    route: Option<Route>,
    roles: BTreeMap<ConnectionId, Role>,
    arrivals: BTreeMap<(Instant, u64), Arrival>,
    next_number: u64,
}

fn settings() -> Settings {
    Settings { lifetime: SESSION_LIFETIME, intervals: vec![Duration::from_secs(5)], refuse: Refuse::Nothing }
}

fn device(name: &str) -> DeviceInfo {
    DeviceInfo::new(name, "1").unwrap()
}

impl World {
    pub(super) fn new(seed: u64, credential: &[u8], cuts: Cuts, person: Person) -> Self {
        let now = Instant::now();
        let relay = RelayRef::Listed(std::num::NonZeroU8::MIN);
        let settings_old = OldSettings::new(relay, device("old"));
        let rng = StdRng::seed_from_u64(seed ^ 1);
        let machine = OldTransfer::new(settings_old, Credential::new(credential.to_vec()), now, rng).unwrap();
        Self {
            seed,
            notes: Vec::new(),
            steps: 0,
            cut: 0,
            received: 0,
            start: now,
            now,
            rng: StdRng::seed_from_u64(seed),
            cuts,
            half_open: HalfOpen::at_most(0, seed),
            person,
            old: Phone { machine, connection: None },
            new: None,
            shown: None,
            scanned: false,
            asked: false,
            code: None,
            session: Session::new(settings()),
            route: None,
            roles: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until both apps are done.
    pub(super) fn run(mut self) -> (Self, OldOutcome, NewOutcome) {
        while !self.is_done() {
            assert!(self.elapsed() < SESSION_LIFETIME + Duration::from_mins(1), "seed {}: it never ends", self.seed);
            self.service_apps();
            self.pump_session();
            self.advance();
        }
        let old = std::mem::replace(&mut self.old, Self::new(0, b"", Cuts::None, self.person).old).machine;
        let new = self.new.take().map_or(NewOutcome::from(EndReason::Cancelled), |phone| phone.machine.into_outcome());
        (self, old.into_outcome(), new)
    }

    fn is_done(&self) -> bool {
        let new = self.new.as_ref();
        let new_is_done = new.map_or(!self.person.scans, |phone| phone.machine.step() == Step::Finished);
        self.old.machine.step() == Step::Finished && new_is_done
    }

    /// To the next moment at which anything happens.
    fn advance(&mut self) {
        let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
        let machines = [timeout(&self.old), self.new.as_ref().and_then(timeout)];
        let next = machines.into_iter().flatten().chain(arrival).chain(self.session.poll_timeout()).min();
        self.now = self.now.max(next.expect("somebody always waits for something"));
        let now = self.now;
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        if self.old.machine.poll_timeout().is_some_and(|at| at <= now) {
            self.old.machine.handle_timeout(now);
        }
        if let Some(new) = self.new.as_mut().filter(|new| new.machine.poll_timeout().is_some_and(|at| at <= now)) {
            new.machine.handle_timeout(now);
        }
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= now) {
            let arrival = entry.remove();
            self.arrive(arrival);
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = self.now;
        match arrival {
            Arrival::Connected(role, id) if self.roles.contains_key(&id) => {
                self.steps += 1;
                self.session.handle_connect(id, role, NetworkTag::UNKNOWN, now);
                self.with_app(role, |app| app.handle_connected(now), |app| app.handle_connected(now));
                self.maybe_cut(id);
            }
            Arrival::AtRelay(id, Transmit::Close) if self.half_open.swallows_up(id) => drop(self.roles.remove(&id)),
            Arrival::AtRelay(id, _) | Arrival::LostAtRelay(id) if self.half_open.swallows_up(id) => {}
            Arrival::AtApp(id, _) | Arrival::LostAtApp(id, _) if self.half_open.swallows_down(id) => {}
            Arrival::AtRelay(id, transmit) if self.roles.contains_key(&id) => {
                self.steps += 1;
                match transmit {
                    Transmit::Text(text) => {
                        self.session.handle_message(id, ClientMessage::decode(&text).unwrap(), now);
                    }
                    Transmit::Binary(frame) => self.session.handle_data(id, frame, now),
                    Transmit::Ping => {
                        self.session.handle_heartbeat(id, now);
                        self.later(LATENCY, Arrival::AtApp(id, Down::Pong));
                    }
                    Transmit::Close => {
                        self.roles.remove(&id);
                        self.session.handle_disconnect(id);
                    }
                }
                self.maybe_cut(id);
            }
            Arrival::AtApp(id, down) if self.is_in_use(id) => {
                self.steps += 1;
                let role = self.roles[&id];
                match down {
                    Down::Text(text) => {
                        self.with_app(role, |app| app.handle_message(&text, now), |app| app.handle_message(&text, now));
                    }
                    Down::Binary(frame) => {
                        self.with_app(role, |app| app.handle_frame(&frame, now), |app| app.handle_frame(&frame, now));
                    }
                    Down::Ping if self.half_open.swallows_up(id) => {}
                    Down::Ping => self.session.handle_heartbeat(id, now),
                    Down::Pong => self.with_app(role, |app| app.handle_pong(now), |app| app.handle_pong(now)),
                }
                self.maybe_cut(id);
            }
            Arrival::Connected(..) | Arrival::AtRelay(..) | Arrival::AtApp(..) => {}
            Arrival::LostAtRelay(id) => self.session.handle_disconnect(id),
            Arrival::LostAtApp(id, code) => self.lose(id, code),
            Arrival::Scan => {
                if let Some(payload) = self.shown.clone() {
                    self.later(self.person.joins_after, Arrival::Join(payload));
                } else {
                    self.later(Duration::from_secs(1), Arrival::Scan);
                }
            }
            Arrival::Join(payload) => self.switch_new_on(payload),
            Arrival::Type(code) => self.old.machine.enter_code(&code, now),
        }
        self.pump_session();
    }

    /// Whether the app on this connection still listens to it.
    fn is_in_use(&self, id: ConnectionId) -> bool {
        let new = self.new.as_ref().and_then(|new| new.connection);
        self.roles.contains_key(&id) && [self.old.connection, new].contains(&Some(id))
    }

    fn switch_new_on(&mut self, payload: QrPayload) {
        let key = DeviceKey::generate(&mut self.rng);
        // Another number each time: a second scan has another resume token.
        let rng = StdRng::seed_from_u64(self.seed ^ (self.next_number << 32) ^ 2);
        let machine = NewTransfer::new(NewSettings::new(device("new"), key), payload, self.now, rng).unwrap();
        self.new = Some(Phone { machine, connection: None });
    }

    /// Takes what the apps want to send and to tell, and does what they want of their connections.
    fn service_apps(&mut self) {
        while let Some(transmit) = self.old.machine.poll_transmit() {
            let connection = self.old.connection_for(&transmit);
            self.send(connection, transmit);
        }
        while let Some(event) = self.old.machine.poll_event() {
            self.see_old(event);
        }
        self.connect(Role::Old, self.old.machine.step());
        let Some(mut new) = self.new.take() else { return };
        while let Some(transmit) = new.machine.poll_transmit() {
            let connection = new.connection_for(&transmit);
            self.send(connection, transmit);
        }
        while let Some(event) = new.machine.poll_event() {
            self.see_new(event);
        }
        let step = new.machine.step();
        self.new = Some(new);
        self.connect(Role::New, step);
    }

    fn connect(&mut self, role: Role, step: Step) {
        let connection = match role {
            Role::Old => &mut self.old.connection,
            Role::New => &mut self.new.as_mut().unwrap().connection,
        };
        match step {
            Step::ConnectAt(at) if at <= self.now && connection.is_none() => {
                let id = ConnectionId(self.next_number);
                *connection = Some(id);
                self.roles.insert(id, role);
                self.later(LATENCY * 3, Arrival::Connected(role, id));
            }
            Step::Finished => {
                if let Some(id) = connection.take() {
                    self.later(LATENCY, Arrival::LostAtRelay(id));
                }
            }
            Step::ConnectAt(_) | Step::Stay => {}
        }
    }

    fn send(&mut self, connection: Option<ConnectionId>, transmit: Transmit) {
        if let Some(id) = connection {
            self.later(LATENCY, Arrival::AtRelay(id, transmit));
        }
    }

    fn see_old(&mut self, event: OldEvent) {
        match event {
            OldEvent::QrShown { payload, .. } => {
                self.shown = Some(payload);
                if self.person.scans && !std::mem::replace(&mut self.scanned, true) {
                    self.later(self.person.scans_after, Arrival::Scan);
                }
            }
            OldEvent::QrHidden => self.shown = None,
            OldEvent::AskCode { .. } => self.asked = true,
            _ => {}
        }
        self.maybe_type();
    }

    fn see_new(&mut self, event: NewEvent) {
        match event {
            NewEvent::ShowCode(code) => self.code = Some(code),
            NewEvent::CredentialReceived => self.received += 1,
            // A person who sees the picture scans it again; one who has a photograph cannot.
            NewEvent::Ended(EndReason::Closed(CloseReason::StaleFrame)) if self.person.joins_after.is_zero() => {
                self.later(Duration::from_secs(2), Arrival::Scan);
            }
            _ => {}
        }
        self.maybe_type();
    }

    fn maybe_type(&mut self) {
        if !(self.asked && self.person.types) {
            return;
        }
        let Some(code) = self.code.take() else { return };
        let wrong = || if code.to_string() == "1000" { "1001" } else { "1000" }.parse().unwrap();
        let typed = if self.person.types_right { code } else { wrong() };
        self.later(Duration::from_secs(4), Arrival::Type(typed));
    }

    fn pump_session(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(id, message) => self.later(LATENCY, Arrival::AtApp(id, Down::Text(message.encode()))),
                Output::Forward(id, frame) => self.later(LATENCY, Arrival::AtApp(id, Down::Binary(frame))),
                Output::Ping(id) => self.later(LATENCY, Arrival::AtApp(id, Down::Ping)),
                Output::Close(id, reason, retry_after) => {
                    let millis = retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap());
                    let ended = ServerMessage::ended(reason, millis).encode();
                    self.later(LATENCY, Arrival::AtApp(id, Down::Text(ended)));
                    self.later(LATENCY, Arrival::LostAtApp(id, Some(reason.code())));
                    self.later(LATENCY * 2, Arrival::LostAtRelay(id));
                }
                Output::Cut(id) => self.later(LATENCY, Arrival::LostAtApp(id, None)),
                Output::Transition(id, transition) => {
                    let now = self.elapsed();
                    let outcome = Route::apply(&mut self.route, transition, SESSION_LIFETIME, Refuse::Nothing, now);
                    if let Some(id) = id {
                        self.session.handle_outcome(id, Ok(outcome), self.now);
                    }
                }
                Output::Note(note) => self.notes.push(note),
                // What the registry does: a finished session is replaced by a new one.
                Output::Finished => self.session = Session::new(settings()),
            }
        }
    }

    /// A connection is gone for its app, whoever ended it.
    fn lose(&mut self, id: ConnectionId, code: Option<u16>) {
        let Some(role) = self.roles.remove(&id) else { return };
        let now = self.now;
        let connection = match role {
            Role::Old => Some(&mut self.old.connection),
            Role::New => self.new.as_mut().map(|new| &mut new.connection),
        };
        let Some(connection) = connection.filter(|connection| **connection == Some(id)) else { return };
        *connection = None;
        self.with_app(role, |app| app.handle_disconnected(code, now), |app| app.handle_disconnected(code, now));
    }

    fn maybe_cut(&mut self, id: ConnectionId) {
        self.half_open.maybe_kill(id);
        let step = self.steps - 1;
        let is_cut = match &self.cuts {
            Cuts::None => false,
            Cuts::At(steps) => steps.contains(&step),
            Cuts::Random(most) => self.cut < *most && self.rng.random_range(0..8) == 0,
        };
        if !is_cut || !self.roles.contains_key(&id) {
            return;
        }
        self.cut += 1;
        // What is in flight is lost; each side notices by itself.
        let is_of = |arrival: &Arrival| match arrival {
            Arrival::AtRelay(of, _) | Arrival::AtApp(of, _) | Arrival::LostAtApp(of, _) | Arrival::LostAtRelay(of) => {
                *of == id
            }
            Arrival::Connected(..) | Arrival::Scan | Arrival::Join(_) | Arrival::Type(_) => false,
        };
        self.arrivals.retain(|_, arrival| !is_of(arrival));
        self.later(NOTICE, Arrival::LostAtApp(id, None));
        let slower = NOTICE * self.rng.random_range(1..20);
        self.later(slower, Arrival::LostAtRelay(id));
    }

    fn later(&mut self, delay: Duration, arrival: Arrival) {
        self.next_number += 1;
        self.arrivals.insert((self.now + delay, self.next_number), arrival);
    }

    fn with_app(
        &mut self,
        role: Role,
        old: impl FnOnce(&mut OldTransfer<StdRng>),
        new: impl FnOnce(&mut NewTransfer<StdRng>),
    ) {
        match role {
            Role::Old => old(&mut self.old.machine),
            Role::New => {
                if let Some(phone) = &mut self.new {
                    new(&mut phone.machine);
                }
            }
        }
    }
}

/// When a machine wants to be called, or wants to connect.
fn timeout<M: Machine>(phone: &Phone<M>) -> Option<Instant> {
    let connect = match phone.machine.step() {
        Step::ConnectAt(at) if phone.connection.is_none() => Some(at),
        Step::ConnectAt(_) | Step::Stay | Step::Finished => None,
    };
    phone.machine.poll_timeout().into_iter().chain(connect).min()
}
