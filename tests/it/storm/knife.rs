//! A network that cuts connections of one handoff, with a reset, at seeded random moments: within the handshake, the
//! first messages or the transfer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes of a WebSocket handshake, request and answer.
const HANDSHAKE_BYTES: u64 = 350;

/// Bytes that every connection of a whole handoff has passed on at its end.
const FEWEST_BYTES: u64 = 2500;

/// A running network for one handoff.
#[derive(Debug)]
pub(super) struct Knife {
    address: SocketAddr,
    plan: Arc<Plan>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Plan {
    most: u32,
    cuts: AtomicU32,
}

impl Plan {
    /// Takes one of the cuts, if any is left.
    fn take(&self) -> bool {
        let more = |cuts: u32| (cuts < self.most).then_some(cuts + 1);
        self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }
}

impl Knife {
    /// Starts a network that cuts at least one connection and at most so many.
    pub(super) async fn start(relay: SocketAddr, most: u32, credential_bytes: usize, mut rng: StdRng) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan { most, cuts: AtomicU32::new(0) });
        let (known, all) = (Arc::clone(&plan), u64::try_from(credential_bytes).unwrap() * 2 + FEWEST_BYTES);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                let budget = match rng.random_range(0..4) {
                    0 => rng.random_range(0..HANDSHAKE_BYTES),
                    1 => rng.random_range(0..FEWEST_BYTES),
                    // The second connection is cut for certain, unless another was before.
                    _ if number == 2 => rng.random_range(0..FEWEST_BYTES),
                    _ => rng.random_range(0..all),
                };
                connections.spawn(carry(client, relay, budget, Arc::clone(&known)));
            }
        });
        Self { address, plan, _tasks: tasks }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were cut.
    pub(super) fn cuts(&self) -> u32 {
        self.plan.cuts.load(Ordering::SeqCst)
    }
}

async fn carry(mut client: TcpStream, relay: SocketAddr, budget: u64, plan: Arc<Plan>) {
    let Ok(mut relay) = TcpStream::connect(relay).await else { return };
    client.set_nodelay(true).ok();
    relay.set_nodelay(true).ok();
    let left = AtomicU64::new(budget);
    let is_cut = {
        let (mut client_in, mut client_out) = client.split();
        let (mut relay_in, mut relay_out) = relay.split();
        let up = pump(&mut client_in, &mut relay_out, &left, &plan);
        let down = pump(&mut relay_in, &mut client_out, &left, &plan);
        tokio::try_join!(up, down).is_err()
    };
    if is_cut {
        for stream in [&client, &relay] {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

/// The connection is cut, or broke by itself.
struct Cut;

async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, left: &AtomicU64, plan: &Plan) -> Result<(), Cut> {
    let mut chunk = vec![0; 4096];
    loop {
        let count = from.read(&mut chunk).await.map_err(|_| Cut)?;
        if count == 0 {
            return to.shutdown().await.map_err(|_| Cut);
        }
        let budget = usize::try_from(left.load(Ordering::SeqCst)).unwrap();
        let is_cut = count >= budget && plan.take();
        let passed = if is_cut { budget } else { count };
        to.write_all(&chunk[..passed]).await.map_err(|_| Cut)?;
        if is_cut {
            return Err(Cut);
        }
        left.store(u64::try_from(budget.saturating_sub(passed)).unwrap(), Ordering::SeqCst);
    }
}
