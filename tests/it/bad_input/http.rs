//! Rows that do not get past the handshake.

use super::Answer::{Problem, Status};
use super::Attack::Request;
use super::Fate::None as Nobody;
use super::{Row, Scene};
use crate::support::messages::Transfer;
use crate::support::socket::Handshake;
use handoff_relay::protocol::Role::{New, Old};

const fn row(name: &'static str, request: fn(&Transfer) -> Vec<u8>, answer: super::Answer) -> Row {
    Row { name, scene: Scene::Nobody, attack: Request(request), answer, bystanders: Nobody }
}

fn old(t: &Transfer) -> Handshake {
    Handshake::new(&t.session, Old)
}

/// A right handshake to a wrong path.
fn to(target: &str) -> Vec<u8> {
    Handshake::to(target).bytes()
}

/// A right handshake for a wrong session id.
fn for_id(id: &str) -> Vec<u8> {
    to(&format!("/v1/sessions/{id}/old"))
}

pub(super) const ROWS: &[Row] = &[
    row("no upgrade", |t| old(t).without("Upgrade").bytes(), Problem(426, "upgrade-required")),
    row(
        "an upgrade to something else",
        |t| old(t).replacing("Upgrade", "h2c").bytes(),
        Problem(426, "upgrade-required"),
    ),
    row("no connection header", |t| old(t).without("Connection").bytes(), Problem(400, "bad-handshake")),
    row("no key", |t| old(t).without("Sec-WebSocket-Key").bytes(), Problem(400, "bad-handshake")),
    row("no version", |t| old(t).without("Sec-WebSocket-Version").bytes(), Problem(400, "bad-handshake")),
    row("version 12", |t| old(t).replacing("Sec-WebSocket-Version", "12").bytes(), Problem(400, "bad-handshake")),
    row("no subprotocol", |t| old(t).without("Sec-WebSocket-Protocol").bytes(), Problem(400, "subprotocol-missing")),
    row(
        "another subprotocol",
        |t| old(t).replacing("Sec-WebSocket-Protocol", "handoff.v2, chat").bytes(),
        Problem(400, "subprotocol-missing"),
    ),
    row(
        "the subprotocol in capitals",
        |t| old(t).replacing("Sec-WebSocket-Protocol", "HANDOFF.V1").bytes(),
        Problem(400, "subprotocol-missing"),
    ),
    row(
        "a foreign origin",
        |t| old(t).with("Origin", "https://evil.example").bytes(),
        Problem(403, "origin-not-allowed"),
    ),
    row("the null origin", |t| old(t).with("Origin", "null").bytes(), Problem(403, "origin-not-allowed")),
    row(
        "an origin that begins like an allowed one",
        |t| old(t).with("Origin", "https://app.example.evil.example").bytes(),
        Problem(403, "origin-not-allowed"),
    ),
    row(
        "a foreign origin behind an allowed one",
        |t| old(t).with("Origin", "https://app.example").with("Origin", "https://evil.example").bytes(),
        Problem(403, "origin-not-allowed"),
    ),
    row("POST", |t| Handshake { method: "POST".to_owned(), ..old(t) }.bytes(), Problem(405, "method-not-allowed")),
    row("HTTP/1.0", |t| Handshake { version: "HTTP/1.0".to_owned(), ..old(t) }.bytes(), Problem(400, "bad-handshake")),
    row("an unknown role", |t| to(&format!("/v1/sessions/{}/middle", t.session)), Problem(404, "not-found")),
    row("a role in capitals", |t| to(&format!("/v1/sessions/{}/OLD", t.session)), Problem(404, "not-found")),
    row("no role", |t| to(&format!("/v1/sessions/{}", t.session)), Problem(404, "not-found")),
    row("a path behind the role", |t| to(&format!("/v1/sessions/{}/old/more", t.session)), Problem(404, "not-found")),
    row(
        "an id in capitals",
        |t| for_id(&t.session.to_uppercase().replace(char::is_numeric, "A")),
        Problem(400, "bad-session-id"),
    ),
    row("an id without hyphens", |t| for_id(&t.session.replace('-', "")), Problem(400, "bad-session-id")),
    row("an id in braces", |t| for_id(&format!("%7B{}%7D", t.session)), Problem(400, "bad-session-id")),
    row("an id of version 1", |_| for_id("0f0e0d0c-0b0a-1908-8706-050403020100"), Problem(400, "bad-session-id")),
    row("an id of another variant", |_| for_id("0f0e0d0c-0b0a-4908-0706-050403020100"), Problem(400, "bad-session-id")),
    row("the nil id", |_| for_id("00000000-0000-0000-0000-000000000000"), Problem(400, "bad-session-id")),
    row("an id that is too long", |t| for_id(&t.session.repeat(100)), Problem(400, "bad-session-id")),
    row("an id that is text", |_| for_id("no-id-but-text"), Problem(400, "bad-session-id")),
    row("an id that is not UTF-8", |_| for_id("%ff%fe"), Problem(400, "bad-session-id")),
    row("an unknown path", |_| to("/admin"), Problem(404, "not-found")),
    row("path traversal", |_| to("/v1/sessions/../../etc/passwd"), Problem(404, "not-found")),
    row("path traversal, encoded", |_| to("/%2e%2e/%2e%2e/etc/passwd"), Problem(404, "not-found")),
    row(
        "DELETE of the metrics",
        |_| Handshake { method: "DELETE".to_owned(), ..Handshake::to("/metrics") }.bytes(),
        Problem(405, "method-not-allowed"),
    ),
    row("not HTTP", |_| b"\x00\x01\x02 garbage\r\n\r\n".to_vec(), Status(400)),
    row("a TLS hello", |_| [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 600]].concat(), Status(400)),
    row("two lengths", |t| old(t).with("Content-Length", "3").with("Content-Length", "4").bytes(), Status(400)),
    row(
        "a length and chunks",
        |t| old(t).with("Content-Length", "3").with("Transfer-Encoding", "chunked").bytes(),
        Status(400),
    ),
    row("a header without end", |t| old(t).with("X-Long", &"x".repeat(1 << 20)).bytes(), Status(431)),
    row(
        "thousands of headers",
        |t| (0..5000).fold(old(t), |request, number| request.with(&format!("X-{number}"), "x")).bytes(),
        Status(431),
    ),
    row("a line without end", |_| to(&format!("/{}", "x".repeat(1 << 20))), Status(431)),
    row(
        "a handshake of the new app to no role",
        |t| Handshake { target: format!("/v1/sessions/{}/{New}%00", t.session), ..old(t) }.bytes(),
        Problem(404, "not-found"),
    ),
];
