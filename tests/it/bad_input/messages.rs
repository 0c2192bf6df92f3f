//! Rows of control messages and data: malformed, at the wrong time, from the wrong role, with wrong secrets.

use handoff_relay::protocol::Role::{self, New, Old};
use handoff_relay::protocol::close::CloseReason::{
    AlreadyOpen, BadJoinProof, BadOffer, CancelledByOld, Completed, MalformedMessage, NothingToResume, ScannedTwice,
    StaleFrame, TooLarge, UnexpectedData, UnexpectedMessage, UnknownSession,
};
use serde_json::{Value, json};

use super::Answer::Close;
use super::Attack::{Insider, Stranger};
use super::Fate::{Hear, None as Nobody, Survive};
use super::Scene::{self, Cancelled, Joined, Waiting};
use super::{Fate, Row};
use crate::support::messages::{Transfer, base64url, cancel, changed, complete, without};
use crate::support::socket::{binary, text};

type Bytes = fn(&Transfer) -> Vec<u8>;
type Reason = handoff_relay::protocol::close::CloseReason;

const fn stranger(name: &'static str, scene: Scene, role: Role, bytes: Bytes, reason: Reason, fate: Fate) -> Row {
    Row { name, scene, attack: Stranger(role, bytes), answer: Close(reason), bystanders: fate }
}

const fn insider(name: &'static str, scene: Scene, role: Role, bytes: Bytes, reason: Reason) -> Row {
    Row { name, scene, attack: Insider(role, bytes), answer: Close(reason), bystanders: Survive }
}

/// A first message that is no message; who sends it where makes no difference.
const fn malformed(name: &'static str, bytes: Bytes) -> Row {
    Row {
        name,
        scene: Scene::Nobody,
        attack: Stranger(Old, bytes),
        answer: Close(MalformedMessage),
        bystanders: Nobody,
    }
}

const fn bad_offer(name: &'static str, bytes: Bytes) -> Row {
    Row { name, scene: Scene::Nobody, attack: Stranger(Old, bytes), answer: Close(BadOffer), bystanders: Nobody }
}

fn say(message: &Value) -> Vec<u8> {
    text(&message.to_string())
}

/// An `open` with one field changed.
fn open_with(t: &Transfer, field: &str, value: impl Into<Value>) -> Vec<u8> {
    say(&changed(t.open(), field, value))
}

/// A `join` of frame 0 with one field changed.
fn join_with(t: &Transfer, field: &str, value: impl Into<Value>) -> Vec<u8> {
    say(&changed(t.join(0), field, value))
}

/// An `open` with this many join hashes.
fn open_with_hashes(t: &Transfer, count: usize) -> Vec<u8> {
    open_with(t, "join_hashes", vec![base64url(&[7; 16]); count])
}

/// An `open` for a session that lasts `frames` times `interval_ms`.
fn open_with_interval(t: &Transfer, interval_ms: u64, frames: usize) -> Vec<u8> {
    let open = changed(t.open(), "join_hashes", vec![base64url(&[7; 16]); frames]);
    say(&changed(open, "interval_ms", interval_ms))
}

