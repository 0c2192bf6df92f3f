//! The end of the process without time for anybody: apps are told to try elsewhere, and then it ends, soon and with 0.
//! How a node leaves that gives its sessions time is a subject of `tests/nodes`.

use std::time::{Duration, Instant};

use handoff_relay::protocol::Role::{New, Old};
use handoff_relay::protocol::close::CloseReason::GoingAway;
use rustix::process::Signal;

use crate::support::messages::{Transfer, random_session};
use crate::support::party::Pair;
use crate::support::relay::{NO_LIMITS, Relay};
use crate::support::socket::Socket;

/// From the signal to the end of the process.
const SOON: Duration = Duration::from_secs(2);

/// SIGTERM gives no time, either.
const AT_ONCE: [&str; 2] = ["drain.grace=0s", "drain.window=0s"];

async fn stop(signal: Signal, settings: &[&str]) {
    let mut relay = Relay::start(settings);
    let mut joined = Pair::joined(relay.address(), Transfer::usual()).await;
    let mut waiting = Pair::waiting(relay.address(), Transfer::usual()).await;
    let mut silent = Socket::open(relay.address(), &random_session(), New).await;
    // A request that never ends must not keep the process.
    let mut half = Socket::connect(relay.address()).await;
    half.send(b"GET /v1/sessions/").await;
    relay.until_metric("handoff_connections", 4.0).await;

    let started = Instant::now();
    relay.signal(signal);
    for party in [&mut joined.old, &mut joined.new, &mut waiting.old] {
        party.as_mut().unwrap().hear_end(GoingAway).await;
    }
    assert!(silent.until_end().await.is(GoingAway));
    let told = started.elapsed();
    let status = relay.until_exit().await;
    let took = started.elapsed();
    println!("shutdown: all told after {told:?}, process gone after {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took <= SOON, "{took:?}");
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}

#[tokio::test]
async fn sigterm_tells_every_app_to_try_elsewhere_and_ends_the_process() {
    stop(Signal::TERM, &AT_ONCE).await;
}

#[tokio::test]
async fn ctrl_c_ends_the_process_in_the_same_way_whatever_time_sessions_have() {
    stop(Signal::INT, &[]).await;
}

#[tokio::test]
async fn an_app_that_does_not_read_cannot_hold_the_process_up() {
    let mut relay = Relay::start(&AT_ONCE);
    let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
    drop(pair.new.take());
    let mut deaf = Socket::connect_with_little_room(relay.address()).await;
    deaf = deaf.shake_hands(&crate::support::socket::Handshake::new(&pair.transfer.session, New)).await;
    deaf.send(&crate::support::socket::text(&pair.transfer.resume(New).to_string())).await;
    let old = pair.old.as_mut().unwrap();
    old.hear("peer_online").await;
    for _ in 0..20 {
        old.send_data(&[7; 8000]).await;
    }
    relay.until_metric("handoff_frames_relayed_total{from=\"old\"}", 20.0).await;
    let started = Instant::now();
    relay.signal(Signal::TERM);
    old.hear_end(GoingAway).await;
    assert_eq!(relay.until_exit().await.code(), Some(0));
    let took = started.elapsed();
    println!("shutdown with an app that does not read: process gone after {took:?}");
    assert!(took <= SOON, "{took:?}");
    drop(deaf);
}

#[tokio::test]
async fn a_drain_takes_its_window_however_many_sessions_there_are() {
    const SESSIONS: usize = 2000;
    let settings = [&NO_LIMITS[..], &["drain.grace=0s", "drain.window=100ms"]].concat();
    let mut relay = Relay::start(&settings);
    let mut waiting = Vec::new();
    for _ in 0..SESSIONS {
        waiting.push(Pair::waiting(relay.address(), Transfer::usual()).await);
    }
    let started = Instant::now();
    relay.signal(Signal::TERM);
    assert_eq!(relay.until_exit().await.code(), Some(0));
    let took = started.elapsed();
    println!("drain of {SESSIONS} sessions within 100 ms: process gone after {took:?}");
    // Steps of a millisecond, the least that a timer knows, would be two seconds and more.
    assert!(took <= SOON, "{took:?}");
}

#[tokio::test]
async fn a_relay_that_is_killed_leaves_nobody_waiting_for_an_answer() {
    let relay = Relay::start(&[]);
    let mut old = Pair::waiting(relay.address(), Transfer::usual()).await.old.take().unwrap();
    assert_eq!(old.role, Old);
    relay.signal(Signal::KILL);
    let ending = old.socket.until_end().await;
    assert_eq!((ending.ended, ending.close), (None, None));
}
