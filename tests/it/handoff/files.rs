//! What goes in and what comes out: credentials of every size, files that cannot be used, the ways to the QR code.

use std::process::Command;

use super::process::Process;
use super::scene::{Folder, Tripwire, finish, hand_over, metric, qr, qr_frame, write};
use crate::support::relay::Relay;

const KIB: usize = 1024;

#[test]
fn credentials_of_every_size_arrive_byte_for_byte_with_both_suites() {
    let relay = Relay::start(&[]);
    for suite in ["p256", "mlkem768-p256"] {
        for bytes in [0, 1, 4 * KIB, 256 * KIB] {
            hand_over(&Folder::with(bytes), &relay.url(), &["--suite", suite]);
        }
    }
    assert!((metric(&relay, "handoff_sessions_ended_total{reason=\"completed\"}") - 8.0).abs() < 0.5);
}

#[test]
fn one_byte_more_than_256_kib_is_refused_before_anything_is_sent() {
    let relay = Tripwire::new();
    let folder = Folder::with(256 * KIB + 1);
    let end = folder.old(&relay.url(), &[]).end();
    end.expect_refusal(66, "credential is too large: a credential may have at most 262144 bytes");
    relay.expect_untouched();
}

#[test]
fn a_credential_that_cannot_be_read_is_named_before_anything_is_sent() {
    let relay = Tripwire::new();
    let folder = Folder::with(1);
    let missing = folder.text("no-such-file");
    let directory = folder.text("");
    // Of these bytes not even root may read the first.
    for (path, problem) in [
        (missing.as_str(), "No such file"),
        (&directory, "Is a directory"),
        ("/proc/self/mem", "Input/output error"),
        ("/dev/zero", "too large"),
    ] {
        let end = Process::start(&["old", "--json", "--credential", path, "--relay", &relay.url()]).end();
        end.expect_refusal(66, path);
        end.expect_refusal(66, problem);
    }
    relay.expect_untouched();
}

#[test]
fn a_file_that_exists_is_not_replaced_and_that_is_known_before_the_handoff() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    write(&folder.path("received"), "precious");
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let end = folder.scan(&relay.url(), &qr, &[]).end();
    end.expect_refusal(66, "received exists; say --force to replace it");
    assert_eq!(std::fs::read(folder.path("received")).unwrap(), b"precious");
    // The invitation was not used up.
    finish(&folder, old, folder.scan(&relay.url(), &qr, &["--force"]));
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_the_handoff() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    for out in [&folder.text("no/such/folder/id"), "/proc/id", "/dev/full/id"] {
        let end = Process::start(&["new", "--json", "--qr", &qr, "--out", out, "--relay", &relay.url()]).end();
        end.expect_refusal(66, &format!("cannot write {out}: "));
    }
    finish(&folder, old, folder.scan(&relay.url(), &qr, &[]));
}

/// The limit on file sizes stands for the full disk, which not everybody may make.
#[test]
fn a_disk_without_room_for_the_largest_credential_is_noticed_before_the_handoff() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_handoff")]);
    limited.args(["new", "--json", "--qr", &qr, "--out", &folder.text("received"), "--relay", &relay.url()]);
    let end = Process::start_as(limited).end();
    end.expect_refusal(66, "received: File too large");
    folder.expect_nothing();
    finish(&folder, old, folder.scan(&relay.url(), &qr, &[]));
}

#[test]
fn a_static_code_is_one_for_the_whole_session() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    let mut old = folder.old(&relay.url(), &["--static-qr"]);
    let shown = old.until("qr_shown");
    assert!(shown["next_in_ms"].as_u64().unwrap() > 170_000, "{shown}");
    let qr = shown["text"].as_str().unwrap();
    finish(&folder, old, folder.scan(&relay.url(), qr, &[]));
}

#[test]
fn a_relay_that_allows_no_static_code_says_so() {
    let relay = Relay::start(&["session.frame_intervals=5s"]);
    let folder = Folder::with(KIB);
    folder.old(&relay.url(), &["--static-qr"]).end().expect_reason(1, "bad_offer");
}

#[test]
fn the_picture_is_rewritten_with_every_frame_and_taken_away_when_it_was_scanned() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    let picture = folder.path("qr.png");
    let mut old = folder.old(&relay.url(), &["--qr-out", &folder.text("qr.png")]);
    qr_frame(&mut old, 0);
    let first = std::fs::read(&picture).unwrap();
    qr_frame(&mut old, 1);
    assert_ne!(std::fs::read(&picture).unwrap(), first);
    let mut new = folder.scan_with(&relay.url(), &["--qr-image", &folder.text("qr.png")]);
    new.until("joined");
    assert_eq!(old.until("peer_joined")["frame"], 1);
    assert!(!picture.exists(), "a used code could still be scanned");
    finish(&folder, old, new);
}

#[test]
fn the_text_can_come_from_standard_input() {
    let relay = Relay::start(&[]);
    let folder = Folder::with(KIB);
    let mut old = folder.old(&relay.url(), &[]);
    let qr = qr(&mut old);
    let mut new = folder.scan_with(&relay.url(), &[]);
    new.type_line(&qr);
    new.close_stdin();
    finish(&folder, old, new);
}

#[test]
fn a_picture_without_a_code_is_a_usage_error_and_a_missing_one_a_file_error() {
    let relay = Tripwire::new();
    let folder = Folder::with(1);
    let picture = write(&folder.path("qr.png"), "no picture at all");
    let end = folder.scan_with(&relay.url(), &["--qr-image", &picture]).end();
    end.expect_refusal(2, "qr.png: this is not a PNG or JPEG picture");
    let end = folder.scan_with(&relay.url(), &["--qr-image", &folder.text("none.png")]).end();
    end.expect_refusal(66, "none.png: No such file");
    let end = folder.old(&relay.url(), &["--qr-out", &folder.text("qr.gif")]).end();
    end.expect_refusal(2, "--qr-out must end in .png or .svg");
    relay.expect_untouched();
}
