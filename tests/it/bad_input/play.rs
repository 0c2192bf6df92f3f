//! Rows that take time, more than one connection, or silence.

use std::time::{Duration, Instant};

use handoff_relay::protocol::Role::{self, New, Old};
use handoff_relay::protocol::close::CloseReason::{
    self, Crowded, FirstMessageTimeout, Flooding, QuotaExceeded, StaleFrame, Superseded, TooManyResumes,
};

use super::Answer::{Close, End, Status};
use super::Attack::Play as Plays;
use super::Fate::{Hear, None as Nobody, Survive};
use super::Scene::{Joined, Waiting, WaitingFast};
use super::{Answer, Fate, Got, Play, Row, Scene};
use crate::support::party::Pair;
use crate::support::socket::{Handshake, Socket, frame};

const fn row(name: &'static str, scene: Scene, play: fn(Pair) -> Play, answer: Answer, bystanders: Fate) -> Row {
    Row { name, scene, attack: Plays(play), answer, bystanders }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "no first message of the old app",
        Scene::Nobody,
        |p| Box::pin(silence(p, Old)),
        Close(FirstMessageTimeout),
        Nobody,
    ),
    row("no first message of a new app", Joined, |p| Box::pin(silence(p, New)), Close(FirstMessageTimeout), Survive),
    row("pings instead of a first message", Waiting, |p| Box::pin(pings_only(p)), Close(FirstMessageTimeout), Survive),
    row("a connection without a handshake", Waiting, |p| Box::pin(handshake_of(p, 0)), Status(408), Survive),
    row("half a handshake, and then nothing", Waiting, |p| Box::pin(handshake_of(p, 100)), Status(408), Survive),
    row("a handshake at one byte a moment", Waiting, |p| Box::pin(slow_handshake(p)), Status(408), Survive),
    row("a handshake that is cut in the middle", Waiting, |p| Box::pin(cut_handshake(p)), End, Survive),
    row("a frame that is shown no longer", WaitingFast, |p| Box::pin(stale(p)), Close(StaleFrame), Survive),
    row(
        "a second join while the first is offline",
        Joined,
        |p| Box::pin(second_join(p)),
        Close(CloseReason::ScannedTwice),
        Hear(CloseReason::ScannedTwice),
    ),
    row("a reader that stops while its peer sends", Joined, |p| Box::pin(no_reader(p)), End, Survive),
    row("an app that leaves without a close frame", Joined, |p| Box::pin(vanishes(p)), End, Survive),
    row("nine connections that say nothing", Waiting, |p| Box::pin(crowd(p)), Close(Crowded), Survive),
    row("31 resumes", Joined, |p| Box::pin(resumes(p)), Close(TooManyResumes), Hear(TooManyResumes)),
    row("two connections of one app", Joined, |p| Box::pin(supersedes(p)), Close(Superseded), Survive),
    row(
        "more empty binary messages than pings allowed",
        Joined,
        |p| Box::pin(sends(p, 255, b"", b"")),
        Close(Flooding),
        Survive,
    ),
    row(
        "the 513th data frame",
        Joined,
        |p| Box::pin(sends(p, 512, b"?", b"?")),
        Close(QuotaExceeded),
        Hear(QuotaExceeded),
    ),
    row(
        "one byte more than 1 MiB",
        Joined,
        |p| Box::pin(sends(p, 16, &[7; 65_536], b"?")),
        Close(QuotaExceeded),
        Hear(QuotaExceeded),
    ),
    row("half a frame, and then the end", Joined, |p| Box::pin(half_a_frame(p)), End, Survive),
];

async fn ending_of(mut socket: Socket) -> Got {
    Got::Ending(socket.until_end().await)
}

async fn silence(pair: Pair, role: Role) -> (Pair, Got) {
    let socket = Socket::open(pair.address, &pair.transfer.session, role).await;
    let got = ending_of(socket).await;
    (pair, got)
}

async fn pings_only(pair: Pair) -> (Pair, Got) {
    let mut socket = Socket::open(pair.address, &pair.transfer.session, New).await;
    // Each answer is the event for the next: as many as may be sent without flooding, as late as they are answered.
    for _ in 0..200 {
        socket.send(&frame(0x89, b"still here")).await;
        assert!(socket.frame().await.is_some_and(|frame| frame.payload == b"still here"));
    }
    let got = ending_of(socket).await;
    (pair, got)
}

/// Connects, sends this many bytes of a handshake, and waits for the relay to lose patience.
async fn handshake_of(pair: Pair, bytes: usize) -> (Pair, Got) {
    let mut socket = Socket::connect(pair.address).await;
    socket.send(&Handshake::new(&pair.transfer.session, New).bytes()[..bytes]).await;
    let response = socket.response().await;
    (pair, Got::Http(response))
}

