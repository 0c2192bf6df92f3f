//! The connections between phones and relay. TCP-like: what arrives arrives in order; what is on its way when a
//! connection breaks is lost, in both directions. Each end hears of it, or does not (half-open) and then notices the
//! silence. Knows nothing of what is said.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handoff_relay::client::{ConnectFailure, Machine as _, Step, Transmit};
use handoff_relay::session::ConnectionId;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::super::relay::Down;
use super::{App, World};

/// What the network is like.
#[derive(Clone, Debug)]
pub(in super::super) struct Network {
    pub(in super::super) latency: Duration,
    pub(in super::super) jitter: Duration,
    /// Mean time until a connection breaks.
    pub(in super::super) breaks_after: Option<Duration>,
    /// Percent of those that only fall silent.
    pub(in super::super) half_open: u32,
    /// Percent of connections that are refused.
    pub(in super::super) refused: u32,
    /// Percent of handshakes that take up to nine seconds.
    pub(in super::super) slow: u32,
    /// The relay hears of a break within this time, an app within [`APP_NOTICES_WITHIN`].
    pub(in super::super) relay_notices_within: Duration,
    /// So many more breaks happen at random, each behind one delivery in [`DELIVERIES_A_CUT`].
    pub(in super::super) cuts_left: u32,
    /// So many more connections die without a word, up, down or both ways, just as often.
    pub(in super::super) deaths_left: u32,
}

const APP_NOTICES_WITHIN: Duration = Duration::from_millis(50);
const DELIVERIES_A_CUT: u32 = 8;

impl Network {
    pub(in super::super) const GOOD: Self = Self {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        breaks_after: None,
        half_open: 0,
        refused: 0,
        slow: 0,
        relay_notices_within: Duration::from_millis(50),
        cuts_left: 0,
        deaths_left: 0,
    };
}

#[derive(Clone, Debug)]
enum Up {
    Text(String),
    Data(Bytes),
    /// A ping that the relay answers.
    Ping,
    Pong,
    Gone,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each end knows something else of a connection")]
pub(super) struct Connection {
    id: ConnectionId,
    pub(super) phone: usize,
    opens_at: Instant,
    is_open: bool,
    /// Nothing that the app sends passes any more, and the relay is not told.
    is_silent_up: bool,
    /// Nothing that the relay sends passes any more, and the app is not told.
    is_silent_down: bool,
    breaks_at: Option<Instant>,
    up: VecDeque<(Instant, Up)>,
    down: VecDeque<(Instant, Down)>,
    pub(super) app_listens: bool,
    pub(super) relay_listens: bool,
}

impl World {
    /// Breaks the connections of a phone; what is on its way is lost.
    pub(in super::super) fn cut(&mut self, phone: usize) {
        for index in 0..self.connections.len() {
            if self.connections[index].phone == phone {
                self.break_connection(index, false);
            }
        }
    }

    /// From now on nothing passes, and nobody is told.
    pub(in super::super) fn silence(&mut self, phone: usize) {
        for connection in self.connections.iter_mut().filter(|connection| connection.phone == phone) {
            connection.fall_silent(true, true);
        }
    }

    fn break_connection(&mut self, index: usize, silently: bool) {
        let connection = &mut self.connections[index];
        if connection.is_silent() || !connection.is_open {
            return;
        }
        self.broken += 1;
        if silently {
            connection.fall_silent(true, true);
            self.silenced += 1;
            return;
        }
        connection.breaks_at = None;
        connection.up.clear();
        connection.down.clear();
        let within = [self.network.relay_notices_within, APP_NOTICES_WITHIN];
        let [up, down] = within.map(|within| self.now + self.rng.random_range(Duration::ZERO..within));
        connection.up.push_back((up, Up::Gone));
        // An app that has hung up has a newer connection by now.
        if connection.app_listens {
            connection.down.push_back((down, Down::Gone));
        }
    }

