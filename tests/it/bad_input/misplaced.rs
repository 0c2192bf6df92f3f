//! Rows with secrets where they do not belong: whoever puts one there must not read it in a log.

use handoff_relay::protocol::Role::{New, Old};
use handoff_relay::protocol::close::CloseReason::{self, MalformedMessage, TooLarge, UnexpectedData};
use serde_json::{Value, json};

use super::Answer::{Close, Problem, Status};
use super::Attack::{Request, Stranger};
use super::Fate::None as Nobody;
use super::{Answer, Row, Scene};
use crate::support::messages::{Transfer, base64url, changed};
use crate::support::socket::{Handshake, binary, text};

type Bytes = fn(&Transfer) -> Vec<u8>;

const fn request(name: &'static str, bytes: Bytes, answer: Answer) -> Row {
    Row { name, scene: Scene::Nobody, attack: Request(bytes), answer, bystanders: Nobody }
}

const fn message(name: &'static str, bytes: Bytes, reason: CloseReason) -> Row {
    Row { name, scene: Scene::Nobody, attack: Stranger(New, bytes), answer: Close(reason), bystanders: Nobody }
}

fn secret(t: &Transfer) -> String {
    base64url(&t.old_token)
}

fn old(t: &Transfer) -> Handshake {
    Handshake::new(&t.session, Old)
}

fn with(t: &Transfer, header: &str) -> Vec<u8> {
    old(t).with(header, &secret(t)).bytes()
}

fn instead_of(t: &Transfer, header: &str) -> Vec<u8> {
    old(t).replacing(header, &secret(t)).bytes()
}

fn to(target: &str) -> Vec<u8> {
    Handshake::to(target).bytes()
}

fn say(message: &Value) -> Vec<u8> {
    text(&message.to_string())
}

pub(super) const ROWS: &[Row] = &[
    request(
        "a secret as bearer token, without an upgrade",
        |t| old(t).without("Upgrade").with("Authorization", &format!("Bearer {}", secret(t))).bytes(),
        Problem(426, "upgrade-required"),
    ),
    request(
        "a secret as subprotocol",
        |t| instead_of(t, "Sec-WebSocket-Protocol"),
        Problem(400, "subprotocol-missing"),
    ),
    request("a secret as version", |t| instead_of(t, "Sec-WebSocket-Version"), Problem(400, "bad-handshake")),
    request("a secret as upgrade", |t| instead_of(t, "Upgrade"), Problem(426, "upgrade-required")),
    request("a secret as connection", |t| instead_of(t, "Connection"), Problem(400, "bad-handshake")),
    request(
        "a secret as origin",
        |t| old(t).with("Origin", &format!("https://{}.example", secret(t))).bytes(),
        Problem(403, "origin-not-allowed"),
    ),
    request("a secret as length", |t| with(t, "Content-Length"), Status(400)),
    request("a secret as encoding", |t| with(t, "Transfer-Encoding"), Status(400)),
    request(
        "a secret in a header that is none",
        |t| old(t).with("X", &format!("{}\u{1}", secret(t))).bytes(),
        Status(400),
    ),
    request("a secret as name of a header", |t| old(t).with(&format!("{} ", secret(t)), "x").bytes(), Status(400)),
    request(
        "a secret in a header that is too long",
        |t| old(t).with("Cookie", &secret(t).repeat(10_000)).bytes(),
        Status(431),
    ),
    request(
        "a secret in an unknown path",
        |t| to(&format!("/{}?token={}", t.session, secret(t))),
        Problem(404, "not-found"),
    ),
    request(
        "a secret as session id",
        |t| to(&format!("/v1/sessions/{}/old", secret(t))),
        Problem(400, "bad-session-id"),
    ),
    request(
        "a secret as role",
        |t| to(&format!("/v1/sessions/{}/{}", t.session, secret(t))),
        Problem(404, "not-found"),
    ),
    request(
        "a secret behind a wrong session id",
        |t| to(&format!("/v1/sessions/{}-/old?token={}", t.session, secret(t))),
        Problem(400, "bad-session-id"),
    ),
    request(
        "a secret as method",
        |t| Handshake { method: secret(t), ..old(t) }.bytes(),
        Problem(405, "method-not-allowed"),
    ),
    request(
        "a secret as version of HTTP",
        |t| Handshake { version: format!("HTTP/{}", secret(t)), ..old(t) }.bytes(),
        Status(400),
    ),
    request("a secret instead of a request", |t| format!("{}\r\n\r\n", secret(t)).into_bytes(), Status(400)),
    message("a secret instead of a message", |t| text(&secret(t)), MalformedMessage),
    message("a secret as type", |t| say(&json!({"type": secret(t)})), MalformedMessage),
    message("a secret as reason", |t| say(&json!({"type": "cancel", "reason": secret(t)})), MalformedMessage),
    message("a secret as name of a field", |t| say(&json!({"type": "complete", secret(t): 1})), MalformedMessage),
    message("a secret as frame", |t| say(&changed(t.join(0), "frame", secret(t))), MalformedMessage),
    message(
        "a secret as proof of another length",
        |t| say(&changed(t.join(0), "proof", secret(t).repeat(2))),
        MalformedMessage,
    ),
    message("a secret that is cut off", |t| text(&t.resume(Old).to_string()[..50]), MalformedMessage),
    message(
        "a secret in a message that is too large",
        |t| say(&changed(t.resume(Old), "more", secret(t).repeat(500))),
        TooLarge,
    ),
    message("a secret as data before joining", |t| binary(&t.old_token), UnexpectedData),
];