async fn slow_handshake(pair: Pair) -> (Pair, Got) {
    let mut socket = Socket::connect(pair.address).await;
    for byte in Handshake::new(&pair.transfer.session, New).with("X-Padding", &"x".repeat(300)).bytes() {
        // Ends early when the relay has answered: it must not wait for the last byte.
        if socket.readable(Duration::from_millis(20)).await {
            break;
        }
        socket.send(&[byte]).await;
    }
    let response = socket.response().await;
    (pair, Got::Http(response))
}

async fn cut_handshake(pair: Pair) -> (Pair, Got) {
    let mut socket = Socket::connect(pair.address).await;
    socket.send(&Handshake::new(&pair.transfer.session, New).bytes()[..100]).await;
    socket.finish_sending().await;
    let response = socket.response().await;
    (pair, Got::Http(response))
}

/// Frame 0 dies two intervals after `opened`; waiting for that is what the row is about.
async fn stale(pair: Pair) -> (Pair, Got) {
    let dead_at = pair.opened_at + Duration::from_millis(2 * pair.transfer.interval_ms);
    tokio::time::sleep_until(dead_at.into()).await;
    let party = pair.party(New, &pair.transfer.join(0)).await;
    let got = ending_of(party.socket).await;
    (pair, got)
}

async fn second_join(mut pair: Pair) -> (Pair, Got) {
    drop(pair.new.take());
    pair.old.as_mut().unwrap().hear("peer_offline").await;
    let second = pair.party(New, &pair.transfer.join_of_another(0)).await;
    let got = ending_of(second.socket).await;
    (pair, got)
}

/// The relay gives a reader up that is some hundred messages behind, and tells its peer; its kernel may still hold
/// what was sent, so that no last word arrives.
async fn no_reader(mut pair: Pair) -> (Pair, Got) {
    drop(pair.new.take());
    let old = pair.old.as_mut().unwrap();
    old.hear("peer_offline").await;
    let mut deaf = Socket::connect_with_little_room(pair.address).await;
    deaf = deaf.shake_hands(&Handshake::new(&pair.transfer.session, New)).await;
    deaf.send(&crate::support::socket::text(&pair.transfer.resume(New).to_string())).await;
    let old = pair.old.as_mut().unwrap();
    old.hear("peer_online").await;
    for _ in 0..500 {
        old.send_data(&[7; 2000]).await;
    }
    let told_at = Instant::now();
    old.hear("peer_offline").await;
    // Not because two pings were not answered, or because the kernel gave up: those take half a minute.
    assert!(told_at.elapsed() < Duration::from_secs(10));
    while deaf.frame().await.is_some() {}
    (pair, Got::Http(None))
}

async fn vanishes(mut pair: Pair) -> (Pair, Got) {
    drop(pair.new.take());
    pair.old.as_mut().unwrap().hear("peer_offline").await;
    (pair, Got::Http(None))
}

async fn crowd(pair: Pair) -> (Pair, Got) {
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(Socket::open(pair.address, &pair.transfer.session, New).await);
    }
    let got = silence(pair, New).await;
    drop(silent);
    got
}

async fn resumes(mut pair: Pair) -> (Pair, Got) {
    for number in 0..30 {
        let role = if number % 2 == 0 { Old } else { New };
        let mut party = pair.party(role, &pair.transfer.resume(role)).await;
        party.hear("resumed").await;
        let older = pair.side(role).replace(party);
        older.unwrap().hear_end(Superseded).await;
    }
    let one_too_many = pair.party(Old, &pair.transfer.resume(Old)).await;
    let got = ending_of(one_too_many.socket).await;
    (pair, got)
}

async fn supersedes(mut pair: Pair) -> (Pair, Got) {
    let mut newer = pair.party(New, &pair.transfer.resume(New)).await;
    newer.hear("resumed").await;
    let older = pair.new.replace(newer).unwrap();
    let got = ending_of(older.socket).await;
    (pair, got)
}

async fn half_a_frame(mut pair: Pair) -> (Pair, Got) {
    let mut party = pair.new.take().unwrap();
    party.socket.send(&frame(0x82, &[7; 1000])[..500]).await;
    party.socket.finish_sending().await;
    let got = ending_of(party.socket).await;
    pair.old.as_mut().unwrap().hear("peer_offline").await;
    (pair, got)
}

/// Old sends so many frames, as fast as they are read, and then one that is too much.
async fn sends(mut pair: Pair, count: usize, data: &'static [u8], last: &'static [u8]) -> (Pair, Got) {
    let mut old = pair.old.take().unwrap();
    let new = pair.new.as_mut().unwrap();
    for _ in 0..count {
        old.send_data(data).await;
        assert_eq!(new.hear_data().await, data);
    }
    old.send_data(last).await;
    let got = ending_of(old.socket).await;
    (pair, got)
}
