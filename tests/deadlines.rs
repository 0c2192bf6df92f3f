//! 5,000 sessions that nobody joins, and some whose peer does not read, on a real relay with the real three minutes:
//! each ends at its deadline, and afterwards the relay is as it was after its first few sessions. A binary of its own,
//! because it measures.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a failed step is a failed test, and real time is what is tested"
)]

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use handoff_relay::protocol::Role;
use handoff_relay::protocol::ids::{JoinHash, JoinProof, PublishedKey, ResumeHash, ResumeToken, SessionId};
use handoff_relay::protocol::limits::TOMBSTONE_GRACE;
use handoff_relay::protocol::message::{CancelReason, ClientMessage, ServerMessage};
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep_until;

const SESSIONS: usize = 5000;
/// Of these, so many are joined, and then their old app stops reading while the new one sends.
const JAMMED: usize = 100;
/// And so many stop reading without being sent anything.
const DEAF: usize = 400;
const ALLOWED_LATENESS: Duration = Duration::from_millis(250);
/// Time in which files are closed that nobody has any use for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that a session may leave for good.
const LEFT_OF_A_SESSION: usize = 384;
/// Sessions before the idle memory is measured.
const JAMMED_FIRST: usize = 8;
const OPEN_FIRST: usize = 100;

fn lifetime() -> Duration {
    let seconds = std::env::var("DEADLINES_LIFETIME_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(180))
}

struct Relay {
    process: Child,
    address: SocketAddr,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Relay {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--json", "--log", "error"]);
        command.args(["--lifetime", &format!("{}s", lifetime().as_secs())]);
        command.args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/loadtests/relay.toml")]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { process, address: event["address"].as_str().unwrap().parse().unwrap() }
    }

    fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Memory { resident: kib("VmRSS:"), anonymous: kib("RssAnon:") }
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Those that the relay has not closed, whatever their peers did.
    fn open_connections(&self) -> usize {
        const LISTENS: &str = "0A";
        const CLOSED: &str = "0";
        let port = format!(":{:04X}", self.address.port());
        let is_open = |line: &&str| {
            let [_, local, _, state, _, _, _, _, _, inode, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            local.ends_with(&port) && state != LISTENS && inode != CLOSED
        };
        std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(is_open).count()
    }

    /// Waits until so few files, or connections, are open; answers how long it took.
    async fn until_open(&self, count: fn(&Self) -> usize, most: usize) -> Duration {
        let start = Instant::now();
        while count(self) > most {
            assert!(start.elapsed() < PATIENCE, "{} are still open", count(self));
            // The kernel tells nobody when another process closes a file.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

/// Memory of a process in KiB.
#[derive(Clone, Copy)]
struct Memory {
    resident: usize,
    /// Of these, what is not pages of the program's own file.
    anonymous: usize,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB resident, {} of them anonymous", self.resident, self.anonymous)
    }
}

struct Socket(TcpStream);

impl Socket {
    async fn connect(address: SocketAddr, session: SessionId, role: Role, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let path = format!("/v1/sessions/{}/{role}", session.to_path_segment());
        let handshake = format!(
            "GET {path} HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: handoff.v1\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        Self(stream)
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> std::io::Result<()> {
        // Masked with zeros, so that the payload stays as it is.
        let mut frame = vec![0x80 | opcode];
        if let Ok(length @ 0..=125) = u8::try_from(payload.len()) {
            frame.push(0x80 | length);
        } else {
            frame.push(0xfe);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).await
    }

    async fn say(&mut self, message: &ClientMessage) {
        self.send(1, message.encode().as_bytes()).await.unwrap();
    }

    /// The next frame: opcode and payload.
    async fn frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await?;
        let length = match head[1] {
            126 => usize::from(self.0.read_u16().await?),
            127 => usize::try_from(self.0.read_u64().await?).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok((head[0] & 0x0f, payload))
    }

    /// The next control message; pings are answered.
    async fn message(&mut self) -> ServerMessage {
        loop {
            let (opcode, payload) = self.frame().await.unwrap();
            match opcode {
                1 => return ServerMessage::decode(std::str::from_utf8(&payload).unwrap()).unwrap(),
                9 => self.send(10, &payload).await.unwrap(),
                _ => {}
            }
        }
    }
}

/// An open session, and the moments between which the relay's clock started.
struct Session {
    id: SessionId,
    proof: JoinProof,
    socket: Socket,
    asked: Instant,
    opened: Instant,
}

async fn open(address: SocketAddr, receive_buffer: Option<u32>) -> Session {
    let id = SessionId::from_random(rand::rng().random());
    let proof = JoinProof::new(rand::rng().random());
    let mut socket = Socket::connect(address, id, Role::Old, receive_buffer).await;
    let asked = Instant::now();
    let open = ClientMessage::Open {
        public_key: PublishedKey::new(vec![4; 65]).unwrap(),
        join_hashes: vec![JoinHash::of(&proof)],
        interval_ms: u64::try_from(lifetime().as_millis()).unwrap(),
        resume_hash: ResumeHash::of(&ResumeToken::new(rand::rng().random())),
        token: None,
    };
    socket.say(&open).await;
    let ServerMessage::Opened { .. } = socket.message().await else { panic!("not opened") };
    Session { id, proof, socket, asked, opened: Instant::now() }
}

/// Answers nothing but the liveness check, which it does without reading, until the relay has cut the connection.
async fn deaf(mut session: Session, until: Instant) {
    let mut next = Instant::now();
    while next < until {
        next += Duration::from_secs(10);
        sleep_until(next.min(until).into()).await;
        if session.socket.send(10, b"").await.is_err() {
            return;
        }
    }
}

/// Joins, and sends more than the old app's socket takes.
async fn jam(address: SocketAddr, session: &Session) -> Socket {
    let mut new = Socket::connect(address, session.id, Role::New, None).await;
    let resume_hash = ResumeHash::of(&ResumeToken::new(rand::rng().random()));
    new.say(&ClientMessage::Join { frame: 0, proof: session.proof.clone(), resume_hash }).await;
    let ServerMessage::Joined { .. } = new.message().await else { panic!("not joined") };
    for _ in 0..40 {
        new.send(2, &[7; 16_000]).await.unwrap();
    }
    new
}

/// Reads until the end; answers how long after the earliest and the latest possible deadline it came.
async fn lateness(mut session: Session) -> (Duration, Duration) {
    loop {
        match session.socket.message().await {
            ServerMessage::Tick { .. } => {}
            ServerMessage::Ended { reason, .. } => {
                let now = Instant::now();
                assert_eq!(reason.label(), "expired");
                let (earliest, latest) = (session.asked + lifetime(), session.opened + lifetime());
                assert!(now >= earliest, "{:?} too early", earliest - now);
                // The closing handshake: our close frame, then the relay's end of the connection.
                session.socket.send(8, &[0x11, 0x94]).await.ok();
                while session.socket.frame().await.is_ok() {}
                return (now - earliest, now.saturating_duration_since(latest));
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

async fn open_many(address: SocketAddr, count: usize, receive_buffer: Option<u32>) -> Vec<Session> {
    let at_once = Arc::new(Semaphore::new(64));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let at_once = Arc::clone(&at_once);
            tokio::spawn(async move {
                let _permit = at_once.acquire_owned().await.unwrap();
                open(address, receive_buffer).await
            })
        })
        .collect();
    let mut sessions = Vec::new();
    for task in tasks {
        sessions.push(task.await.unwrap());
    }
    sessions
}

/// A few sessions from end to end, a hundred at once, and a look at each page of the operators: the idle memory is that
/// of a relay in use, whose code was read from disk and whose allocator has served a fiftieth of what follows.
async fn warm_up(relay: &Relay) {
    let address = relay.address;
    for path in ["/healthz", "/readyz", "/metrics", "/version"] {
        get(address, path).await;
    }
    for _ in 0..JAMMED_FIRST {
        let session = open(address, Some(2048)).await;
        leave(jam(address, &session).await).await;
    }
    for session in open_many(address, OPEN_FIRST, None).await {
        leave(session.socket).await;
    }
    // The last connections have their time for the closing handshake.
    relay.until_open(Relay::open_connections, 0).await;
}

/// Cancels, and reads until the relay has closed the connection.
async fn leave(mut socket: Socket) {
    socket.say(&ClientMessage::Cancel { reason: CancelReason::User }).await;
    while socket.frame().await.is_ok() {}
}

async fn get(address: SocketAddr, path: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn every_session_ends_at_its_deadline_and_leaves_nothing_behind() {
    let relay = Relay::start();
    let address = relay.address;
    println!("fresh: {} files, {}", relay.open_files(), relay.memory());
    warm_up(&relay).await;
    let (idle_files, idle) = (relay.open_files(), relay.memory());
    println!("idle: {idle_files} files, {idle}");

    let readers = open_many(address, SESSIONS - DEAF - JAMMED, None).await;
    let deaf_ones = open_many(address, DEAF, None).await;
    let jammed = open_many(address, JAMMED, Some(2048)).await;
    let mut senders = Vec::new();
    for session in &jammed {
        senders.push(jam(address, session).await);
    }
    let peak = relay.memory();
    println!("{SESSIONS} sessions open: {} files, {peak}", relay.open_files());
    let all = readers.iter().chain(&deaf_ones).chain(&jammed);
    let last_deadline = all.map(|session| session.opened).max().unwrap() + lifetime();

    let grace = last_deadline + Duration::from_secs(1);
    let deaf_tasks: Vec<_> =
        deaf_ones.into_iter().chain(jammed).map(|session| tokio::spawn(deaf(session, grace))).collect();
    let tasks: Vec<_> = readers.into_iter().map(|session| tokio::spawn(lateness(session))).collect();
    let mut late: Vec<(Duration, Duration)> = Vec::new();
    for task in tasks {
        late.push(task.await.unwrap());
    }
    sleep_until((last_deadline + ALLOWED_LATENESS).into()).await;
    let slack = relay.until_open(Relay::open_files, idle_files).await;
    late.sort_by_key(|(_, after_latest)| *after_latest);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].1;
    println!(
        "late: median {:?}, p99 {:?}, most {:?}; files as before {slack:?} after that",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(at(1.0) <= ALLOWED_LATENESS, "{:?} late", at(1.0));

    drop(senders);
    for task in deaf_tasks {
        task.await.unwrap();
    }
    sleep_until((last_deadline + TOMBSTONE_GRACE + Duration::from_secs(6)).into()).await;
    let after = relay.memory();
    println!("afterwards: {} files, {after}", relay.open_files());
    assert_eq!(relay.open_files(), idle_files);
    let allowed = idle.resident + idle.resident / 10;
    assert!(after.resident <= allowed, "{after}; before it were {idle}");
    // Whatever the size of the program's own pages: the allocator's books are all that the burst leaves.
    let left = after.anonymous.saturating_sub(idle.anonymous) * 1024;
    assert!(left <= SESSIONS * LEFT_OF_A_SESSION, "{left} bytes are left");
}
