//! How connections end on the wire: `ended`, the close frames, and then TCP, closed by the relay first and at once.

use std::time::{Duration, Instant};

use handoff_relay::protocol::Role::{self, New, Old};
use handoff_relay::protocol::close::CloseReason;
use serde_json::{Value, json};

use crate::support::messages::{Transfer, base64url, cancel, changed, complete};
use crate::support::party::{Pair, Party};
use crate::support::relay::Relay;
use crate::support::socket::{CLOSE, Frame, Socket, TEXT, close, close_payload, frame};

/// From the last close frame to the end of TCP.
const AT_ONCE: Duration = Duration::from_millis(100);

/// From the relay's close frame to the end of TCP, when the app does not answer: 150 ms, and what a busy machine adds.
const GRACE: Duration = Duration::from_millis(250);

/// Reads up to the relay's close frame, which must have this reason, as must `ended` before it.
async fn hear_close(socket: &mut Socket, reason: CloseReason) {
    let mut ended = None;
    loop {
        let Frame { opcode, payload } = socket.frame().await.expect("a close frame");
        match opcode {
            TEXT => ended = Some(serde_json::from_slice::<Value>(&payload).unwrap()),
            CLOSE => {
                assert_eq!(close_payload(&payload), (reason.code(), reason.label().to_owned()));
                assert_eq!(ended.unwrap()["reason"], reason.label());
                return;
            }
            _ => {}
        }
    }
}

/// Waits for the relay to close TCP; the app has not. A reset would be no close.
async fn time_to_end(socket: &mut Socket) -> Duration {
    let started = Instant::now();
    assert_eq!(socket.frame().await, None, "nothing comes after a close frame");
    assert!(!socket.was_reset);
    started.elapsed()
}

/// Answers the relay's close frame.
async fn answer_and_time(mut socket: Socket, reason: CloseReason) -> Duration {
    hear_close(&mut socket, reason).await;
    socket.send(&close(reason.code())).await;
    time_to_end(&mut socket).await
}

#[tokio::test]
async fn a_finished_handoff_gives_its_two_sockets_back_at_once() {
    let relay = Relay::start(&[]);
    Pair::joined(relay.address(), Transfer::usual()).await.finish().await;
    relay.until_metric("handoff_connections", 0.0).await;
    for _ in 0..10 {
        let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
        let (mut old, new) = (pair.old.take().unwrap(), pair.new.take().unwrap());
        old.say(&complete()).await;
        let both = tokio::join!(
            answer_and_time(old.socket, CloseReason::Completed),
            answer_and_time(new.socket, CloseReason::Completed),
        );
        println!("completed: TCP closed {:?} and {:?} after the close frames", both.0, both.1);
        assert!(both.0.max(both.1) <= AT_ONCE);
    }
}

/// What an app of this role says on a fresh connection to end it, and what it hears.
fn refusals(transfer: &Transfer) -> Vec<(Role, Value, CloseReason)> {
    vec![
        (Old, transfer.open(), CloseReason::AlreadyOpen),
        (Old, changed(transfer.open(), "interval_ms", 4999), CloseReason::BadOffer),
        (Old, json!({"type": "nonsense"}), CloseReason::MalformedMessage),
        (Old, complete(), CloseReason::UnexpectedMessage),
        (New, changed(transfer.join(0), "proof", base64url(&[7; 32])), CloseReason::BadJoinProof),
        (New, transfer.join_of_another(35), CloseReason::StaleFrame),
        (New, changed(transfer.resume(New), "token", base64url(&[7; 32])), CloseReason::NothingToResume),
    ]
}

#[tokio::test]
async fn whoever_is_refused_hears_why_and_then_the_relay_closes_tcp() {
    let relay = Relay::start(&[]);
    let pair = Pair::joined(relay.address(), Transfer::usual()).await;
    for (role, message, reason) in refusals(&pair.transfer) {
        let party = pair.party(role, &message).await;
        let took = answer_and_time(party.socket, reason).await;
        println!("{reason}: TCP closed {took:?} after the close frames");
        assert!(took <= AT_ONCE, "{reason}: {took:?}");
    }
    pair.finish().await;
}

