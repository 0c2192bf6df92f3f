//! Everything that a relay must refuse, one row a case, all of it against one living relay with bystanders in it.
//!
//! Each row brings two honest apps as far as its scene says, sends what it says, and expects exactly one answer. Then
//! the honest apps prove that their session is unharmed, by completing it, or hear why it ended. Afterwards the relay
//! holds nothing that it did not hold before.

mod http;
mod limits;
mod messages;
mod misplaced;
mod play;
mod wire;

use std::pin::Pin;
use std::time::{Duration, Instant};

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::eventually;
use crate::support::messages::{Transfer, cancel, complete};
use crate::support::party::Pair;
use crate::support::relay::Relay;
use crate::support::socket::Socket;

/// One case.
pub(super) struct Row {
    name: &'static str,
    scene: Scene,
    attack: Attack,
    answer: Answer,
    bystanders: Fate,
}

/// How far the honest apps of a row have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// There is no session.
    Nobody,
    /// Old waits.
    Waiting,
    /// Old waits, and shows each frame for a second.
    WaitingFast,
    /// Both are there.
    Joined,
    /// The session has completed.
    Completed,
    /// Old has cancelled.
    Cancelled,
}

/// What is sent.
#[derive(Clone, Copy)]
enum Attack {
    /// These bytes instead of a handshake.
    Request(fn(&Transfer) -> Vec<u8>),
    /// A stranger connects in this role and sends these bytes.
    Stranger(Role, fn(&Transfer) -> Vec<u8>),
    /// The honest app of this role sends these bytes on its connection.
    Insider(Role, fn(&Transfer) -> Vec<u8>),
    /// Something that takes more than one step.
    Play(fn(Pair) -> Play),
}

/// What a play leaves of the honest apps, and how the connection that it is about ended.
type Play = Pin<Box<dyn Future<Output = (Pair, Got)> + Send>>;

/// What must come back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// An HTTP problem with this status and code.
    Problem(u16, &'static str),
    /// An HTTP status, from below the relay's own code, with an empty body.
    Status(u16),
    /// `ended` and a close frame.
    Close(CloseReason),
    /// The end of the connection, without a word.
    End,
}

/// What came back.
#[derive(Debug)]
enum Got {
    Ending(crate::support::socket::Ending),
    Http(Option<crate::support::socket::Response>),
}

/// What becomes of the honest apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// There are none, or their session was over before.
    None,
    /// Their session is unharmed.
    Survive,
    /// Both hear that it ended.
    Hear(CloseReason),
}

fn rows() -> impl Iterator<Item = &'static Row> {
    [
        http::ROWS,
        wire::ROWS,
        messages::BEFORE_JOINING,
        messages::IN_A_SESSION,
        messages::MALFORMED,
        misplaced::ROWS,
        play::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// The limits are another table's subject, and no part of this one.
pub(crate) const SETTINGS: &[&str] = &[
    "session.frame_intervals=1s,5s,static",
    "server.allowed_origins=https://app.example",
    "limits.connections_per_address=10000",
    "limits.handshakes_per_second_per_address=10000",
    "limits.handshakes_burst_per_address=10000",
    "limits.opens_per_second_per_address=10000",
    "limits.opens_burst_per_address=10000",
    "limits.opens_per_second=10000",
    "limits.opens_burst=10000",
];

/// Rows that run at once: most of them wait for the relay's clock.
const AT_ONCE: usize = 40;

/// What the relay may grow by in the second run. It remembers each ended session for three and a half minutes (36 join
/// hashes, a key: 2 KiB); the rest is the allocator's.
const GROWTH_BYTES: u64 = 4 * 1024 * 1024;

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_and_harms_nobody_else() {
    let relay = Relay::start(SETTINGS);
    let mut bystanders = Pair::joined(relay.address(), Transfer::usual()).await;
    let count = tokio::select! {
        _ = bystanders.stay() => unreachable!(),
        count = run_twice(&relay) => count,
    };
    assert!(count >= 75, "{count}");
    let too_slow = "handoff_connections_closed_total{role=\"new\",reason=\"too_slow\"}";
    assert!((relay.metrics().await.value(too_slow) - 2.0).abs() < 0.5, "one in each run");
    bystanders.finish().await;
    Pair::joined(relay.address(), Transfer::usual()).await.finish().await;
    relay.until_metric("handoff_connections", 0.0).await;
    relay.until_metric("handoff_sessions", 0.0).await;
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}

/// The first run fills pools and caches of the allocator; what a second run adds would be a leak.
async fn run_twice(relay: &Relay) -> usize {
    run_table(relay.address()).await;
    let (files, memory) = at_rest(relay).await;
    let started = Instant::now();
    let count = run_table(relay.address()).await;
    let took = started.elapsed();
    let (files_after, memory_after) = at_rest(relay).await;
    println!("bad input: {count} rows in {took:.1?}; relay CPU {:.1?} in two runs", relay.cpu_time());
    println!("bad input: files {files} -> {files_after}; RSS {memory} -> {memory_after} bytes");
    assert_eq!(files_after, files);
    assert!(memory_after < memory + GROWTH_BYTES, "{memory} -> {memory_after} bytes");
    count
}

/// Waits until only the two bystanders are there; then says how many files are open and how much memory is held.
async fn at_rest(relay: &Relay) -> (usize, u64) {
    relay.until_metric("handoff_sessions{state=\"waiting\"}", 0.0).await;
    relay.until_metric("handoff_sessions{state=\"joined\"}", 1.0).await;
    relay.until_metric("handoff_connections", 2.0).await;
    // The last look at the metrics was a connection, too: the number is right when it has not changed for a while.
    let mut last = (relay.open_files(), Instant::now());
    let ask = async || {
        let files = relay.open_files();
        if files != last.0 {
            last = (files, Instant::now());
        }
        last.1.elapsed()
    };
    eventually("open files at rest", ask, |unchanged| *unchanged > Duration::from_millis(300)).await;
    (relay.open_files(), relay.resident_bytes())
}

/// Runs every row once; how many there are.
pub(crate) async fn run_table(address: std::net::SocketAddr) -> usize {
    let places = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for row in rows() {
        let places = std::sync::Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let name = row.name;
            // A failed row must not hide the others.
            let played = tokio::spawn(row.run(address)).await;
            played.map_err(|panic| format!("{name}: {}", reason_of(panic)))
        });
    }
    let outcomes = running.join_all().await;
    let failures: Vec<String> = outcomes.iter().filter_map(|outcome| outcome.clone().err()).collect();
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
    outcomes.len()
}

