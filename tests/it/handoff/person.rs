//! What people do: mistype, give up, take photos, let others look over their shoulder, drop a phone.

use rustix::process::Signal;

use super::process::Process;
use super::scene::{Folder, check_code, finish, qr, qr_frame, unused_port};
use crate::support::relay::Relay;

/// Both phones, as far as the code is on the screen of the new one.
fn until_code(folder: &Folder, relay: &Relay) -> (Process, Process, String) {
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&relay.url(), &qr, &[]);
    let code = check_code(&mut old, &mut new);
    (old, new, code)
}

#[test]
fn a_wrong_code_ends_it_for_both() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let (mut old, new, code) = until_code(&folder, &relay);
    let wrong = if code == "1234" { "1235" } else { "1234" };
    old.type_line(wrong);
    old.end().expect_reason(1, "wrong_code");
    new.end().expect_reason(1, "wrong_code");
    folder.expect_nothing();
}

#[test]
fn a_slip_of_the_finger_is_no_try() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let (mut old, new, code) = until_code(&folder, &relay);
    for slip in ["", "12", "12345", "abcd"] {
        old.type_line(slip);
        old.until_error("try again");
    }
    let spaced: Vec<String> = code.chars().map(String::from).collect();
    old.type_line(&spaced.join(" "));
    let (old, new) = (old.end(), new.end());
    assert_eq!((old.code, new.code), (Some(0), Some(0)), "{old:?} {new:?}");
    folder.expect_received();
}

#[test]
fn a_code_that_nobody_can_type_cancels() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let (mut old, new, _) = until_code(&folder, &relay);
    old.close_stdin();
    let old = old.end();
    old.expect_reason(1, "cancelled");
    assert!(old.errors.contains("nobody can type the check code: standard input is closed"), "{old:?}");
    new.end().expect_reason(1, "cancelled_by_old");
    folder.expect_nothing();
}

#[test]
fn an_interrupt_on_one_phone_cancels_and_the_other_is_told() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let (old, new, _) = until_code(&folder, &relay);
    old.signal(Signal::INT);
    old.end().expect_reason(130, "cancelled");
    new.end().expect_reason(1, "cancelled_by_old");
    let (old, new, _) = until_code(&folder, &relay);
    new.signal(Signal::INT);
    new.end().expect_reason(130, "cancelled");
    old.end().expect_reason(1, "cancelled_by_new");
    folder.expect_nothing();
}

#[test]
fn an_interrupt_before_anybody_scanned_takes_the_picture_away_and_frees_the_session() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &["--qr-out", &folder.text("qr.png")]);
    let qr = qr(&mut old);
    old.signal(Signal::INT);
    old.end().expect_reason(130, "cancelled");
    folder.expect_nothing();
    let end = folder.scan(&relay.url(), &qr, &[]).end();
    end.expect_reason(1, "cancelled_by_old");
}

#[test]
fn an_interrupt_without_a_relay_is_heard_too() {
    let folder = Folder::with(100);
    let mut old = folder.old(&format!("ws://127.0.0.1:{}", unused_port()), &[]);
    old.until("offline");
    old.signal(Signal::INT);
    old.end().expect_reason(130, "cancelled");
}

#[test]
fn a_photo_older_than_ten_seconds_is_refused_and_the_current_frame_is_not() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &[]);
    let photo = qr_frame(&mut old, 0);
    let current = qr_frame(&mut old, 2);
    let end = folder.scan(&relay.url(), &photo, &[]).end();
    end.expect_reason(1, "stale_frame");
    assert_eq!(end.event("ended")["advice"], "The picture had changed. Scan the code that the old phone shows now.");
    assert_eq!(end.event("ended")["can_start_again"], true);
    folder.expect_nothing();
    finish(&folder, old, folder.scan(&relay.url(), &current, &[]));
}

#[test]
fn a_frame_may_have_changed_while_it_was_scanned() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &[]);
    let before = qr_frame(&mut old, 0);
    qr_frame(&mut old, 1);
    finish(&folder, old, folder.scan(&relay.url(), &before, &[]));
}

#[test]
fn a_second_scanner_ends_it_for_everybody() {
    let relay = Relay::start(&[]);
    let (folder, elsewhere) = (Folder::with(100), Folder::with(0));
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut one = folder.scan(&relay.url(), &qr, &[]);
    check_code(&mut old, &mut one);
    let two = elsewhere.scan(&relay.url(), &qr, &[]);
    for phone in [old, one, two] {
        phone.end().expect_reason(1, "scanned_twice");
    }
    folder.expect_nothing();
    elsewhere.expect_nothing();
}

#[test]
fn when_a_phone_dies_the_other_hears_that_it_is_gone() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(100);
    let (old, mut new, _) = until_code(&folder, &relay);
    old.signal(Signal::KILL);
    new.until("peer_offline");
    new.signal(Signal::INT);
    new.end().expect_reason(130, "cancelled");
    let (mut old, new, _) = until_code(&folder, &relay);
    new.signal(Signal::KILL);
    old.until("peer_offline");
    old.signal(Signal::INT);
    old.end().expect_reason(130, "cancelled");
}

#[test]
fn a_phone_that_does_not_come_back_ends_the_session_with_its_lifetime() {
    let relay = Relay::start(&["session.lifetime=6s"]);
    let folder = Folder::with(100);
    let mut old = folder.old(&relay.url(), &["--lifetime", "6"]);
    let qr = qr(&mut old);
    let mut new = folder.scan(&relay.url(), &qr, &[]);
    new.until("show_code");
    new.signal(Signal::KILL);
    let end = old.end();
    assert!(end.has("peer_offline"), "{end:?}");
    end.expect_reason(1, "expired");
}

#[test]
fn a_lifetime_that_is_not_the_relays_is_refused() {
    let relay = Relay::start(&["session.lifetime=60s"]);
    let folder = Folder::with(1);
    folder.old(&relay.url(), &[]).end().expect_reason(1, "bad_offer");
    for seconds in ["0", "181"] {
        let end = folder.old(&relay.url(), &["--lifetime", seconds]).end();
        end.expect_refusal(2, "the lifetime must be between one second and three minutes");
    }
}