#[tokio::test]
async fn every_way_to_end_a_session_is_told_to_both_and_then_the_relay_closes_tcp() {
    let relay = Relay::start(&["session.lifetime=3s"]);
    let by_message = [
        (Old, complete(), CloseReason::Completed),
        (Old, cancel("user"), CloseReason::CancelledByOld),
        (New, cancel("user"), CloseReason::CancelledByNew),
        (Old, cancel("wrong_code"), CloseReason::WrongCode),
        (Old, cancel("code_timeout"), CloseReason::CodeTimeout),
        (New, cancel("verification_failed"), CloseReason::VerificationFailed),
    ];
    let all = by_message.map(|(role, message, reason)| (Some((role, message)), reason));
    for (last_word, reason) in all.into_iter().chain([(None, CloseReason::Expired)]) {
        let mut pair = Pair::joined(relay.address(), Transfer::random(3000, 3000)).await;
        if let Some((role, message)) = last_word {
            pair.side(role).as_mut().unwrap().say(&message).await;
        }
        let (old, new) = (pair.old.take().unwrap(), pair.new.take().unwrap());
        let both = tokio::join!(answer_and_time(old.socket, reason), answer_and_time(new.socket, reason));
        println!("{reason}: TCP closed {:?} and {:?} after the close frames", both.0, both.1);
        assert!(both.0.max(both.1) <= AT_ONCE, "{reason}: {both:?}");
    }
}

#[tokio::test]
async fn an_app_that_does_not_answer_the_close_frame_is_cut_after_its_grace() {
    let relay = Relay::start(&[]);
    let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
    pair.old.as_mut().unwrap().say(&cancel("user")).await;
    for mut party in [pair.old.take().unwrap(), pair.new.take().unwrap()] {
        hear_close(&mut party.socket, CloseReason::CancelledByOld).await;
        let took = time_to_end(&mut party.socket).await;
        println!("no answer: TCP closed {took:?} after the relay's close frame");
        assert!(took <= GRACE, "{took:?}");
    }
    relay.until_metric("handoff_connections", 0.0).await;
}

#[tokio::test]
async fn an_app_that_closes_its_connection_is_answered_and_the_session_goes_on() {
    let relay = Relay::start(&[]);
    let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
    let closes =
        [(close(1000), 1000), (close(1001), 1001), (frame(0x88, b""), 1005), (frame(0x88, b"\x03\xe8bye"), 1000)];
    for (bytes, code) in closes {
        let mut new = pair.new.take().unwrap();
        new.socket.send(&bytes).await;
        let answer = new.socket.frame().await.expect("an answer");
        assert_eq!((answer.opcode, close_payload(&answer.payload).0), (CLOSE, code));
        let took = time_to_end(&mut new.socket).await;
        println!("closed by the app with {code}: TCP closed {took:?} after the relay's answer");
        assert!(took <= AT_ONCE, "{took:?}");
        pair.old.as_mut().unwrap().hear("peer_offline").await;
        let mut new = pair.party(New, &pair.transfer.resume(New)).await;
        new.hear("resumed").await;
        pair.old.as_mut().unwrap().hear("peer_online").await;
        pair.new = Some(new);
    }
    pair.finish().await;
}

#[tokio::test]
async fn data_that_was_sent_before_the_end_still_arrives() {
    let relay = Relay::start(&[]);
    for _ in 0..20 {
        let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
        let old = pair.old.as_mut().unwrap();
        for number in 0..10 {
            old.send_data(&vec![number; 60_000]).await;
        }
        old.say(&complete()).await;
        let Party { socket, .. } = pair.new.as_mut().unwrap();
        for number in 0..10 {
            assert_eq!(socket.frame().await.unwrap().payload, vec![number; 60_000]);
        }
        hear_close(socket, CloseReason::Completed).await;
    }
}

#[tokio::test]
async fn what_an_app_sends_after_ended_is_no_reason_to_reset_its_connection() {
    let relay = Relay::start(&[]);
    let mut pair = Pair::joined(relay.address(), Transfer::usual()).await;
    pair.old.as_mut().unwrap().say(&complete()).await;
    let mut new = pair.new.take().unwrap();
    // On its way when the session ended.
    new.send_data(&vec![7; 60_000]).await;
    new.socket.send(&frame(0x89, b"still here")).await;
    hear_close(&mut new.socket, CloseReason::Completed).await;
    new.socket.send(&close(1000)).await;
    assert!(time_to_end(&mut new.socket).await <= AT_ONCE);
}
