//! Who may connect and who may open a session now: counts and rates, for one address and for the whole node.
//!
//! Knows addresses and numbers only, no HTTP and no sessions. Each limit stops one thing: one address cannot take the
//! node's connections, cannot make it work on handshakes all day and cannot fill it with sessions; and no crowd of
//! addresses can do more than the node was sized for.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::network::subscriber;
use crate::telemetry;

/// Addresses whose rates are remembered (3 MiB a limit). An address is forgotten one period after its burst is
/// whole again, which takes seconds, so that only an attack from tens of thousands of networks comes near.
const MAX_ADDRESSES: usize = 65_536;

/// Least time between two sweeps of the remembered addresses: a sweep looks at all of them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// When a refused client may try again where no rate says it: connections come and go within a session's lifetime.
const CONNECTION_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time after which one more is allowed.
    pub period: Duration,
    /// How many may come at once after a rest.
    pub burst: NonZeroU32,
}

impl Rate {
    fn quota(self) -> Quota {
        // The shortest period that governor takes; it turns a zero, which no configuration allows, into no limit.
        let period = self.period.max(Duration::from_nanos(1));
        Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(self.burst)
    }
}

/// The limits of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the node.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Handshakes of one address.
    pub handshakes_per_address: Rate,
    /// Sessions opened from one address.
    pub opens_per_address: Rate,
    /// Sessions opened on the node.
    pub opens: Rate,
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Limits::connections`].
    Connections,
    /// [`Limits::connections_per_address`].
    ConnectionsPerAddress,
    /// [`Limits::handshakes_per_address`].
    HandshakesPerAddress,
    /// [`Limits::opens_per_address`].
    OpensPerAddress,
    /// [`Limits::opens`].
    Opens,
    /// More addresses at once than the node remembers.
    Addresses,
}

impl Limit {
    /// Every limit.
    pub const ALL: &'static [Self] = &[
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::HandshakesPerAddress,
        Self::OpensPerAddress,
        Self::Opens,
        Self::Addresses,
    ];

    /// The name used in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::HandshakesPerAddress => "handshakes_per_address",
            Self::OpensPerAddress => "opens_per_address",
            Self::Opens => "opens",
            Self::Addresses => "addresses",
        }
    }

    /// Whether the node is full, and not just one address's share used up.
    #[must_use]
    pub fn is_node_wide(self) -> bool {
        match self {
            Self::Connections | Self::Opens | Self::Addresses => true,
            Self::ConnectionsPerAddress | Self::HandshakesPerAddress | Self::OpensPerAddress => false,
        }
    }
}

/// Refused by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit {} is reached", limit.label())]
pub struct Refused {
    /// Which one.
    pub limit: Limit,
    /// When trying again makes sense.
    pub retry_after: Duration,
}

impl Refused {
    /// Refuses, and counts it.
    fn by(limit: Limit, retry_after: Duration) -> Self {
        metrics::counter!(telemetry::RATE_LIMITED, "limit" => limit.label()).increment(1);
        Self { limit, retry_after }
    }
}

/// A clock for rates: the time since some fixed moment.
#[derive(Clone)]
pub struct RateClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl RateClock {
    /// The operating system's monotonic clock.
    #[must_use]
    pub fn monotonic() -> Self {
        let start = MonotonicClock.now();
        Self::new(move || MonotonicClock.now().duration_since(start))
    }

    /// A clock that tells what `elapsed` says; it must never go back.
    #[must_use]
    pub fn new(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(elapsed))
    }
}

impl Clock for RateClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for RateClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateClock")
    }
}

type KeyedLimiter = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, RateClock, NoOpMiddleware<Duration>>;
type NodeLimiter = RateLimiter<NotKeyed, InMemoryState, RateClock, NoOpMiddleware<Duration>>;

/// Rates by address, bounded in memory.
struct AddressRates {
    limiter: KeyedLimiter,
    clock: RateClock,
    most: usize,
    /// When the addresses were swept last, in nanoseconds of the clock.
    swept: AtomicU64,
}

impl AddressRates {
    fn new(rate: Rate, most: usize, clock: &RateClock) -> Self {
        let limiter = RateLimiter::new(rate.quota(), DashMapStateStore::default(), clock.clone());
        Self { limiter, clock: clock.clone(), most, swept: AtomicU64::new(0) }
    }

    fn check(&self, address: IpAddr, limit: Limit) -> Result<(), Refused> {
        if self.limiter.len() >= self.most {
            self.sweep();
            if self.limiter.len() >= self.most {
                return Err(Refused::by(Limit::Addresses, SWEEP_INTERVAL));
            }
        }
        self.limiter.check_key(&address).map_err(|not_until| refused(limit, &not_until, &self.clock))
    }

    /// Forgets the addresses whose burst has been whole for a period; at most once a [`SWEEP_INTERVAL`].
    fn sweep(&self) {
        let now = u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX);
        let interval = u64::try_from(SWEEP_INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let due = |last: u64| (now >= last.saturating_add(interval)).then_some(now);
        if self.swept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

fn refused(limit: Limit, not_until: &NotUntil<Duration>, clock: &RateClock) -> Refused {
    Refused::by(limit, not_until.wait_time_from(clock.now()))
}

/// How many connections there are.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What a node admits.
pub struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
    handshakes: AddressRates,
    opens_per_address: AddressRates,
    opens: NodeLimiter,
    clock: RateClock,
}

impl Admission {
    /// Nobody is connected yet, and every burst is whole.
    #[must_use]
    pub fn new(limits: Limits, clock: RateClock) -> Arc<Self> {
        Self::remembering(MAX_ADDRESSES, limits, clock)
    }

    fn remembering(most: usize, limits: Limits, clock: RateClock) -> Arc<Self> {
        Arc::new(Self {
            limits,
            counts: Mutex::default(),
            handshakes: AddressRates::new(limits.handshakes_per_address, most, &clock),
            opens_per_address: AddressRates::new(limits.opens_per_address, most, &clock),
            opens: RateLimiter::new(limits.opens.quota(), InMemoryState::default(), clock.clone()),
            clock,
        })
    }

    /// Admits a connection; it counts until the guard is dropped.
    ///
    /// # Errors
    /// [`Refused`] with the limit that was reached. A refused handshake counts as a handshake.
    pub fn connect(self: &Arc<Self>, client: IpAddr) -> Result<ConnectionGuard, Refused> {
        let subscriber = subscriber(client);
        self.handshakes.check(subscriber, Limit::HandshakesPerAddress)?;
        let refused = |limit| Err(Refused::by(limit, CONNECTION_RETRY_AFTER));
        let mut counts = self.counts();
        if counts.all >= self.limits.connections {
            return refused(Limit::Connections);
        }
        let of_address = counts.by_address.get(&subscriber).copied().unwrap_or(0);
        if of_address >= self.limits.connections_per_address {
            return refused(Limit::ConnectionsPerAddress);
        }
        counts.by_address.insert(subscriber, of_address.saturating_add(1));
        counts.all = counts.all.saturating_add(1);
        Ok(ConnectionGuard { admission: Arc::clone(self), subscriber })
    }

    /// Admits a session that a client opens.
    ///
    /// # Errors
    /// [`Refused`] with the limit that was reached. What one address is refused does not count for the node.
    pub fn open(&self, client: IpAddr) -> Result<(), Refused> {
        self.opens_per_address.check(subscriber(client), Limit::OpensPerAddress)?;
        self.opens.check().map_err(|not_until| refused(Limit::Opens, &not_until, &self.clock))
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts().all
    }

    /// Forgets addresses that need not be remembered any more. To be called every few seconds.
    pub fn upkeep(&self) {
        self.handshakes.sweep();
        self.opens_per_address.sweep();
    }

    fn release(&self, subscriber: IpAddr) {
        let mut counts = self.counts();
        counts.all = counts.all.saturating_sub(1);
        match counts.by_address.get(&subscriber).copied() {
            Some(many @ 2..) => {
                counts.by_address.insert(subscriber, many.saturating_sub(1));
            }
            Some(_) | None => {
                counts.by_address.remove(&subscriber);
            }
        }
        if counts.by_address.is_empty() {
            counts.by_address.shrink_to_fit();
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// One admitted connection; dropping it makes room for another.
pub struct ConnectionGuard {
    admission: Arc<Admission>,
    subscriber: IpAddr,
}

impl ConnectionGuard {
    /// [`Admission::open`] for the client of this connection.
    ///
    /// # Errors
    /// [`Refused`] with the limit that was reached.
    pub fn open(&self) -> Result<(), Refused> {
        self.admission.open(self.subscriber)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.admission.release(self.subscriber);
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionGuard")
    }
}

#[cfg(test)]
mod tests;
