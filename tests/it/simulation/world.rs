//! Two phones, their persons, a relay and the time they live in. A run depends on nothing but its seed. Knows nothing
//! of how a network loses things, see [`network`].

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use handoff_relay::client::{
    EndReason, Machine, NewEvent, NewOutcome, NewSettings, NewTransfer, OldEvent, OldOutcome, OldSettings, OldTransfer,
    Step,
};
use handoff_relay::crypto::{CheckCode, Credential, DeviceInfo, DeviceKey};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::qr::{QrPayload, RelayRef};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::relay::Relay;
use network::Connection;
pub(super) use network::Network;

/// What the person does.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) scans_after: Option<Duration>,
    pub(super) types_after: Option<Duration>,
    pub(super) types: Option<&'static str>,
    /// Scans again when the first scan came too late.
    pub(super) rescans: bool,
}

pub(super) enum App {
    Old(Box<OldTransfer<StdRng>>),
    New(Box<NewTransfer<StdRng>>),
}

macro_rules! each {
    ($app:expr, $machine:ident => $what:expr) => {
        match $app {
            App::Old($machine) => $what,
            App::New($machine) => $what,
        }
    };
}

mod network;

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) network: Network,
    pub(super) person: Person,
    pub(super) relay: Relay,
    pub(super) phones: Vec<App>,
    connections: Vec<Connection>,
    next_id: u64,
    pub(super) old_events: Vec<OldEvent>,
    pub(super) new_events: Vec<NewEvent>,
    credential: Vec<u8>,
    shown: Option<QrPayload>,
    code: Option<CheckCode>,
    asked_at: Option<Instant>,
    scan_at: Option<Instant>,
    /// When somebody whose scan came too late scans again.
    rescan_at: Option<Instant>,
    /// Deliveries so far, and what to break at which.
    pub(super) steps: usize,
    pub(super) breaks: Vec<(usize, usize)>,
    /// Says which messages vanish, together with their connection.
    pub(super) loses: Vec<(Role, &'static str)>,
    /// When the relay's node goes down.
    pub(super) shut_down_at: Vec<Instant>,
    /// Connections that broke, and those among them that only fell silent.
    pub(super) broken: u32,
    pub(super) silenced: u32,
    rng: StdRng,
}