fn reason_of(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

impl Row {
    async fn run(&self, address: std::net::SocketAddr) {
        let pair = self.scene.set(address).await;
        let (pair, got) = self.attack.make(pair).await;
        assert!(self.answer.fits(&got), "expected {:?}, got {got:?}", self.answer);
        match self.bystanders {
            Fate::None => {}
            Fate::Survive => pair.finish().await,
            Fate::Hear(reason) => {
                for mut party in pair.old.into_iter().chain(pair.new) {
                    party.hear_end(reason).await;
                }
            }
        }
    }
}

impl Scene {
    async fn set(self, address: std::net::SocketAddr) -> Pair {
        let usual = Transfer::usual();
        match self {
            Self::Nobody => Pair { address, transfer: usual, old: None, new: None, opened_at: Instant::now() },
            Self::Waiting => Pair::waiting(address, usual).await,
            Self::WaitingFast => Pair::waiting(address, Transfer::random(180_000, 1000)).await,
            Self::Joined => Pair::joined(address, usual).await,
            Self::Completed => ended(Pair::joined(address, usual).await, &complete(), CloseReason::Completed).await,
            Self::Cancelled => {
                ended(Pair::waiting(address, usual).await, &cancel("user"), CloseReason::CancelledByOld).await
            }
        }
    }
}

/// Ends a session by what old says.
async fn ended(mut pair: Pair, last_word: &serde_json::Value, reason: CloseReason) -> Pair {
    pair.old.as_mut().unwrap().say(last_word).await;
    for mut party in pair.old.take().into_iter().chain(pair.new.take()) {
        party.hear_end(reason).await;
    }
    pair
}

impl Attack {
    async fn make(self, mut pair: Pair) -> (Pair, Got) {
        let mut socket = match self {
            Self::Play(play) => return play(pair).await,
            Self::Request(bytes) => {
                let mut socket = Socket::connect(pair.address).await;
                socket.send(&bytes(&pair.transfer)).await;
                let response = socket.response().await;
                return (pair, Got::Http(response));
            }
            Self::Stranger(role, _) => Socket::open(pair.address, &pair.transfer.session, role).await,
            Self::Insider(role, _) => pair.side(role).take().unwrap().socket,
        };
        if let Self::Stranger(_, bytes) | Self::Insider(_, bytes) = self {
            socket.send(&bytes(&pair.transfer)).await;
        }
        let ending = socket.until_end().await;
        (pair, Got::Ending(ending))
    }
}

impl Answer {
    fn fits(self, got: &Got) -> bool {
        match (self, got) {
            (Self::Problem(status, code), Got::Http(Some(response))) => {
                let body = response.json();
                response.status == status
                    && response.header("content-type") == Some("application/problem+json")
                    && body["code"] == code
                    && body["status"] == status
                    && body["type"] == format!("urn:handoff-relay:problem:{code}")
            }
            (Self::Status(status), Got::Http(Some(response))) => response.status == status && response.body.is_empty(),
            (Self::Close(reason), Got::Ending(ending)) => ending.is(reason),
            (Self::End, Got::Ending(ending)) => ending.ended.is_none() && ending.close.is_none(),
            (Self::End, Got::Http(response)) => response.is_none(),
            _ => false,
        }
    }
}
