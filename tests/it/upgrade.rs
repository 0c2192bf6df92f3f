//! From HTTP to WebSocket: what travels around the handshake arrives, and whoever leaves there leaves nothing behind.

use handoff_relay::protocol::Role::{self, New, Old};

use crate::support::eventually;
use crate::support::messages::{Transfer, random_session};
use crate::support::party::{Pair, Party};
use crate::support::relay::{NO_LIMITS, Relay};
use crate::support::socket::{Handshake, Socket, binary, text};

/// A handshake and `open` behind it, before the relay has answered; and how long the handshake is.
fn eager(transfer: &Transfer) -> (Vec<u8>, usize) {
    let handshake = Handshake::new(&transfer.session, Old).bytes();
    let length = handshake.len();
    ([handshake, text(&transfer.open().to_string())].concat(), length)
}

/// An app that has sent its handshake already.
async fn shaken(mut socket: Socket, role: Role) -> Party {
    assert_eq!(socket.response().await.expect("an answer").status, 101);
    Party { role, socket }
}

#[tokio::test]
async fn an_app_that_does_not_wait_for_the_answer_to_its_handshake_is_heard() {
    let relay = Relay::start(&NO_LIMITS);
    let (all, head) = eager(&Transfer::usual());
    for cut in [1, head - 1, head, head + 1, head + 3, head + 200, all.len()] {
        let (bytes, _) = eager(&Transfer::usual());
        let mut socket = Socket::connect(relay.address()).await;
        for part in [&bytes[..cut], &bytes[cut..]] {
            socket.send(part).await;
        }
        shaken(socket, Old).await.hear("opened").await;
    }
}

#[tokio::test]
async fn frames_of_the_largest_size_behind_the_handshake_arrive_whole() {
    let relay = Relay::start(&NO_LIMITS);
    let mut pair = Pair::waiting(relay.address(), Transfer::usual()).await;
    let payloads = [7_u8, 8, 9].map(|byte| vec![byte; 65_536]);
    let mut bytes = Handshake::new(&pair.transfer.session, New).bytes();
    bytes.extend(text(&pair.transfer.join(0).to_string()));
    bytes.extend(payloads.iter().flat_map(|payload| binary(payload)));
    let mut socket = Socket::connect(relay.address()).await;
    socket.send(&bytes).await;
    shaken(socket, New).await.hear("joined").await;
    let old = pair.old.as_mut().unwrap();
    for payload in payloads {
        assert!(old.hear_data().await == payload);
    }
}

#[tokio::test]
async fn a_handshake_may_follow_other_requests_on_its_connection() {
    let relay = Relay::start(&[]);
    let page = b"GET /healthz HTTP/1.1\r\nHost: relay.example\r\n\r\n";
    let mut socket = Socket::connect(relay.address()).await;
    socket.send(page).await;
    assert_eq!(socket.response().await.unwrap().body, b"ok\n");
    // And all at once.
    socket.send(&[page.as_slice(), &eager(&Transfer::usual()).0].concat()).await;
    assert_eq!(socket.response().await.unwrap().body, b"ok\n");
    shaken(socket, Old).await.hear("opened").await;
}

#[tokio::test]
async fn a_page_that_is_asked_for_with_an_upgrade_is_an_answer_and_the_end() {
    let relay = Relay::start(&[]);
    for (target, status) in [("/healthz", 200), ("/openapi.json", 200), ("/admin", 404)] {
        let mut socket = Socket::connect(relay.address()).await;
        socket.send(&Handshake::to(target).bytes()).await;
        let response = socket.response().await.unwrap();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{target}");
        let length: usize = response.header("content-length").unwrap().parse().unwrap();
        assert_eq!(response.body.len(), length, "{target}");
        assert!(socket.until_end_of_bytes().await.is_empty() && !socket.was_reset, "{target}");
    }
}

#[tokio::test]
async fn whoever_leaves_at_the_handshake_leaves_nothing_behind() {
    let relay = Relay::start(&NO_LIMITS);
    Pair::joined(relay.address(), Transfer::usual()).await.finish().await;
    relay.until_metric("handoff_connections", 0.0).await;
    let before = relay.open_files();
    for number in 0..60 {
        let handshake = Handshake::new(&random_session(), Old).bytes();
        let (eager, head) = eager(&Transfer::usual());
        let mut socket = Socket::connect(relay.address()).await;
        match number % 5 {
            0 => socket.send(&handshake).await,
            1 => socket.send(&handshake[..handshake.len() / 2]).await,
            2 => socket.send(&eager[..head + 50]).await,
            3 => {
                socket.send(&handshake).await;
                socket.finish_sending().await;
                socket.until_end_of_bytes().await;
            }
            _ => {
                socket.send(&handshake).await;
                socket.response().await.unwrap();
            }
        }
    }
    let files = async || relay.open_files();
    eventually("open files", files, |files| *files <= before).await;
    relay.until_metric("handoff_connections", 0.0).await;
    relay.until_metric("handoff_sessions", 0.0).await;
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}