pub(super) const BEFORE_JOINING: &[Row] = &[
    stranger("data before opening", Scene::Nobody, Old, |_| binary(b"data of an app"), UnexpectedData, Nobody),
    stranger("data before joining", Waiting, New, |_| binary(b"data of an app"), UnexpectedData, Survive),
    stranger("garbage data before joining", Joined, New, |_| binary(&[0xa5; 60_000]), UnexpectedData, Survive),
    insider("data while old waits", Waiting, Old, |_| binary(b"data of an app"), UnexpectedData),
    stranger("a join by the old app", Waiting, Old, |t| say(&t.join(0)), UnexpectedMessage, Survive),
    stranger("an open by the new app", Scene::Nobody, New, |t| say(&t.open()), UnexpectedMessage, Nobody),
    stranger("a cancel before opening", Scene::Nobody, Old, |_| say(&cancel("user")), UnexpectedMessage, Nobody),
    stranger("a cancel by a stranger", Joined, New, |_| say(&cancel("user")), UnexpectedMessage, Survive),
    stranger("a complete by a stranger", Joined, Old, |_| say(&complete()), UnexpectedMessage, Survive),
    stranger(
        "an open for an id in use",
        Waiting,
        Old,
        |t| say(&Transfer { session: t.session.clone(), ..Transfer::usual() }.open()),
        AlreadyOpen,
        Survive,
    ),
    stranger("an open after the join", Joined, Old, |t| say(&t.open()), AlreadyOpen, Survive),
    stranger("an open after the end", Scene::Completed, Old, |t| say(&t.open()), Completed, Nobody),
    stranger("a join of an unknown session", Scene::Nobody, New, |t| say(&t.join(0)), UnknownSession, Nobody),
    stranger("a join after completing", Scene::Completed, New, |t| say(&t.join(0)), Completed, Nobody),
    stranger("a join after cancelling", Cancelled, New, |t| say(&t.join(0)), CancelledByOld, Nobody),
    stranger("a resume after completing", Scene::Completed, New, |t| say(&t.resume(New)), Completed, Nobody),
    stranger("a wrong join proof", Waiting, New, |t| join_with(t, "proof", base64url(&[7; 32])), BadJoinProof, Survive),
    stranger("the proof of another frame", Waiting, New, |t| join_with(t, "frame", 1), BadJoinProof, Survive),
    stranger(
        "a frame that the session does not have",
        Waiting,
        New,
        |t| join_with(t, "frame", 36),
        BadJoinProof,
        Survive,
    ),
    stranger(
        "a wrong join proof after the join",
        Joined,
        New,
        |t| join_with(t, "proof", base64url(&[7; 32])),
        BadJoinProof,
        Survive,
    ),
    stranger("a frame of the future", Waiting, New, |t| say(&t.join(35)), StaleFrame, Survive),
    stranger("a second join", Joined, New, |t| say(&t.join_of_another(0)), ScannedTwice, Hear(ScannedTwice)),
    stranger(
        "a second join of a frame of the future",
        Joined,
        New,
        |t| say(&t.join_of_another(35)),
        StaleFrame,
        Survive,
    ),
    stranger("a resume of an unknown session", Scene::Nobody, Old, |t| say(&t.resume(Old)), NothingToResume, Nobody),
    stranger(
        "a resume with an unknown token",
        Joined,
        Old,
        |_| say(&json!({"type": "resume", "token": base64url(&[7; 32])})),
        NothingToResume,
        Survive,
    ),
    stranger(
        "the old app's token for the new one's seat",
        Joined,
        New,
        |t| say(&t.resume(Old)),
        NothingToResume,
        Survive,
    ),
    stranger(
        "the new app's token for the old one's seat",
        Joined,
        Old,
        |t| say(&t.resume(New)),
        NothingToResume,
        Survive,
    ),
    stranger(
        "a resume of a new app that has not joined",
        Waiting,
        New,
        |t| say(&t.resume(New)),
        NothingToResume,
        Survive,
    ),
];

pub(super) const IN_A_SESSION: &[Row] = &[
    insider("a second open on one connection", Waiting, Old, |t| say(&t.open()), UnexpectedMessage),
    insider("a second join on one connection", Joined, New, |t| say(&t.join(0)), UnexpectedMessage),
    insider("a resume on a connection that has opened", Waiting, Old, |t| say(&t.resume(Old)), UnexpectedMessage),
    insider("a resume on a connection that has joined", Joined, New, |t| say(&t.resume(New)), UnexpectedMessage),
    insider("a complete before the join", Waiting, Old, |_| say(&complete()), UnexpectedMessage),
    insider("a complete by the new app", Joined, New, |_| say(&complete()), UnexpectedMessage),
    insider("an open by the new app in a session", Joined, New, |t| say(&t.open()), UnexpectedMessage),
    insider("a join by the old app in a session", Joined, Old, |t| say(&t.join(0)), UnexpectedMessage),
    insider("a cancel without a known reason", Joined, New, |_| say(&cancel("boredom")), MalformedMessage),
    insider(
        "a message of the relay's own",
        Joined,
        Old,
        |_| say(&json!({"type": "ended", "reason": "completed"})),
        MalformedMessage,
    ),
    insider("text that is no JSON, in a session", Joined, Old, |_| text("complete"), MalformedMessage),
];