    pub(super) fn post_from(&mut self, phone: usize) -> bool {
        let mut sent = false;
        while let Some(transmit) = each!(&mut self.phones[phone], machine => machine.poll_transmit()) {
            sent = true;
            let Some(index) = self.connections.iter().position(|c| c.phone == phone && c.app_listens && c.is_open)
            else {
                panic!("phone {phone} sends {transmit:?} over no connection");
            };
            let arrives_at = self.arrival();
            let connection = &mut self.connections[index];
            let what = match transmit {
                Transmit::Text(text) => Up::Text(text),
                Transmit::Binary(frame) => Up::Data(frame),
                Transmit::Ping => Up::Ping,
                Transmit::Close => {
                    connection.app_listens = false;
                    connection.down.clear();
                    Up::Gone
                }
            };
            connection.send_up(arrives_at, what);
        }
        sent
    }

    pub(super) fn post_from_relay(&mut self) {
        for (id, what) in std::mem::take(&mut self.relay.said) {
            let arrives_at = self.arrival();
            let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { continue };
            if matches!(what, Down::Gone) {
                connection.relay_listens = false;
            }
            if connection.app_listens && !connection.is_silent_down {
                let at = connection.down.back().map_or(arrives_at, |(last, _)| arrives_at.max(*last));
                connection.down.push_back((at, what));
            }
        }
    }

    fn arrival(&mut self) -> Instant {
        let jitter = self.network.jitter.mul_f64(self.rng.random());
        self.now + self.network.latency + jitter
    }

    pub(super) fn connect_if_wanted(&mut self, phone: usize) {
        let Step::ConnectAt(due) = each!(&self.phones[phone], machine => machine.step()) else { return };
        if due > self.now || self.connections.iter().any(|c| c.phone == phone && c.app_listens) {
            return;
        }
        let percent = |rng: &mut StdRng, percent: u32| rng.random_range(0..100) < percent;
        if percent(&mut self.rng, self.network.refused) {
            let now = self.now;
            each!(&mut self.phones[phone], machine => machine.handle_connect_failed(ConnectFailure::Connect, now));
            return;
        }
        let slow = percent(&mut self.rng, self.network.slow);
        let handshake = if slow { Duration::from_millis(self.rng.random_range(0..9000)) } else { Duration::ZERO };
        let opens_at = self.arrival() + handshake;
        let until_break = self.network.breaks_after.map(|mean| mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln()));
        self.connections.push(Connection {
            id: ConnectionId(self.next_id),
            phone,
            opens_at,
            is_open: false,
            is_silent_up: false,
            is_silent_down: false,
            breaks_at: until_break.map(|time| opens_at + time),
            up: VecDeque::new(),
            down: VecDeque::new(),
            app_listens: true,
            relay_listens: true,
        });
        self.next_id += 1;
    }

    pub(super) fn handle_connection(&mut self, index: usize) {
        let now = self.now;
        let connection = &mut self.connections[index];
        let (id, phone) = (connection.id, connection.phone);
        if !connection.is_open {
            connection.is_open = true;
            let (role, is_honest) = (self.role_of(phone), phone < 2);
            self.relay.connect(id, role, is_honest, now);
            each!(&mut self.phones[phone], machine => machine.handle_connected(now));
            return;
        }
        if connection.breaks_at.is_some_and(|at| at <= now) {
            let silently = self.rng.random_range(0..100) < self.network.half_open;
            return self.break_connection(index, silently);
        }
        self.steps += 1;
        let steps = self.steps;
        let due: Vec<usize> = self.breaks.extract_if(.., |(at, _)| *at <= steps).map(|(_, phone)| phone).collect();
        if !due.is_empty() {
            return due.into_iter().for_each(|phone| self.cut(phone));
        }
        let connection = &mut self.connections[index];
        if let Some((_, up)) = connection.up.pop_front_if(|(at, _)| *at <= now) {
            self.deliver_up(index, id, up);
        } else if let Some((_, down)) = connection.down.pop_front_if(|(at, _)| *at <= now) {
            self.deliver_down(index, phone, down);
        }
        let broken = self.broken;
        if self.network.cuts_left > 0 && self.rng.random_range(0..DELIVERIES_A_CUT) == 0 {
            self.break_connection(index, false);
            self.network.cuts_left -= self.broken - broken;
        }
        self.maybe_die(index);
    }

