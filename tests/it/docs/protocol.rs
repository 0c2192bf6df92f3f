//! `docs/protocol.md`: its tables, its examples and its worked example.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;
use std::time::Duration;

use handoff_relay::protocol::close::{CloseReason, Scope};
use handoff_relay::protocol::frame::{FrameKind, Header};
use handoff_relay::protocol::ids::{JoinHash, JoinProof, ResumeHash, ResumeToken, SessionId};
use handoff_relay::protocol::message::{ClientMessage, ServerMessage};
use handoff_relay::protocol::qr::{Demands, FrameSecret, QrPayload, RelayRef, Suite};
use handoff_relay::protocol::{Role, SUBPROTOCOL, limits};
use hkdf::Hkdf;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{PROTOCOL, samples, table_after};

#[test]
fn the_table_of_close_reasons_is_the_one_in_the_code() {
    let code: Vec<Vec<String>> = CloseReason::ALL.iter().map(|reason| row(*reason)).collect();
    assert_eq!(table_after(PROTOCOL, "<!-- close reasons"), code);
}

fn row(reason: CloseReason) -> Vec<String> {
    let scope = match reason.scope() {
        Scope::Session => "session",
        Scope::Connection => "connection",
    };
    let retry = if reason.can_retry() { "yes" } else { "no" };
    [&reason.code().to_string(), reason.label(), scope, retry, reason.sentence()].map(str::to_owned).to_vec()
}

#[test]
fn the_table_of_limits_is_the_one_in_the_code() {
    let document: BTreeMap<String, String> = table_after(PROTOCOL, "<!-- limits")
        .into_iter()
        .map(|row| (row[0].clone(), format!("{} {}", row[1], row[2])))
        .collect();
    let source = include_str!("../../../src/protocol/limits.rs");
    let names: BTreeSet<&str> =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    assert_eq!(document.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);

    let ms = |value: Duration| format!("{} ms", value.as_millis());
    for (name, value) in [
        ("SESSION_LIFETIME", ms(limits::SESSION_LIFETIME)),
        ("FRAME_INTERVAL", ms(limits::FRAME_INTERVAL)),
        ("MIN_FRAME_INTERVAL", ms(limits::MIN_FRAME_INTERVAL)),
        ("FRAMES_ACCEPTED", format!("{} frames", limits::FRAMES_ACCEPTED)),
        ("MAX_FRAMES", format!("{} frames", limits::MAX_FRAMES)),
        ("MAX_FRAME_BYTES", format!("{} bytes", limits::MAX_FRAME_BYTES)),
        ("MAX_CONTROL_BYTES", format!("{} bytes", limits::MAX_CONTROL_BYTES)),
        ("MAX_DIRECTION_BYTES", format!("{} bytes", limits::MAX_DIRECTION_BYTES)),
        ("MAX_DIRECTION_FRAMES", format!("{} frames", limits::MAX_DIRECTION_FRAMES)),
        ("MAX_RESUMES", format!("{} resumes", limits::MAX_RESUMES)),
        ("MAX_CREDENTIAL_BYTES", format!("{} bytes", limits::MAX_CREDENTIAL_BYTES)),
        ("MAX_PUBLIC_KEY_BYTES", format!("{} bytes", limits::MAX_PUBLIC_KEY_BYTES)),
        ("MAX_TOKEN_BYTES", format!("{} bytes", limits::MAX_TOKEN_BYTES)),
        ("FIRST_MESSAGE_TIMEOUT", ms(limits::FIRST_MESSAGE_TIMEOUT)),
        ("PING_INTERVAL", ms(limits::PING_INTERVAL)),
        ("SILENCE_TIMEOUT", ms(limits::SILENCE_TIMEOUT)),
        ("TICK_INTERVAL", ms(limits::TICK_INTERVAL)),
        ("CLOSE_GRACE", ms(limits::CLOSE_GRACE)),
        ("TOMBSTONE_GRACE", ms(limits::TOMBSTONE_GRACE)),
        ("MAX_CONTROL_FRAMES", format!("{} frames", limits::MAX_CONTROL_FRAMES)),
        ("MAX_UNIDENTIFIED", format!("{} connections", limits::MAX_UNIDENTIFIED)),
        ("CHECK_CODE_TIMEOUT", ms(limits::CHECK_CODE_TIMEOUT)),
        ("MAX_RELAY_LITERAL_BYTES", format!("{} bytes", limits::MAX_RELAY_LITERAL_BYTES)),
    ] {
        assert_eq!(document.get(name), Some(&value), "{name}");
    }
}

