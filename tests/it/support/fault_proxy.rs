//! A TCP proxy on loopback that breaks connections: cut, cut after so many bytes, stalled, delayed, half-closed, refused.
//!
//! Lives on the test's own runtime and dies with it. What is random comes from one seed: the same seed cuts the n-th
//! connection after the same number of bytes.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to connections that come from now on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Accepts, and cuts at once.
    pub(crate) refuses: bool,
    /// Cuts after a number of bytes from client to relay, drawn from this range.
    pub(crate) cut_up_after: Option<Range<u64>>,
    /// Cuts after a number of bytes from relay to client, drawn from this range.
    pub(crate) cut_down_after: Option<Range<u64>>,
    /// Cuts so many of them, and then no more; `None` for all.
    pub(crate) most_cuts: Option<u64>,
    /// Holds every chunk back this long.
    pub(crate) delay: Duration,
}

/// What all connections are told; each compares with what it knew when it began.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    cuts: u64,
    half_closes: u64,
    is_stalled: bool,
}

#[derive(Debug)]
struct Shared {
    relay: SocketAddr,
    faults: Mutex<Faults>,
    rng: Mutex<StdRng>,
    connections: Mutex<u64>,
    cuts: Mutex<u64>,
}

impl Shared {
    /// Takes one of the cuts, if any is left.
    fn take_cut(&self) -> bool {
        let most = self.faults.lock().unwrap().most_cuts;
        let mut cuts = self.cuts.lock().unwrap();
        let is_left = most.is_none_or(|most| *cuts < most);
        *cuts += u64::from(is_left);
        is_left
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy that breaks nothing yet.
    pub(crate) async fn start(relay: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            relay,
            faults: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            connections: Mutex::default(),
            cuts: Mutex::default(),
        });
        let orders = watch::Sender::new(Orders::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), orders.clone()));
        Self { address, shared, orders, _tasks: tasks }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> u64 {
        *self.shared.connections.lock().unwrap()
    }

    /// How many connections were cut after their number of bytes.
    pub(crate) fn cuts(&self) -> u64 {
        *self.shared.cuts.lock().unwrap()
    }

    /// Treats connections that come from now on so.
    pub(crate) fn set(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap() = faults;
    }

    /// Cuts every connection, and those that come: the other side is gone until [`Self::heal`].
    pub(crate) fn cut_off(&self) {
        self.set(Faults { refuses: true, ..Faults::default() });
        self.cut_all();
    }

    /// Breaks nothing from now on.
    pub(crate) fn heal(&self) {
        self.set(Faults::default());
    }

    /// Cuts every connection, with a reset.
    pub(crate) fn cut_all(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Tells the relay that the clients send no more, and goes on passing on what the relay sends.
    pub(crate) fn half_close_all(&self) {
        self.orders.send_modify(|orders| orders.half_closes += 1);
    }

    /// Passes nothing on, or everything again.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.orders.send_modify(|orders| orders.is_stalled = is_stalled);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, orders: watch::Sender<Orders>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        *shared.connections.lock().unwrap() += 1;
        while connections.try_join_next().is_some() {}
        // Before the faults: whoever is told to refuse and then to cut misses no connection.
        let began = *orders.borrow();
        let faults = shared.faults.lock().unwrap().clone();
        if faults.refuses {
            reset(&client);
            continue;
        }
        let draw = |range: Option<Range<u64>>| range.map(|range| shared.rng.lock().unwrap().random_range(range));
        let (up, down) = (draw(faults.cut_up_after), draw(faults.cut_down_after));
        connections.spawn(carry(client, Arc::clone(&shared), up, down, faults.delay, began, orders.subscribe()));
    }
}

async fn carry(
    mut client: TcpStream,
    shared: Arc<Shared>,
    up: Option<u64>,
    down: Option<u64>,
    delay: Duration,
    began: Orders,
    orders: watch::Receiver<Orders>,
) {
    let Ok(mut relay) = TcpStream::connect(shared.relay).await else { return reset(&client) };
    client.set_nodelay(true).ok();
    relay.set_nodelay(true).ok();
    let shared = &*shared;
    let upwards = Flow { shared, budget: up, delay, began, orders: orders.clone(), obeys_half_close: true };
    let downwards = Flow { shared, budget: down, delay, began, orders, obeys_half_close: false };
    let outcome = {
        let (mut client_in, mut client_out) = client.split();
        let (mut relay_in, mut relay_out) = relay.split();
        tokio::try_join!(upwards.pump(&mut client_in, &mut relay_out), downwards.pump(&mut relay_in, &mut client_out))
    };
    if outcome.is_err() {
        reset(&client);
        reset(&relay);
    }
}

/// Makes the coming end of a connection a reset.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}

/// The connection is to be cut, or has broken by itself.
#[derive(Debug)]
struct Cut;

/// One direction of one connection.
struct Flow<'a> {
    shared: &'a Shared,
    budget: Option<u64>,
    delay: Duration,
    began: Orders,
    orders: watch::Receiver<Orders>,
    obeys_half_close: bool,
}

impl Flow<'_> {
    /// Passes bytes on until they end.
    async fn pump(mut self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Result<(), Cut> {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let count = tokio::select! {
                biased;
                () = self.until_ordered(|began, now, is_up| began.cuts != now.cuts || (is_up && began.half_closes != now.half_closes)) => 0,
                read = from.read(&mut chunk) => read.map_err(|_| Cut)?,
            };
            self.until_ordered(|began, now, _| began.cuts != now.cuts || !now.is_stalled).await;
            if self.is_cut() {
                return Err(Cut);
            }
            if count == 0 {
                return to.shutdown().await.map_err(|_| Cut);
            }
            let left = self.budget.map(|left| usize::try_from(left).unwrap());
            let is_last = left.is_some_and(|left| left <= count) && self.shared.take_cut();
            let passed = left.filter(|_| is_last).unwrap_or(count);
            let delay = self.delay;
            tokio::select! {
                biased;
                () = self.until_ordered(|began, now, _| began.cuts != now.cuts) => return Err(Cut),
                written = async { tokio::time::sleep(delay).await; to.write_all(&chunk[..passed]).await } => written.map_err(|_| Cut)?,
            }
            if is_last {
                return Err(Cut);
            }
            self.budget = self.budget.map(|left| left.saturating_sub(u64::try_from(passed).unwrap()));
        }
    }

    /// Waits for an order; for ever, when nobody is left to give one.
    async fn until_ordered(&mut self, is_given: impl Fn(Orders, Orders, bool) -> bool) {
        let (began, is_up) = (self.began, self.obeys_half_close);
        if self.orders.wait_for(|now| is_given(began, *now, is_up)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn is_cut(&self) -> bool {
        self.orders.borrow().cuts != self.began.cuts
    }
}
