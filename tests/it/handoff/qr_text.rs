//! QR texts that are not what they should be: each is refused with a sentence of its own, before anything is sent.

use super::scene::{Folder, Tripwire, qr};
use crate::support::relay::Relay;

/// The bytes of a real QR code, that nobody uses up.
fn payload() -> Vec<u8> {
    let relay = Relay::start(&[]);
    let folder = Folder::with(1);
    let mut old = folder.old(&relay.url(), &[]);
    base45::decode(qr(&mut old).strip_prefix("HO:").unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    format!("HO:{}", base45::encode(bytes))
}

fn changed(payload: &[u8], at: usize, byte: u8) -> String {
    let mut bytes = payload.to_vec();
    bytes[at] = byte;
    text(&bytes)
}

#[test]
fn every_qr_text_that_cannot_be_followed_is_refused_with_its_own_sentence() {
    let payload = payload();
    let relay = Tripwire::new();
    let folder = Folder::with(0);
    let with_relay = |id: u8, name: &str| text(&[&payload[..84], &[id], name.as_bytes()].concat());
    let cases = [
        (String::new(), "this QR code is not a handoff code (those start with \"HO:\")"),
        ("https://example.org/HO:".to_owned(), "this QR code is not a handoff code (those start with \"HO:\")"),
        ("HO:abc".to_owned(), "the QR text has characters that do not belong there: scan or copy it again"),
        (text(&payload[..40]), "the QR text is cut short: scan or copy the whole of it"),
        ("HO:".to_owned() + &"0".repeat(3000), "the QR text is too long for a handoff code"),
        (changed(&payload, 0, 2), "the QR code has version 2, and this app knows only 1: update the app"),
        (changed(&payload, 1, 9), "the QR code asks for cipher suite 9, which this app does not know: update the app"),
        (changed(&payload, 2, 0x80), "the QR code has the unknown flags 0x80: update the app"),
        (changed(&payload, 3, 200), "the QR code has the frame number 200, which no session has: scan it again"),
        (with_relay(7, ""), "the QR code names relay number 7, which this app does not know: update the app"),
        (with_relay(0, "evil.example"), "the QR code names a relay host that this app's configuration does not allow"),
        (with_relay(0, "a/b"), "the QR code"),
    ];
    for (qr, sentence) in cases {
        let end = folder.scan(&relay.url(), &qr, &[]).end();
        end.expect_refusal(2, sentence);
        assert!(qr.len() < 10 || !end.errors.contains(&qr), "a QR text is a secret");
    }
    relay.expect_untouched();
    folder.expect_nothing();
}

#[test]
fn demands_that_this_app_cannot_meet_are_refused() {
    let payload = payload();
    let folder = Folder::with(0);
    let relay = Tripwire::new();
    for (flags, part) in [(1, "proximity"), (2, "mutual")] {
        let end = folder.scan(&relay.url(), &changed(&payload, 2, flags), &[]).end();
        end.expect_refusal(2, part);
    }
    relay.expect_untouched();
}