#[test]
fn the_table_of_frame_types_is_the_one_in_the_code() {
    let document: Vec<u8> =
        table_after(PROTOCOL, "| 4 | 8 | seq |").iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(document, FrameKind::ALL.map(FrameKind::code));
    for (from, direction) in [(Role::Old, 1), (Role::New, 2)] {
        assert_eq!(Header { from, kind: FrameKind::Ack, seq: 0 }.encode()[1], direction);
    }
    assert!(PROTOCOL.contains(&format!("`{SUBPROTOCOL}`")));
}

#[test]
fn every_example_is_a_message_in_the_spelling_of_the_code() {
    for text in examples("app") {
        assert_eq!(ClientMessage::decode(text).unwrap_or_else(|error| panic!("{text}: {error}")).encode(), text);
    }
    for text in examples("relay") {
        assert_eq!(ServerMessage::decode(text).unwrap_or_else(|error| panic!("{text}: {error}")).encode(), text);
    }
}

#[test]
fn every_message_and_every_field_has_an_example() {
    assert_eq!(shapes(&parse(&examples("app"))), shapes(&samples::values(&samples::from_apps())));
    assert_eq!(shapes(&parse(&examples("relay"))), shapes(&samples::values(&samples::from_relay())));
}

#[test]
fn the_tables_of_messages_name_every_type_and_every_field() {
    for (heading, column, messages) in [
        ("### 8.1 From an app", 2, samples::values(&samples::from_apps())),
        ("### 8.2 From the relay", 2, samples::values(&samples::from_relay())),
    ] {
        let document: BTreeMap<String, BTreeSet<String>> = table_after(PROTOCOL, heading)
            .into_iter()
            .map(|row| (row[0].clone(), row[column].split(", ").map(|field| field.replace('?', "")).collect()))
            .collect();
        let code = messages.iter().map(|message| {
            let fields: BTreeSet<String> =
                message.as_object().unwrap().keys().filter(|key| *key != "type").cloned().collect();
            (type_of(message), if fields.is_empty() { BTreeSet::from(["none".to_owned()]) } else { fields })
        });
        assert_eq!(document, code.collect());
    }
}

#[test]
fn the_values_of_enumerations_are_in_their_tables() {
    let column = |heading: &str| table_after(PROTOCOL, heading).into_iter().map(|row| Value::String(row[0].clone()));
    assert_eq!(column("| `reason` | string | see below | why |\n").collect::<Vec<_>>(), samples::cancel_reasons());
    assert_eq!(column("### 8.3 The network verdict").collect::<Vec<_>>(), samples::networks());
    let quoted: Vec<String> =
        samples::countries().iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect();
    assert!(PROTOCOL.contains(&format!("| `country` | string | {} |", quoted.join(", "))));
}

