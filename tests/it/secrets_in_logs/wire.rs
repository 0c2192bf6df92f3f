//! Reads from a recorded connection what was secret in it: everything that the app has sent, but the few words that
//! every app says; and the payloads that the relay passed on.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handoff_relay::protocol::close::CloseReason;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::search::Secrets;
use crate::support::socket::{BINARY, TEXT};
use crate::support::tap::Recording;

/// Words of the protocol and of HTTP, which a log may hold.
const WORDS: &[&str] = &[
    "cancel",
    "complete",
    "resume",
    "opened",
    "joined",
    "resumed",
    "user",
    "verification_failed",
    "wrong_code",
    "code_timeout",
    "public_key",
    "join_hashes",
    "interval_ms",
    "resume_hash",
    "reason",
    "retry",
    "detail",
    "network",
    "country",
    "expires_in_ms",
    "peer_online",
    "peer_joined",
    "peer_offline",
    "retry_after_ms",
    "sessions",
    "metrics",
    "upgrade",
    "websocket",
    "DELETE",
];

/// What the relay itself makes up, for everybody to read.
const PUBLIC_FIELDS: [&str; 6] = ["type", "reason", "detail", "network", "country", "joined"];

pub(super) fn tell(recording: &Recording, secrets: &mut Secrets) {
    let (up, down) = (recording.up(), recording.down());
    let ((request, rest), (response, frames_down)) = (split_head(&up), split_head(&down));
    tell_request(request, secrets);
    if !response.starts_with(b"HTTP/1.1 101 ") {
        return add("body", rest, secrets);
    }
    for (opcode, payload) in frames(rest) {
        match (opcode, serde_json::from_slice(&payload)) {
            (TEXT, Ok(message @ Value::Object(_))) => {
                secrets.add("message", &payload[..payload.len().min(12)]);
                tell_value("message", "", &message, secrets);
            }
            _ => add(opcode_name(opcode), &payload, secrets),
        }
    }
    for (opcode, payload) in frames(frames_down) {
        match (opcode, serde_json::from_slice(&payload)) {
            (TEXT, Ok(Value::Object(message))) => {
                for (field, value) in message.iter().filter(|(field, _)| !PUBLIC_FIELDS.contains(&field.as_str())) {
                    tell_value("answer", field, value, secrets);
                }
            }
            (BINARY, _) => add("payload", &payload, secrets),
            _ => {}
        }
    }
}

fn opcode_name(opcode: u8) -> &'static str {
    match opcode {
        TEXT => "text",
        BINARY => "payload",
        _ => "other frame",
    }
}

/// Adds what is no word that a log may hold.
fn add(name: &str, secret: &[u8], secrets: &mut Secrets) {
    if !std::str::from_utf8(secret).is_ok_and(is_word) {
        secrets.add(name, secret);
    }
}

fn is_word(text: &str) -> bool {
    WORDS.contains(&text) || CloseReason::ALL.iter().any(|reason| reason.label() == text)
}

fn split_head(stream: &[u8]) -> (&[u8], &[u8]) {
    let end = stream.windows(4).position(|window| window == b"\r\n\r\n").map_or(stream.len(), |at| at + 4);
    stream.split_at(end)
}

/// Every part of the target, and every value of a header, of whatever was sent as a request; but the relay's own name.
fn tell_request(head: &[u8], secrets: &mut Secrets) {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for word in lines.next().unwrap_or_default().split(|byte| *byte == b' ') {
        for part in word.split(|byte| b"/?&=".contains(byte)).filter(|part| !part.starts_with(b"HTTP")) {
            add("part of a path", part, secrets);
            tell_session(part, secrets);
        }
    }
    for line in lines.filter(|line| !line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"))) {
        let value = line.iter().position(|byte| *byte == b':').map_or(line, |colon| &line[colon + 1..]);
        add("header", value.trim_ascii(), secrets);
        for part in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            add("part of a header", part, secrets);
            match std::str::from_utf8(part).ok().and_then(|text| text.parse().ok()) {
                Some(IpAddr::V4(address)) => secrets.add_address(address),
                Some(IpAddr::V6(address)) => secrets.add("address", address.octets()),
                None => {}
            }
        }
    }
}

fn tell_session(part: &[u8], secrets: &mut Secrets) {
    let Some(id) = std::str::from_utf8(part).ok().and_then(|text| text.parse::<uuid::Uuid>().ok()) else { return };
    secrets.add("session id", id.as_bytes());
    secrets.add("session id", id.hyphenated().to_string());
    secrets.add("session id in capitals", id.hyphenated().to_string().to_uppercase());
}

fn tell_value(kind: &str, field: &str, value: &Value, secrets: &mut Secrets) {
    match value {
        Value::String(text) => tell_text(&format!("{kind}.{field}"), text, secrets),
        Value::Array(items) => items.iter().for_each(|item| tell_value(kind, field, item, secrets)),
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str).unwrap_or(kind);
            for (field, value) in members {
                add("name of a field", field.as_bytes(), secrets);
                tell_value(kind, field, value, secrets);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As it was sent, as the bytes that it stands for, and as their hash. A token has three parts.
fn tell_text(name: &str, text: &str, secrets: &mut Secrets) {
    if is_word(text) {
        return;
    }
    secrets.add(name, text);
    for part in text.split('.') {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(part) else { continue };
        secrets.add(&format!("{name}, decoded"), &bytes);
        if bytes.len() == 32 {
            secrets.add(&format!("{name}, hashed"), Sha256::digest(&bytes));
        }
    }
}

/// Opcode and payload of every WebSocket frame, the last one as far as it came.
fn frames(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((opcode, payload, behind)) = frame(rest) {
        frames.push((opcode, payload));
        rest = behind;
    }
    frames
}

fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        length => (u64::from(length), rest),
    };
    let (mask, rest) = if second & 0x80 == 0 { (&[0; 4], rest) } else { rest.split_first_chunk()? };
    let length = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
    let (payload, rest) = rest.split_at(length);
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((first & 0x0f, payload, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::socket::{frame as masked, header};

    #[test]
    fn frames_are_read_masked_and_unmasked_short_and_long_and_cut() {
        let stream = [
            &masked(0x81, b"hello")[..],
            &[0x82, 126, 1, 0],
            &[7; 256],
            &header(0x82, 1 << 40),
            &[0x37 ^ b'c', 0xfa ^ b'u', 0x21 ^ b't'],
        ];
        let expected = [(TEXT, b"hello".to_vec()), (BINARY, vec![7; 256]), (BINARY, b"cut".to_vec())];
        assert_eq!(frames(&stream.concat()), expected);
    }
}
