//! A wire in front of a relay that writes everything down, and reaches the relay from an address that is nobody else's.
//! Changes nothing that it carries. Has a thread of its own, so that tests that block can use it, too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Segments of a reader with little room, see `Socket::connect_with_little_room`.
const SMALL_SEGMENT: u32 = 1000;

/// Bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    up: Mutex<Vec<u8>>,
    down: Mutex<Vec<u8>>,
}

impl Recording {
    /// What the app has sent.
    pub(crate) fn up(&self) -> Vec<u8> {
        self.up.lock().unwrap().clone()
    }

    /// What the relay has sent.
    pub(crate) fn down(&self) -> Vec<u8> {
        self.down.lock().unwrap().clone()
    }
}

/// A running tap; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    address: SocketAddr,
    source: Ipv4Addr,
    recordings: Arc<Mutex<Vec<Arc<Recording>>>>,
    _lives: oneshot::Sender<()>,
}

impl Tap {
    pub(crate) fn before(relay: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (lives, ends) = oneshot::channel();
        let (address, source) = (listener.local_addr().unwrap(), next_source());
        let recordings = Arc::default();
        let tap = Self { address, source, recordings: Arc::clone(&recordings), _lives: lives };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, source, relay, &recordings) => {}
                    _ = ends => {}
                }
            });
        });
        tap
    }

    /// Where apps connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the relay sees them.
    pub(crate) fn source(&self) -> Ipv4Addr {
        self.source
    }

    pub(crate) fn recordings(&self) -> Vec<Arc<Recording>> {
        self.recordings.lock().unwrap().clone()
    }
}

/// 127.77.7.1 and on: loopback.
fn next_source() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    Ipv4Addr::new(127, 77, 7, NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn accept(
    listener: std::net::TcpListener,
    source: Ipv4Addr,
    relay: SocketAddr,
    recordings: &Mutex<Vec<Arc<Recording>>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((app, _)) = listener.accept().await {
        let recording = Arc::new(Recording::default());
        recordings.lock().unwrap().push(Arc::clone(&recording));
        tokio::spawn(carry(app, source, relay, recording));
    }
}

async fn carry(mut app: TcpStream, source: Ipv4Addr, relay: SocketAddr, recording: Arc<Recording>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    if SockRef::from(&app).tcp_mss().unwrap() < SMALL_SEGMENT {
        // The relay is to see as little room as there is.
        socket.set_recv_buffer_size(1024).unwrap();
        SockRef::from(&socket).set_tcp_mss(536).unwrap();
    }
    let Ok(mut relay) = socket.connect(relay).await else { return };
    app.set_nodelay(true).unwrap();
    relay.set_nodelay(true).unwrap();
    let (mut app_in, mut app_out) = app.split();
    let (mut relay_in, mut relay_out) = relay.split();
    let down = pump(&mut relay_in, &mut app_out, &recording.down);
    tokio::pin!(down);
    tokio::select! {
        // Nobody reads what the app still says.
        () = &mut down => {}
        () = pump(&mut app_in, &mut relay_out, &recording.up) => down.await,
    }
}

/// Passes bytes on until either end has enough.
async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, record: &Mutex<Vec<u8>>) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        record.lock().unwrap().extend(&chunk[..count]);
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
    // The other end may be gone already.
    to.shutdown().await.ok();
}
