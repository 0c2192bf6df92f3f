//! Nothing that could name or open a session, no payload and no address is ever logged: relays at debug level, a handoff
//! and everything that goes wrong with one, and then a search of all logs for everything that was secret in the run.
//!
//! What was secret is not listed by hand but read from the wire, see [`wire`]; only what never goes over it is told.

mod apps;
pub(crate) mod search;
pub(crate) mod watched;
mod wire;

use std::time::Instant;

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::qr::QrPayload;

use self::search::Secrets;
use self::watched::{Format, Watched};
use crate::bad_input;
use crate::handoff::process::Process;
use crate::handoff::scene::{Folder, check_code, qr};
use crate::support::messages::{Transfer, base64url, cancel};
use crate::support::party::{Pair, Party};
use crate::support::socket::{Handshake, Socket};

/// A whole table of bad input and handoffs of all kinds, all at once, against one relay.
async fn everything(format: Format) {
    let relay = Watched::start_with(format, bad_input::SETTINGS);
    let (log_of_apps, guard) = apps::Log::begin();
    let mut told = Secrets::default();
    let (rows, ()) = tokio::join!(bad_input::run_table(relay.address()), apps::all(&relay, &mut told));
    drop(guard);
    relay.until_metric("handoff_connections", 0.0).await;
    let (log, mut secrets) = relay.end().await;
    secrets.add_all(told);
    for expected in ["session joined", "session ended", "join refused", "handshake refused", "DEBUG"] {
        assert!(log.contains(expected), "{expected:?} was not even logged");
    }
    assert_eq!(log.starts_with('{'), format == Format::Json);
    let log_of_apps = log_of_apps.text();
    for expected in ["handoff_relay::client", "connection lost", "transfer finished"] {
        assert!(log_of_apps.contains(expected), "{expected:?} was not even logged");
    }
    let started = Instant::now();
    assert_eq!(secrets.found_in(&format!("{log}\n{log_of_apps}")), [""; 0]);
    println!(
        "{format:?}: {rows} rows; {} and {} lines of log ({} bytes) searched for {} secrets in {:.1?}",
        log.lines().count(),
        log_of_apps.lines().count(),
        log.len() + log_of_apps.len(),
        secrets.len(),
        started.elapsed()
    );
    for kind in [
        "open.resume_hash",
        "open.join_hashes",
        "open.public_key",
        "open.token",
        "join.proof",
        "resume.token",
        "session id",
        "payload",
        "header",
        "part of a path",
        "text",
        "address",
        "credential",
        "QR text",
        "frame secret",
    ] {
        assert!(secrets.names().contains(kind), "no {kind} was looked for");
    }
}

#[tokio::test]
async fn no_case_of_bad_input_and_no_handoff_leaves_a_secret_in_a_json_log() {
    everything(Format::Json).await;
}

#[tokio::test]
async fn no_case_of_bad_input_and_no_handoff_leaves_a_secret_in_a_log_for_people() {
    everything(Format::Text).await;
}

#[tokio::test]
async fn an_address_is_not_logged_whoever_names_it() {
    for format in [Format::Json, Format::Text] {
        let relay = Watched::start_with(format, &["server.trusted_proxies=127.77.0.0/16"]);
        for forwarded in ["203.0.113.77", "2001:db8:77::1234, 203.0.113.78", "no-address-at-all"] {
            let transfer = Transfer::usual();
            let handshake = Handshake::new(&transfer.session, Role::Old).with("X-Forwarded-For", forwarded);
            let mut refused = Socket::connect(relay.address()).await;
            refused.send(&handshake.clone().with("Origin", "https://evil.example").bytes()).await;
            assert!(refused.response().await.unwrap().status >= 400);
            if forwarded.starts_with("no") {
                continue;
            }
            let mut old = Party::connect_with(relay.address(), Role::Old, &handshake, &transfer.open()).await;
            old.hear("opened").await;
            old.say(&cancel("user")).await;
            old.hear_end(CloseReason::CancelledByOld).await;
        }
        relay.expect_no_secret_in_the_log().await;
    }
}

#[tokio::test]
async fn a_leak_in_a_real_log_is_found() {
    for format in [Format::Json, Format::Text] {
        let relay = Watched::start_with(format, &[]);
        let pair = Pair::joined(relay.address(), Transfer::usual()).await;
        let (transfer, proof) = (pair.transfer.clone(), pair.transfer.proofs[0]);
        pair.finish().await;
        let (log, secrets) = relay.end().await;
        assert_eq!(secrets.found_in(&log), [""; 0]);
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        let leaks = [
            transfer.session.clone(),
            transfer.session.replace('-', ""),
            base64url(&transfer.public_key),
            format!("{:?}", transfer.open().to_string()),
            format!("{proof:?}"),
            hex,
            base64url(&proof[9..]),
        ];
        for leak in &leaks {
            let line = match format {
                Format::Json => serde_json::json!({"level": "DEBUG", "message": leak}).to_string(),
                Format::Text => format!("2026-11-23T12:00:00Z DEBUG handoff_relay: {leak}"),
            };
            assert!(!secrets.found_in(&format!("{log}{line}\n")).is_empty(), "{line}");
        }
    }
}

#[test]
fn the_commands_print_no_secret_on_standard_error() {
    let relay = Watched::start(&[]);
    let folder = Folder::with(5000);
    let mut secrets = Secrets::default();
    secrets.add("credential", std::fs::read(folder.path("credential")).unwrap());
    let mut old = folder.old(&relay.url(), &[]);
    let text = qr(&mut old);
    apps::tell_qr(&QrPayload::from_text(&text).unwrap(), &mut secrets);
    let mut new = folder.scan(&relay.url(), &text, &[]);
    let code = check_code(&mut old, &mut new);
    secrets.add_code(&code);
    old.type_line(&code);
    let (old, new) = (old.end(), new.end());
    assert_eq!((old.code, new.code), (Some(0), Some(0)), "{old:?} {new:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (log, on_the_wire) = runtime.block_on(relay.end());
    secrets.add_all(on_the_wire);
    for text in [log, old.errors, new.errors] {
        assert_eq!(secrets.found_in(&text), [""; 0]);
    }
}

#[test]
fn a_bad_qr_text_is_not_repeated() {
    let folder = Folder::with(1);
    for text in ["HO:SECRET-QR-TEXT-0123456789", "SECRET-QR-TEXT-WITHOUT-PREFIX"] {
        let mut secrets = Secrets::default();
        secrets.add("QR text", text);
        secrets.add("QR text", text.trim_start_matches("HO:"));
        let out = folder.text("received");
        let end = Process::start(&["new", "--json", "--out", &out, "--qr", text]).end();
        assert_eq!(end.code, Some(2));
        assert_eq!(secrets.found_in(&format!("{}\n{:?}", end.errors, end.events)), [""; 0]);
    }
}
