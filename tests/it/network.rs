//! Where the two apps are: what a trusted proxy says decides the verdict, and what anybody else says does not.

use std::path::Path;

use handoff_relay::protocol::Role::{self, New, Old};
use handoff_relay::protocol::close::CloseReason;
use serde_json::Value;

use crate::support::messages::Transfer;
use crate::support::party::{Pair, Party};
use crate::support::relay::Relay;
use crate::support::socket::Handshake;

const TRUSTED: &str = "server.trusted_proxies=127.0.0.0/8,::1";

fn databases() -> [String; 2] {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geo");
    ["asn", "country"]
        .map(|name| format!("network.{name}_database={}", fixtures.join(name).with_extension("mmdb").display()))
}

/// An app that is said to be at this address.
async fn party(relay: &Relay, transfer: &Transfer, role: Role, address: Option<&str>, first: &Value) -> Party {
    let handshake = Handshake::new(&transfer.session, role);
    let handshake = address.map_or(handshake.clone(), |address| handshake.with("X-Forwarded-For", address));
    Party::connect_with(relay.address(), role, &handshake, first).await
}

/// What old hears of a join between two addresses.
async fn verdict(relay: &Relay, old: Option<&str>, new: Option<&str>) -> (String, String) {
    let transfer = Transfer::usual();
    let mut first = party(relay, &transfer, Old, old, &transfer.open()).await;
    first.hear("opened").await;
    let mut second = party(relay, &transfer, New, new, &transfer.join(0)).await;
    second.hear("joined").await;
    let joined = first.hear("peer_joined").await;
    let text = |field: &str| joined[field].as_str().unwrap().to_owned();
    (text("network"), text("country"))
}

#[tokio::test]
async fn a_trusted_proxy_decides_where_an_app_is() {
    let [asn, country] = databases();
    let relay = Relay::start(&[TRUSTED, &asn, &country]);
    for (old, new, network, country) in [
        ("192.0.2.7", "192.0.2.7", "same_address", "same"),
        ("2001:db8:1:2::a", "2001:db8:1:2::b", "same_address", "same"),
        ("192.0.2.7", "192.0.2.8", "same_network", "same"),
        ("192.0.2.7", "198.51.100.9", "same_network", "different"),
        ("192.0.2.7", "203.0.113.9", "different", "same"),
        ("198.51.100.9", "203.0.113.9", "different", "different"),
        ("192.0.2.7", "2001:db8:1::1", "unknown", "same"),
        ("192.0.2.7", "198.18.0.1", "unknown", "unknown"),
        ("192.0.2.7", "10.0.0.1", "different", "unknown"),
        // What stands left of the last address was written by the client.
        ("192.0.2.7", "192.0.2.7, 203.0.113.9", "different", "same"),
        // A proxy that says nothing sensible leaves everything open.
        ("192.0.2.7", "unknown", "unknown", "unknown"),
    ] {
        let heard = verdict(&relay, Some(old), Some(new)).await;
        assert_eq!((heard.0.as_str(), heard.1.as_str()), (network, country), "{old} and {new}");
    }
    let silent = verdict(&relay, None, None).await;
    assert_eq!(silent, ("unknown".to_owned(), "unknown".to_owned()), "two apps behind one silent proxy");
}

#[tokio::test]
async fn nobody_else_decides_where_an_app_is() {
    let [asn, country] = databases();
    for settings in
        [&[][..], &["server.trusted_proxies=10.0.0.0/8"], &[TRUSTED, "server.client_address_header=forwarded"]]
    {
        let relay = Relay::start(&[settings, &[asn.as_str(), country.as_str()]].concat());
        let heard = verdict(&relay, Some("192.0.2.7"), Some("203.0.113.9")).await;
        let is_trusted = settings.contains(&TRUSTED);
        let expected = if is_trusted { "unknown" } else { "same_address" };
        assert_eq!((heard.0.as_str(), heard.1.as_str()), (expected, "unknown"), "{settings:?}");
    }
}

#[tokio::test]
async fn a_policy_against_distance_ends_the_session_for_both() {
    let [asn, country] = databases();
    for (policy, refused, accepted) in [
        ("different", ("192.0.2.7", "203.0.113.9"), ("192.0.2.7", "192.0.2.8")),
        ("different_country", ("192.0.2.7", "198.51.100.9"), ("192.0.2.7", "203.0.113.9")),
    ] {
        let refuse = format!("network.refuse={policy}");
        let relay = Relay::start(&[TRUSTED, &asn, &country, &refuse]);
        let transfer = Transfer::usual();
        let mut old = party(&relay, &transfer, Old, Some(refused.0), &transfer.open()).await;
        old.hear("opened").await;
        let mut new = party(&relay, &transfer, New, Some(refused.1), &transfer.join(0)).await;
        new.hear_end(CloseReason::NetworkRefused).await;
        old.hear_end(CloseReason::NetworkRefused).await;
        verdict(&relay, Some(accepted.0), Some(accepted.1)).await;
        verdict(&relay, Some(refused.0), None).await;
    }
}

#[tokio::test]
async fn limits_are_counted_by_the_address_that_a_trusted_proxy_names() {
    let relay =
        Relay::start(&[TRUSTED, "limits.opens_burst_per_address=1", "limits.opens_per_second_per_address=0.001"]);
    for address in ["192.0.2.7", "192.0.2.8", "2001:db8:1:2::a", "2001:db8:1:3::a"] {
        let transfer = Transfer::usual();
        party(&relay, &transfer, Old, Some(address), &transfer.open()).await.hear("opened").await;
    }
    for address in ["192.0.2.7", "2001:db8:1:2::b"] {
        let mut socket = crate::support::socket::Socket::connect(relay.address()).await;
        let handshake = Handshake::new(&Transfer::usual().session, Old).with("X-Forwarded-For", address);
        socket.send(&handshake.bytes()).await;
        assert_eq!(socket.response().await.unwrap().json()["code"], "too-many-opens", "{address}");
    }
}

#[tokio::test]
async fn ipv6_is_served_like_ipv4() {
    let relay = Relay::start(&["server.listen=[::1]:0"]);
    assert!(relay.address().is_ipv6());
    Pair::joined(relay.address(), Transfer::usual()).await.finish().await;
    let heard = verdict(&relay, None, None).await;
    assert_eq!(heard, ("same_address".to_owned(), "unknown".to_owned()));
}