#[test]
fn the_worked_example_is_what_the_definitions_give() {
    let example = worked_example();
    let bytes = |name: &str| unhex(&example[name]);
    let expand = |prk: &[u8], info: &[u8]| {
        let mut out = [0; 32];
        Hkdf::<Sha256>::from_prk(prk).unwrap().expand(info, &mut out).unwrap();
        out
    };

    let key = bytes("pk");
    let length = u16::try_from(key.len()).unwrap().to_be_bytes();
    let key_hash: [u8; 32] = Sha256::digest([b"handoff/1 pk".as_slice(), &length, &key].concat()).into();
    assert_eq!(key_hash.as_slice(), bytes("pk_hash"));

    let frame_secret = expand(&bytes("session_prk"), b"frame\x07");
    assert_eq!(frame_secret.as_slice(), bytes("frame_secret_7"));
    let (prk, _) = Hkdf::<Sha256>::extract(Some(b"handoff/1"), &frame_secret);
    assert_eq!(prk.as_slice(), bytes("prk_7"));
    let proof = JoinProof::new(expand(&prk, b"join"));
    assert_eq!(proof.as_bytes().as_slice(), bytes("join_7"));
    assert_eq!(JoinHash::of(&proof).as_bytes().as_slice(), bytes("join_hash_7"));
    assert_eq!(expand(&prk, b"psk\0").as_slice(), bytes("psk_7"));
    let nonce: Vec<u8> = (0..16).collect();
    assert_eq!(expand(&prk, &[b"psk\x10".as_slice(), &nonce].concat()).as_slice(), bytes("psk_7_prox"));

    let payload = QrPayload {
        suite: Suite::P256,
        demands: Demands::default(),
        frame: 7,
        session: SessionId::from_bytes(bytes("sid").try_into().unwrap()).unwrap(),
        frame_secret: FrameSecret::new(frame_secret),
        key_hash,
        relay: RelayRef::Listed(NonZeroU8::MIN),
    };
    assert_eq!(*payload.encode(), bytes("P_7"));
    assert_eq!(payload.to_text().as_str(), example["text_7"]);
    assert_eq!(QrPayload::from_text(&example["text_7"]), Ok(payload));
    let root = Sha256::digest(bytes("P_7"));
    assert_eq!(root.as_slice(), bytes("T_7"));
    assert_eq!([b"handoff/1 transfer\x01".as_slice(), &root].concat(), bytes("info"));
    assert_eq!([bytes("sid"), vec![7]].concat(), bytes("psk_id"));
}

#[test]
fn the_examples_of_messages_belong_to_the_worked_example() {
    let session_prk = unhex(&worked_example()["session_prk"]);
    let proof = |frame: u8| {
        let mut secret = [0; 32];
        Hkdf::<Sha256>::from_prk(&session_prk)
            .unwrap()
            .expand(&[b"frame".as_slice(), &[frame]].concat(), &mut secret)
            .unwrap();
        let mut proof = [0; 32];
        Hkdf::<Sha256>::new(Some(b"handoff/1"), &secret).expand(b"join", &mut proof).unwrap();
        JoinProof::new(proof)
    };
    let hash = |first: u8| {
        let mut token = [0; 32];
        token.iter_mut().zip(first..).for_each(|(to, from)| *to = from);
        ResumeHash::of(&ResumeToken::new(token))
    };
    for text in examples("app") {
        match ClientMessage::decode(text).unwrap() {
            ClientMessage::Open { join_hashes, resume_hash, interval_ms, .. } => {
                let frames = 180_000_u64.div_ceil(interval_ms);
                let expected: Vec<JoinHash> =
                    (0..u8::try_from(frames).unwrap()).map(|frame| JoinHash::of(&proof(frame))).collect();
                assert_eq!((join_hashes, resume_hash), (expected, hash(0x40)));
            }
            ClientMessage::Join { frame, proof: shown, resume_hash } => {
                assert_eq!((frame, shown, resume_hash), (1, proof(1), hash(0x60)));
            }
            ClientMessage::Resume { token } => assert_eq!(ResumeHash::of(&token), hash(0x40)),
            ClientMessage::Cancel { .. } | ClientMessage::Complete {} => {}
        }
    }
}

fn worked_example() -> BTreeMap<String, String> {
    let (_, appendix) = PROTOCOL.split_once("## Appendix A").unwrap();
    let block = appendix.split("```").nth(1).unwrap();
    let pairs = block.lines().filter_map(|line| line.split_once(" = "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap();
    text.as_bytes().chunks(2).map(|pair| (digit(&pair[0]) << 4) | digit(&pair[1])).collect()
}

/// The bodies of the JSON blocks of one sender.
fn examples(sender: &str) -> Vec<&'static str> {
    let fence = format!("```json {sender}\n");
    PROTOCOL.split(fence.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn parse(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

fn type_of(message: &Value) -> String {
    message["type"].as_str().unwrap().to_owned()
}

/// Every `type.field` that occurs, inner fields included.
fn shapes<T: Serialize>(messages: &[T]) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    for message in samples::values(messages) {
        for (field, value) in message.as_object().unwrap() {
            shapes.insert(format!("{}.{field}", type_of(&message)));
            for inner in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
                shapes.insert(format!("{}.{field}.{inner}", type_of(&message)));
            }
        }
    }
    shapes
}
