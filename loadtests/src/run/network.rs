//! The generator's own sockets: source addresses, cuts, imitated networks, and a count of what ran out. Below TLS and
//! WebSocket; knows nothing of handoffs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use handoff_relay::client::{ConnectFailure, Dial, Dialing, Transport};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::shaping;
use crate::scenario::Shape;

/// Source addresses that the generator takes at most: 200 times 28,000 ports.
const MOST_SOURCES: u64 = 200;

/// Time for one address of a name.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// What all connections of a run share.
#[derive(Debug)]
pub(crate) struct Network {
    /// Loopback source addresses in use: 1 means that the system chooses.
    sources: AtomicU64,
    dialled: AtomicU64,
    open: AtomicU64,
    most_open: AtomicU64,
    out_of_files: AtomicU64,
    out_of_ports: AtomicU64,
    cut: Mutex<CancellationToken>,
}

/// What ran out, and how much was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) connections: u64,
    pub(crate) most_open: u64,
    pub(crate) sources: u64,
    pub(crate) out_of_files: u64,
    pub(crate) out_of_ports: u64,
}

impl Network {
    /// A network with so many loopback source addresses.
    pub(crate) fn new(sources: u64) -> Arc<Self> {
        Arc::new(Self {
            sources: AtomicU64::new(sources.clamp(1, MOST_SOURCES)),
            dialled: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
            out_of_files: AtomicU64::new(0),
            out_of_ports: AtomicU64::new(0),
            cut: Mutex::new(CancellationToken::new()),
        })
    }

    /// Cuts every connection there is, attackers' excepted. New ones are not touched.
    pub(crate) fn cut_all(&self) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cut).cancel();
    }

    /// What was used so far.
    pub(crate) fn usage(&self) -> Usage {
        let [connections, most_open, sources, out_of_files, out_of_ports] =
            [&self.dialled, &self.most_open, &self.sources, &self.out_of_files, &self.out_of_ports]
                .map(|counter| counter.load(Ordering::Relaxed));
        Usage { connections, most_open, sources, out_of_files, out_of_ports }
    }

    /// Connects to the first address of a host that answers.
    async fn connect(self: &Arc<Self>, host: &str, port: u16, is_cut: bool) -> Result<Wire, ConnectFailure> {
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(|_| ConnectFailure::Name)?;
        let mut failure = ConnectFailure::Name;
        for address in addresses {
            match timeout(ADDRESS_TIMEOUT, self.connect_to(address)).await {
                Ok(Ok(stream)) => return Ok(Wire::new(stream, Arc::clone(self), is_cut)),
                Ok(Err(problem)) => {
                    if is_out_of_files(&problem) {
                        self.out_of_files.fetch_add(1, Ordering::Relaxed);
                    }
                    failure = ConnectFailure::Connect;
                }
                Err(_) => failure = ConnectFailure::Timeout,
            }
        }
        Err(failure)
    }

    /// Connects, and takes further source addresses as long as the ports of those in use are all taken.
    async fn connect_to(&self, to: SocketAddr) -> io::Result<TcpStream> {
        loop {
            let number = self.dialled.fetch_add(1, Ordering::Relaxed);
            let sources = self.sources.load(Ordering::Relaxed);
            let problem = match connect_from(source(number, sources, to), to).await {
                Err(problem) if is_out_of_ports(&problem) => problem,
                outcome => return outcome,
            };
            if !(to.ip().is_loopback() && to.is_ipv4() && sources < MOST_SOURCES) {
                self.out_of_ports.fetch_add(1, Ordering::Relaxed);
                return Err(problem);
            }
            // Whoever is first takes one more; the others try with it.
            let more = sources.saturating_add(1);
            let _was_first = self.sources.compare_exchange(sources, more, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        }
    }
}

fn is_out_of_files(problem: &io::Error) -> bool {
    // EMFILE and ENFILE have no stable kind.
    matches!(problem.raw_os_error(), Some(24 | 23))
}

/// `connect` says the one, `bind` the other.
fn is_out_of_ports(problem: &io::Error) -> bool {
    matches!(problem.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

/// The source address of a connection; `None` for what the system chooses.
fn source(number: u64, sources: u64, to: SocketAddr) -> Option<Ipv4Addr> {
    if sources <= 1 || !to.ip().is_loopback() || !to.is_ipv4() {
        return None;
    }
    let which = number.checked_rem(sources).and_then(|which| u8::try_from(which.saturating_add(1)).ok());
    Some(Ipv4Addr::new(127, 0, 0, which.unwrap_or(1)))
}

async fn connect_from(source: Option<Ipv4Addr>, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect(to).await?,
        Some(source) => {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
            socket.connect(to).await?
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes connections over a network of one shape.
#[derive(Debug)]
pub(crate) struct Dialer {
    network: Arc<Network>,
    shape: Shape,
    seed: u64,
    /// Whether the scenario's cuts hit these connections.
    is_cut: bool,
}

impl Dialer {
    pub(crate) fn new(network: Arc<Network>, shape: Shape, seed: u64, is_cut: bool) -> Self {
        Self { network, shape, seed, is_cut }
    }
}

impl Dial for Dialer {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> Dialing<'a> {
        Box::pin(async move {
            let seed = self.seed ^ self.network.dialled.load(Ordering::Relaxed);
            let dialled = self.network.connect(host, port, self.is_cut);
            let stream: Box<dyn Transport> = if self.shape.is_plain() {
                Box::new(dialled.await?)
            } else {
                let wire = shaping::after_a_round_trip(self.shape, dialled).await?;
                Box::new(shaping::shaped(wire, self.shape, seed))
            };
            Ok(stream)
        })
    }
}

/// One connection: counted, and cut when the run says so.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    network: Arc<Network>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
}

impl Wire {
    fn new(stream: TcpStream, network: Arc<Network>, is_cut: bool) -> Self {
        let open = network.open.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        network.most_open.fetch_max(open, Ordering::Relaxed);
        let cut = if is_cut {
            network.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            CancellationToken::new()
        };
        Self { stream, network, cut: Box::pin(cut.cancelled_owned()), is_cut: false }
    }

    /// `Err` once the connection is cut. The other end gets a reset, not an orderly end.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_cut && self.cut.as_mut().poll(cx).is_ready() {
            self.is_cut = true;
            SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        }
        if self.is_cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.network.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Poll::Ready(Ok(ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