    fn maybe_die(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let may_die = self.network.deaths_left > 0 && !connection.is_silent();
        if may_die && self.rng.random_range(0..DELIVERIES_A_CUT) == 0 {
            let (up, down) = [(true, false), (false, true), (true, true)][self.rng.random_range(0..3)];
            connection.fall_silent(up, down);
            self.network.deaths_left -= 1;
            self.broken += 1;
            self.silenced += 1;
        }
    }

    fn deliver_up(&mut self, index: usize, id: ConnectionId, up: Up) {
        let now = self.now;
        match up {
            Up::Text(text) => {
                if self.is_lost(index, &text) {
                    return self.break_connection(index, false);
                }
                self.relay.text(id, &text, now);
            }
            Up::Data(frame) => self.relay.data(id, frame, now),
            Up::Ping => {
                self.relay.heartbeat(id, now);
                self.relay.said.push((id, Down::Pong));
            }
            Up::Pong => self.relay.heartbeat(id, now),
            Up::Gone => {
                self.connections[index].relay_listens = false;
                self.relay.disconnect(id, now);
            }
        }
    }

    fn deliver_down(&mut self, index: usize, phone: usize, down: Down) {
        let now = self.now;
        let machine = &mut self.phones[phone];
        match down {
            Down::Text(text) => {
                if self.is_lost(index, &text) {
                    return self.break_connection(index, false);
                }
                each!(&mut self.phones[phone], machine => machine.handle_message(&text, now));
            }
            Down::Data(frame) => each!(machine, machine => machine.handle_frame(&frame, now)),
            Down::Ping => {
                let arrives_at = self.arrival();
                self.connections[index].send_up(arrives_at, Up::Pong);
            }
            Down::Pong => each!(machine, machine => machine.handle_pong(now)),
            Down::Close(code) => self.lose(index, phone, Some(code)),
            Down::Gone => self.lose(index, phone, None),
        }
    }

    fn lose(&mut self, index: usize, phone: usize, code: Option<u16>) {
        let (now, arrives_at) = (self.now, self.arrival());
        let connection = &mut self.connections[index];
        connection.app_listens = false;
        connection.down.clear();
        connection.send_up(arrives_at, Up::Gone);
        each!(&mut self.phones[phone], machine => machine.handle_disconnected(code, now));
    }

    fn is_lost(&mut self, index: usize, text: &str) -> bool {
        let role = self.role_of(self.connections[index].phone);
        let kind = |wanted: &str| text.contains(&format!("\"type\":\"{wanted}\""));
        let found = self.loses.iter().position(|(whose, wanted)| *whose == role && kind(wanted));
        found.map(|at| self.loses.remove(at)).is_some()
    }
}

impl Connection {
    fn is_silent(&self) -> bool {
        self.is_silent_up || self.is_silent_down
    }

    fn fall_silent(&mut self, up: bool, down: bool) {
        (self.is_silent_up, self.is_silent_down, self.breaks_at) = (up, down, None);
        if up {
            self.up.clear();
        }
        if down {
            self.down.clear();
        }
    }

    fn send_up(&mut self, arrives_at: Instant, what: Up) {
        if !self.is_silent_up && self.relay_listens && !matches!(self.up.back(), Some((_, Up::Gone))) {
            let at = self.up.back().map_or(arrives_at, |(last, _)| arrives_at.max(*last));
            self.up.push_back((at, what));
        } else if self.is_silent_up && matches!(what, Up::Gone) {
            // The relay will notice the silence by itself.
            self.app_listens = false;
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.is_open {
            return Some(self.opens_at);
        }
        let heads = [self.up.front().map(|(at, _)| *at), self.down.front().map(|(at, _)| *at), self.breaks_at];
        heads.into_iter().flatten().min()
    }
}
