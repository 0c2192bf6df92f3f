//! Relays that are missing, full, killed, restarted, or something else altogether.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use rustix::process::Signal;

use super::scene::{Folder, check_code, finish, hand_over, metric, qr, start_at, stop, unused_port};
use crate::support::relay::Relay;

#[test]
fn a_missing_relay_is_named_when_patience_ends() {
    let folder = Folder::with(100);
    let relay = format!("ws://127.0.0.1:{}", unused_port());
    let end = folder.old(&relay, &["--patience", "1"]).end();
    end.expect_reason(69, "unreachable");
    assert_eq!(end.event("ended")["detail"], "no relay could be reached: the relay did not accept a connection");
    assert!(end.has("offline") && !end.has("qr_shown"), "{end:?}");
}

#[test]
fn a_relay_that_is_gone_before_the_join_is_named_by_the_new_phone() {
    let relay = Relay::start(&[]);
    let url = relay.url();
    let folder = Folder::with(100);
    let mut old = folder.old(&url, &[]);
    let qr = qr(&mut old);
    drop(relay);
    old.until("qr_hidden");
    folder.scan(&url, &qr, &["--patience", "1"]).end().expect_reason(69, "unreachable");
    folder.expect_nothing();
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let folder = Folder::with(100);
    // RFC 6761: never exists.
    let end = folder.old("wss://relay.invalid", &["--patience", "1"]).end();
    end.expect_reason(69, "unreachable");
    assert_eq!(end.event("ended")["detail"], "no relay could be reached: the relay's name could not be resolved");
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let folder = Folder::with(100);
    for (relay, problem) in [
        ("relay.example", "a relay's address"),
        ("https://relay.example", "starts with wss://"),
        ("ws://relay.example", "an unencrypted relay (ws://) is allowed on this device only; use wss://"),
    ] {
        folder.old(relay, &[]).end().expect_refusal(2, problem);
    }
}

#[test]
fn what_is_no_relay_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        // To its end, so that the answer is not overtaken by a reset.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let folder = Folder::with(100);
    let mut old = folder.old(&url, &["--patience", "1"]);
    assert_eq!(old.until("offline")["cause"], "what answered does not speak handoff.v1");
    server.join().unwrap();
    old.end().expect_reason(69, "unreachable");
}

#[test]
fn a_relay_that_never_comes_back_ends_with_the_sessions_time() {
    let relay = Relay::start(&["session.lifetime=6s"]);
    let url = relay.url();
    let folder = Folder::with(100);
    let mut old = folder.old(&url, &["--lifetime", "6"]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&url, &qr, &[]);
    check_code(&mut old, &mut new);
    stop(relay, Signal::KILL);
    for phone in [old, new] {
        let end = phone.end();
        assert!(end.has("offline"), "{end:?}");
        end.expect_reason(1, "expired");
    }
    folder.expect_nothing();
}

#[test]
fn a_relay_that_was_restarted_has_lost_the_session_and_a_new_handoff_succeeds() {
    for signal in [Signal::KILL, Signal::TERM] {
        let relay = Relay::start(&[]);
        let folder = Folder::with(100);
        let mut old = folder.old(&relay.url(), &[]);
        let qr = qr(&mut old);
        let mut new = folder.scan(&relay.url(), &qr, &[]);
        check_code(&mut old, &mut new);
        let address = stop(relay, signal);
        let relay = start_at(address);
        for phone in [old, new] {
            let end = phone.end();
            end.expect_reason(1, "session_lost");
            assert_eq!(end.event("ended")["detail"], "the relay has lost the session");
        }
        folder.expect_nothing();
        hand_over(&folder, &relay.url(), &[]);
    }
}

#[test]
fn a_node_without_room_asks_for_patience_and_is_given_it() {
    let relay = Relay::start(&["limits.connections=1"]);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&relay.url(), &qr, &["--patience", "1"]);
    assert_eq!(new.until("offline")["cause"], "the relay is busy (HTTP 503)");
    old.signal(Signal::INT);
    old.end().expect_reason(130, "cancelled");
    // Its place is free: the new phone gets in although its own patience is over, and hears what has become of it.
    new.end().expect_reason(1, "cancelled_by_old");
}

#[test]
fn an_address_that_tried_too_often_asks_for_patience_and_succeeds() {
    // Slow enough for a busy machine to start the new phone meanwhile.
    let one_in_four_seconds =
        ["limits.handshakes_burst_per_address=1", "limits.handshakes_per_second_per_address=0.25"];
    let relay = Relay::start(&one_in_four_seconds);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&relay.url(), &qr, &[]);
    assert_eq!(new.until("offline")["cause"], "the relay is busy (HTTP 429)");
    finish(&folder, old, new);
    assert!(metric(&relay, "handoff_rate_limited_total{limit=\"handshakes_per_address\"}") > 0.5);
}

#[test]
fn a_full_relay_says_so_and_takes_the_session_when_there_is_room() {
    let relay = Relay::start(&["limits.sessions=1"]);
    let (one, two) = (Folder::with(100), Folder::with(100));
    let mut first = one.old(&relay.url(), &[]);
    qr(&mut first);
    let mut second = two.old(&relay.url(), &[]);
    assert_eq!(second.until("offline")["cause"], "the relay is busy (HTTP 503)");
    first.signal(Signal::INT);
    first.end().expect_reason(130, "cancelled");
    let qr = qr(&mut second);
    finish(&two, second, two.scan(&relay.url(), &qr, &[]));
}