pub(super) const MALFORMED: &[Row] = &[
    malformed("empty text", |_| text("")),
    malformed("text that is no JSON", |_| text("hello, relay")),
    malformed("a NUL character", |_| text("\0")),
    malformed("null", |_| text("null")),
    malformed("an array", |_| text("[]")),
    malformed("an object without a type", |_| text("{}")),
    malformed("an unknown type", |_| text(r#"{"type":"nonsense"}"#)),
    malformed("a type that is no text", |_| text(r#"{"type":7}"#)),
    malformed("a type in capitals", |t| open_with(t, "type", "OPEN")),
    malformed("a type twice", |_| text(r#"{"type":"complete","type":"complete"}"#)),
    malformed("a field twice", |t| text(&t.resume(Old).to_string().replace("\"type\"", "\"token\":\"\",\"type\""))),
    malformed("an unknown field", |t| open_with(t, "weather", "fine")),
    malformed("a missing field", |t| say(&without(t.open(), "resume_hash"))),
    malformed("a field that is null", |t| open_with(t, "public_key", Value::Null)),
    malformed("deep JSON", |_| text(&format!("{}{}", "[".repeat(8000), "]".repeat(8000)))),
    malformed("deep JSON in a field", |t| {
        text(&t.open().to_string().replace("5000", &format!("{}{}", "[".repeat(4000), "]".repeat(4000))))
    }),
    malformed("text after the object", |t| text(&format!("{} x", t.open()))),
    malformed("two objects", |t| text(&t.open().to_string().repeat(2))),
    malformed("a byte order mark", |t| text(&format!("\u{feff}{}", t.open()))),
    malformed("half an object", |t| text(&t.open().to_string()[..500])),
    malformed("an interval that is negative", |t| open_with(t, "interval_ms", -5000)),
    malformed("an interval that is a fraction", |t| open_with(t, "interval_ms", 5000.5)),
    malformed("an interval that is written as a fraction", |t| open_with(t, "interval_ms", 5000.0)),
    malformed("an interval with an exponent", |t| text(&t.open().to_string().replace("5000", "5e3"))),
    malformed("an interval that is text", |t| open_with(t, "interval_ms", "5000")),
    malformed("an interval of more than 64 bits", |t| {
        text(&t.open().to_string().replace("5000", "18446744073709551616"))
    }),
    malformed("an empty public key", |t| open_with(t, "public_key", "")),
    malformed("a public key of 2049 bytes", |t| open_with(t, "public_key", base64url(&[7; 2049]))),
    malformed("base64 with padding", |t| open_with(t, "resume_hash", format!("{}=", base64url(&[7; 32])))),
    malformed("base64 in the other alphabet", |t| {
        open_with(t, "resume_hash", base64url(&[0xff; 32]).replace('_', "/"))
    }),
    malformed("base64 of 31 bytes", |t| open_with(t, "resume_hash", base64url(&[7; 31]))),
    malformed("base64 of 33 bytes", |t| open_with(t, "resume_hash", base64url(&[7; 33]))),
    malformed("base64 with bits left over", |t| open_with(t, "resume_hash", format!("{}B", "A".repeat(42)))),
    malformed("base64 with white space", |t| open_with(t, "resume_hash", format!("{} ", base64url(&[7; 32])))),
    malformed("a join hash of 15 bytes", |t| open_with(t, "join_hashes", vec![base64url(&[7; 15]); 36])),
    malformed("join hashes that are no array", |t| open_with(t, "join_hashes", base64url(&[7; 16]))),
    malformed("an empty token", |t| open_with(t, "token", "")),
    malformed("a token of 4097 bytes", |t| open_with(t, "token", "x".repeat(4097))),
    malformed("a frame above 255", |t| join_with(t, "frame", 256)),
    malformed("a frame below 0", |t| join_with(t, "frame", -1)),
    malformed("a frame that is a fraction", |t| join_with(t, "frame", 1.0)),
    malformed("a proof of 16 bytes", |t| join_with(t, "proof", base64url(&[7; 16]))),
    malformed("a token that is a number", |_| text(r#"{"type":"resume","token":5}"#)),
    malformed("a cancel without a reason", |_| text(r#"{"type":"cancel"}"#)),
    malformed("a complete with a field", |_| text(r#"{"type":"complete","extra":1}"#)),
    bad_offer("more than 180 join hashes", |t| open_with_hashes(t, 181)),
    bad_offer("no join hash at all", |t| open_with_hashes(t, 0)),
    stranger(
        "a valid message with 16 KiB of white space",
        Scene::Nobody,
        Old,
        |t| [crate::support::socket::header(0x81, 17_000), vec![b' '; 17_000], say(&t.open())].concat(),
        TooLarge,
        Nobody,
    ),
    bad_offer("one join hash too few", |t| open_with_hashes(t, 35)),
    bad_offer("one join hash too many", |t| open_with_hashes(t, 37)),
    bad_offer("an interval that the relay does not allow", |t| open_with_interval(t, 10_000, 18)),
    bad_offer("an interval that is too long", |t| open_with_interval(t, 180_001, 1)),
    bad_offer("an interval of more than any time", |t| open_with_interval(t, u64::MAX, 1)),
    bad_offer("an interval of zero", |t| open_with_interval(t, 0, 1)),
    bad_offer("an interval below a second", |t| open_with_interval(t, 999, 180)),
];
