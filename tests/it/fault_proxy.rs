//! The faulty network of the other tests does what it says.

use std::time::Duration;

use handoff_relay::protocol::Role;

use crate::support::fault_proxy::{FaultProxy, Faults};
use crate::support::messages::Transfer;
use crate::support::party::Pair;
use crate::support::relay::Relay;
use crate::support::socket::{Socket, get};

#[tokio::test]
async fn a_handoff_goes_through_a_proxy_that_breaks_nothing_and_through_one_that_is_slow() {
    let relay = Relay::start(&[]);
    let proxy = FaultProxy::start(relay.address(), 1).await;
    Pair::joined(proxy.address(), Transfer::usual()).await.finish().await;
    proxy.set(Faults { delay: Duration::from_millis(5), ..Faults::default() });
    Pair::joined(proxy.address(), Transfer::usual()).await.finish().await;
    assert_eq!(proxy.connections(), 4);
}

#[tokio::test]
async fn both_apps_resume_after_every_connection_was_cut() {
    let relay = Relay::start(&[]);
    let proxy = FaultProxy::start(relay.address(), 1).await;
    let mut pair = Pair::joined(proxy.address(), Transfer::usual()).await;
    proxy.cut_all();
    for role in Role::BOTH {
        let mut party = pair.side(role).take().unwrap();
        while party.socket.frame().await.is_some() {}
    }
    relay.until_metric("handoff_connections", 0.0).await;
    pair.finish().await;
}

#[tokio::test]
async fn a_stalled_network_passes_nothing_on_until_it_goes_on() {
    let relay = Relay::start(&[]);
    let proxy = FaultProxy::start(relay.address(), 1).await;
    let mut pair = Pair::joined(proxy.address(), Transfer::usual()).await;
    proxy.stall(true);
    pair.old.as_mut().unwrap().send_data(b"late").await;
    let new = pair.new.as_mut().unwrap();
    assert!(!new.socket.readable(Duration::from_millis(100)).await);
    assert!(relay.metrics().await.sum("handoff_frames_relayed_total") < 0.5);
    proxy.stall(false);
    assert_eq!(new.hear_data().await, b"late");
    pair.finish().await;
}

#[tokio::test]
async fn a_connection_is_cut_after_the_same_number_of_bytes_each_time_or_refused() {
    let relay = Relay::start(&[]);
    let received = async |seed| {
        let proxy = FaultProxy::start(relay.address(), seed).await;
        proxy.set(Faults { cut_down_after: Some(1..200), ..Faults::default() });
        let mut lengths = Vec::new();
        for _ in 0..5 {
            let mut socket = Socket::connect(proxy.address()).await;
            socket.send(b"GET /metrics HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
            lengths.push(socket.until_end_of_bytes().await.len());
        }
        lengths
    };
    let lengths = received(7).await;
    assert_eq!(lengths, received(7).await);
    assert_ne!(lengths, received(8).await);

    let proxy = FaultProxy::start(relay.address(), 1).await;
    proxy.set(Faults { cut_up_after: Some(10..11), ..Faults::default() });
    let mut socket = Socket::connect(proxy.address()).await;
    socket.send(b"GET /healthz HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
    assert!(socket.response().await.is_none());
    proxy.set(Faults { refuses: true, ..Faults::default() });
    assert!(Socket::connect(proxy.address()).await.response().await.is_none());
    proxy.set(Faults::default());
    assert_eq!(get(proxy.address(), "/healthz").await.status, 200);
}

#[tokio::test]
async fn an_app_that_has_sent_everything_still_hears_the_relay_or_is_let_go() {
    let relay = Relay::start(&[]);
    let proxy = FaultProxy::start(relay.address(), 1).await;
    let mut pair = Pair::joined(proxy.address(), Transfer::usual()).await;
    proxy.half_close_all();
    for role in Role::BOTH {
        let mut party = pair.side(role).take().unwrap();
        while party.socket.frame().await.is_some() {}
    }
    pair.finish().await;
}