/// Where simulated time starts; only differences matter.
#[expect(clippy::disallowed_methods, reason = "simulated time needs some origin")]
fn origin() -> Instant {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

fn device(model: &str) -> DeviceInfo {
    DeviceInfo::new(model, "1").unwrap()
}

impl World {
    pub(super) fn new(seed: u64, length: usize, network: Network) -> Self {
        let now = origin();
        let credential: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let settings = OldSettings::new(RelayRef::Listed(NonZeroU8::MIN), device("old"));
        let rng = StdRng::seed_from_u64(seed ^ 0x6f6c_6400);
        let old = OldTransfer::new(settings, Credential::new(credential.clone()), now, rng).unwrap();
        Self {
            start: now,
            now,
            network,
            person: Person {
                scans_after: Some(Duration::from_secs(1)),
                types_after: Some(Duration::from_secs(3)),
                types: None,
                rescans: false,
            },
            relay: Relay::new(now),
            phones: vec![App::Old(Box::new(old))],
            connections: Vec::new(),
            next_id: 0,
            old_events: Vec::new(),
            new_events: Vec::new(),
            credential,
            shown: None,
            code: None,
            asked_at: None,
            scan_at: None,
            rescan_at: None,
            steps: 0,
            breaks: Vec::new(),
            loses: Vec::new(),
            shut_down_at: Vec::new(),
            broken: 0,
            silenced: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn shown(&self) -> Option<&QrPayload> {
        self.shown.as_ref()
    }

    /// A phone scans what is or was on the screen.
    pub(super) fn scan(&mut self, payload: QrPayload) {
        let phone = self.new_phone(payload);
        self.phones.push(phone);
    }

    fn new_phone(&mut self, payload: QrPayload) -> App {
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let settings = NewSettings::new(device("new"), DeviceKey::generate(&mut rng));
        App::New(Box::new(NewTransfer::new(settings, payload, self.now, rng).unwrap()))
    }

    /// Runs until every phone is finished.
    pub(super) fn run(&mut self) -> &mut Self {
        self.run_until(Self::is_over)
    }

    pub(super) fn is_over(&self) -> bool {
        self.rescan_at.is_none()
            && self.phones.iter().all(|phone| each!(phone, machine => machine.step()) == Step::Finished)
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> &mut Self {
        for _ in 0..1_000_000 {
            self.settle();
            if done(self) || !self.advance() {
                return self;
            }
        }
        panic!("the transfer never comes to rest");
    }

    /// How it ended; the phones are used up.
    pub(super) fn outcomes(&mut self) -> (OldOutcome, Vec<NewOutcome>) {
        let mut old = None;
        let mut new = Vec::new();
        for phone in self.phones.drain(..) {
            match phone {
                App::Old(machine) => old = Some(machine.into_outcome()),
                App::New(machine) => new.push(machine.into_outcome()),
            }
        }
        (old.unwrap(), new)
    }

    pub(super) fn is_intact(&self, received: &[u8]) -> bool {
        received == self.credential
    }

    /// Takes everything out of all machines, and does what persons and drivers do.
    fn settle(&mut self) {
        loop {
            self.post_from_relay();
            let sent = (0..self.phones.len()).any(|phone| self.post_from(phone));
            self.take_events();
            if !sent && self.relay.said.is_empty() {
                break;
            }
        }
        self.connections.retain(|connection| connection.app_listens || connection.relay_listens);
        for phone in 0..self.phones.len() {
            self.connect_if_wanted(phone);
        }
    }

    fn take_events(&mut self) {
        for phone in 0..self.phones.len() {
            match &mut self.phones[phone] {
                App::Old(old) => {
                    while let Some(event) = old.poll_event() {
                        match &event {
                            OldEvent::QrShown { payload, .. } => self.shown = Some(payload.clone()),
                            OldEvent::QrHidden => self.shown = None,
                            OldEvent::AskCode { .. } => self.asked_at = Some(self.now),
                            OldEvent::CodeAccepted => self.relay.code_accepted = true,
                            _ => {}
                        }
                        self.old_events.push(event);
                    }
                }
                App::New(new) => {
                    while let Some(event) = new.poll_event() {
                        match &event {
                            NewEvent::ShowCode(code) => self.code = Some(code.clone()),
                            NewEvent::Ended(EndReason::Closed(CloseReason::StaleFrame)) if self.person.rescans => {
                                self.rescan_at = Some(self.now + Duration::from_secs(2));
                            }
                            _ => {}
                        }
                        self.new_events.push(event);
                    }
                }
            }
        }
        if let (None, Some(_), Some(delay)) = (self.scan_at, &self.shown, self.person.scans_after) {
            self.scan_at = Some(self.now + delay);
        }
    }

    /// Does the next thing that is due; `false` if nothing ever is.
    fn advance(&mut self) -> bool {
        let wanted =
            self.phones.iter().enumerate().filter_map(|(index, phone)| match each!(phone, machine => machine.step()) {
                Step::ConnectAt(due) if !self.connections.iter().any(|c| c.phone == index && c.app_listens) => {
                    Some(due)
                }
                _ => None,
            });
        let typed_at = self.typed_at();
        let due = wanted
            .chain(self.connections.iter().filter_map(Connection::next_due))
            .chain(self.phones.iter().filter_map(|phone| each!(phone, machine => machine.poll_timeout())))
            .chain(self.relay.next_timeout())
            .chain(typed_at)
            .chain(self.scan_at.filter(|_| self.phones.len() == 1 && self.shown.is_some()))
            .chain(self.rescan_at.filter(|_| self.shown.is_some()))
            .chain(self.shut_down_at.first().copied())
            .min();
        let Some(due) = due else { return false };
        self.now = self.now.max(due);
        let now = self.now;
        if self.shut_down_at.first().is_some_and(|at| *at <= now) {
            self.shut_down_at.remove(0);
            self.relay.shut_down(now);
            return true;
        }
        self.act(typed_at.is_some_and(|at| at <= now));
        if let Some(index) = self.connections.iter().position(|c| c.next_due().is_some_and(|at| at <= now)) {
            self.handle_connection(index);
            return true;
        }
        self.relay.handle_timeout(now);
        for phone in &mut self.phones {
            each!(phone, machine => if machine.poll_timeout().is_some_and(|at| at <= now) { machine.handle_timeout(now) });
        }
        true
    }

    fn typed_at(&self) -> Option<Instant> {
        let seen = self.code.is_some() || self.person.types.is_some();
        self.asked_at.filter(|_| seen)?.checked_add(self.person.types_after?)
    }

    fn act(&mut self, types: bool) {
        let now = self.now;
        if self.phones.len() == 1
            && self.scan_at.is_some_and(|at| at <= now)
            && let Some(payload) = self.shown.clone()
        {
            self.scan(payload);
        }
        if self.rescan_at.is_some_and(|at| at <= now)
            && let Some(payload) = self.shown.clone()
        {
            self.rescan_at = None;
            self.phones[1] = self.new_phone(payload);
        }
        if types {
            self.asked_at = None;
            let entered = self.person.types.map_or_else(|| self.code.clone().unwrap(), |text| text.parse().unwrap());
            if let App::Old(old) = &mut self.phones[0] {
                old.enter_code(&entered, now);
            }
        }
    }

    fn role_of(&self, phone: usize) -> Role {
        if matches!(self.phones[phone], App::Old(_)) { Role::Old } else { Role::New }
    }
}
