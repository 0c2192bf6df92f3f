//! Nothing that could name or open a session, and no payload, is ever logged: a relay at debug level, a handoff and
//! what goes wrong with others, and then a search of the whole log for everything that was secret.

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::support::messages::{Transfer, base64url, cancel};
use super::support::party::Pair;
use super::support::relay::Relay;
use super::support::socket::text;

const PAYLOAD: &[u8] = b"CREDENTIAL-of-Erika-Mustermann";

/// Everything secret about a transfer, in every spelling that a log could use.
fn spellings(transfer: &Transfer) -> Vec<String> {
    let mut secrets: Vec<Vec<u8>> = vec![
        transfer.public_key.clone(),
        transfer.old_token.to_vec(),
        transfer.new_token.to_vec(),
        Sha256::digest(transfer.old_token).to_vec(),
        Sha256::digest(transfer.new_token).to_vec(),
        PAYLOAD.to_vec(),
    ];
    secrets.extend(transfer.proofs.iter().map(|proof| proof.to_vec()));
    secrets.extend(transfer.proofs.iter().map(|proof| Sha256::digest(proof)[..16].to_vec()));
    let mut found: Vec<String> = Vec::new();
    for secret in &secrets {
        // A part gives it away, too.
        let part = &secret[..12];
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<String> = part.iter().map(u8::to_string).collect();
        found.extend([base64url(part), hex.to_uppercase(), hex, list.join(", "), list.join(",")]);
    }
    found.extend([transfer.session.clone(), transfer.session.replace('-', "")]);
    found.push(String::from_utf8_lossy(PAYLOAD).into_owned());
    found
}

fn leaks<'a>(log: &str, spellings: &'a [String]) -> Vec<&'a String> {
    spellings.iter().filter(|secret| log.contains(secret.as_str())).collect()
}

#[tokio::test]
async fn a_relay_at_debug_level_logs_no_secret_whatever_goes_wrong() {
    let relay = Relay::start(&["log.filter=debug"]);
    let address = relay.address();
    let mut transfers = Vec::new();
    let mut next = || {
        let transfer = Transfer::usual();
        transfers.push(transfer.clone());
        transfer
    };

    let mut good = Pair::joined(address, next()).await;
    good.side(Role::Old).as_mut().unwrap().send_data(PAYLOAD).await;
    good.finish().await;

    let mut twice = Pair::joined(address, next()).await;
    twice.party(Role::New, &twice.transfer.join_of_another(0)).await.hear_end(CloseReason::ScannedTwice).await;
    twice.side(Role::Old).as_mut().unwrap().hear_end(CloseReason::ScannedTwice).await;

    let mut waiting = Pair::waiting(address, next()).await;
    let stranger = Transfer { session: waiting.transfer.session.clone(), ..next() };
    waiting.party(Role::New, &stranger.join(0)).await.hear_end(CloseReason::BadJoinProof).await;
    waiting.party(Role::New, &waiting.transfer.join(9)).await.hear_end(CloseReason::StaleFrame).await;
    waiting.party(Role::Old, &stranger.resume(Role::Old)).await.hear_end(CloseReason::NothingToResume).await;
    waiting.party(Role::Old, &waiting.transfer.open()).await.hear_end(CloseReason::AlreadyOpen).await;
    let token = base64url(&waiting.transfer.old_token);
    for malformed in [
        format!("{{\"type\":\"resume\",\"token\":\"{token}\",\"extra\":\"{token}\"}}"),
        format!("{{\"type\":\"resume\",\"token\":\"{token}={token}\"}}"),
        token.clone(),
    ] {
        let mut party = waiting.party(Role::Old, &json!({"type": "resume", "token": "A".repeat(43)})).await;
        party.hear_end(CloseReason::NothingToResume).await;
        let mut socket = super::support::socket::Socket::open(address, &waiting.transfer.session, Role::Old).await;
        socket.send(&text(&malformed)).await;
        assert!(socket.until_end().await.is(CloseReason::MalformedMessage));
    }
    let old = waiting.side(Role::Old).as_mut().unwrap();
    old.say(&cancel("user")).await;
    old.hear_end(CloseReason::CancelledByOld).await;

    relay.until_metric("handoff_connections", 0.0).await;
    let log = relay.log();
    assert!(log.contains("session ended") && log.contains("DEBUG"), "the relay logs at debug level: {log}");
    for transfer in &transfers {
        let spellings = spellings(transfer);
        assert_eq!(leaks(&log, &spellings), [""; 0]);
        let planted = format!("{log}\nsession {}", transfer.session);
        assert_eq!(leaks(&planted, &spellings), [&transfer.session], "the search finds what is there");
    }
    println!(
        "{} lines of log searched for {} spellings",
        log.lines().count(),
        transfers.len() * spellings(&transfers[0]).len()
    );
}

#[tokio::test]
async fn tokens_and_addresses_are_not_logged_either() {
    let relay = Relay::start(&["log.filter=debug", "server.trusted_proxies=127.0.0.1"]);
    let transfer = Transfer::usual();
    let handshake = super::support::socket::Handshake::new(&transfer.session, Role::Old)
        .with("X-Forwarded-For", "203.0.113.77")
        .with("Origin", "https://evil.example");
    let mut socket = super::support::socket::Socket::connect(relay.address()).await;
    socket.send(&handshake.bytes()).await;
    assert_eq!(socket.response().await.unwrap().json()["code"], "origin-not-allowed");
    let handshake =
        super::support::socket::Handshake::new(&transfer.session, Role::Old).with("X-Forwarded-For", "203.0.113.77");
    let mut open = transfer.open();
    open["token"] = "eyJhbGciOiJFUzI1NiJ9.c2VjcmV0LWNsYWltcw.c2lnbmF0dXJl".into();
    let mut old = super::support::party::Party::connect_with(relay.address(), Role::Old, &handshake, &open).await;
    old.hear("opened").await;
    old.say(&cancel("user")).await;
    old.hear_end(CloseReason::CancelledByOld).await;
    relay.until_metric("handoff_connections", 0.0).await;
    for secret in ["203.0.113.77", "c2VjcmV0LWNsYWltcw", "evil.example", &transfer.session] {
        assert!(!relay.log().contains(secret), "{secret}");
    }
}
