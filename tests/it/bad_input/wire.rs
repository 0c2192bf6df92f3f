//! Rows that break the rules of WebSocket (RFC 6455), or the few that the protocol adds to them.

use handoff_relay::protocol::Role::{New, Old};
use handoff_relay::protocol::close::CloseReason::{Flooding, Fragmented, ProtocolError, TooLarge, UnexpectedData};

use super::Answer::Close;
use super::Attack::{Insider, Stranger};
use super::Fate::Survive;
use super::Row;
use super::Scene::{Joined, Waiting};
use crate::support::messages::{Transfer, complete};
use crate::support::socket::{BINARY, CLOSE, PING, PONG, TEXT, binary, frame, header, text};

/// Whole frames: FIN is set.
const FIN: u8 = 0x80;

type Bytes = fn(&Transfer) -> Vec<u8>;
type Reason = handoff_relay::protocol::close::CloseReason;

/// A stranger who has said nothing yet breaks a rule; the two apps do not notice.
const fn stranger(name: &'static str, bytes: Bytes, reason: Reason) -> Row {
    Row { name, scene: Joined, attack: Stranger(New, bytes), answer: Close(reason), bystanders: Survive }
}

/// An app in the session breaks a rule; it may come back, and the session goes on.
const fn insider(name: &'static str, bytes: Bytes, reason: Reason) -> Row {
    Row { name, scene: Joined, attack: Insider(Old, bytes), answer: Close(reason), bystanders: Survive }
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(payload.len()).unwrap()], payload].concat()
}

pub(super) const ROWS: &[Row] = &[
    stranger("an unmasked frame", |_| unmasked(FIN | TEXT, b"{}"), ProtocolError),
    insider("an unmasked frame in a session", |_| unmasked(FIN | BINARY, b"data of an app"), ProtocolError),
    stranger("reserved bit 1", |_| frame(FIN | 0x40 | TEXT, b"{}"), ProtocolError),
    stranger("reserved bit 2", |_| frame(FIN | 0x20 | TEXT, b"{}"), ProtocolError),
    insider("reserved bit 3", |_| frame(FIN | 0x10 | BINARY, b"{}"), ProtocolError),
    stranger("an unknown data opcode", |_| frame(FIN | 0x3, b"?"), ProtocolError),
    insider("an unknown control opcode", |_| frame(FIN | 0xb, b"?"), ProtocolError),
    stranger("a long ping", |_| frame(FIN | PING, &[0; 126]), ProtocolError),
    stranger("a fragmented ping", |_| frame(PING, b"?"), ProtocolError),
    insider("a long close frame", |_| frame(FIN | CLOSE, &[3; 126]), ProtocolError),
    stranger("a short length in the 16-bit form", |_| [FIN | BINARY, 0xfe, 0, 5].to_vec(), ProtocolError),
    stranger(
        "a short length in the 64-bit form",
        |_| [&[FIN | BINARY, 0xff][..], &[0; 7], &[5]].concat(),
        ProtocolError,
    ),
    insider("a length of 2^64 - 1", |_| [&[FIN | BINARY, 0xff][..], &[0xff; 8]].concat(), TooLarge),
    stranger("text that is not UTF-8", |_| frame(FIN | TEXT, b"{\"type\":\"\xff\"}"), ProtocolError),
    insider("text with half a surrogate pair", |_| frame(FIN | TEXT, b"\"\xed\xa0\x80\""), ProtocolError),
    stranger("a close frame of one byte", |_| frame(FIN | CLOSE, &[3]), ProtocolError),
    stranger("a close frame whose text is not UTF-8", |_| frame(FIN | CLOSE, b"\x03\xe8\xff\xfe"), ProtocolError),
    stranger("a close frame with a code that is no code", |_| frame(FIN | CLOSE, &5_u16.to_be_bytes()), ProtocolError),
    stranger("a first fragment of text", |_| frame(TEXT, b"{\"type\":"), Fragmented),
    insider("a first fragment of data", |_| frame(BINARY, b"data of an app"), Fragmented),
    stranger("a continuation of nothing", |_| frame(FIN, b"more"), Fragmented),
    insider(
        "fragments without end",
        |_| {
            [frame(BINARY, b"data of an app")]
                .into_iter()
                .chain((0..10_000).map(|_| frame(0, b"more")))
                .flatten()
                .collect()
        },
        Fragmented,
    ),
    insider("a data frame that is announced as one byte too large", |_| header(FIN | BINARY, 65_537), TooLarge),
    stranger("a data frame of gigabytes that is announced before joining", |_| header(FIN | BINARY, 5 << 30), TooLarge),
    insider("a text that is announced as one byte too large", |_| header(FIN | TEXT, 16_385), TooLarge),
    stranger("a text as large as a data frame may be", |_| header(FIN | TEXT, 65_536), TooLarge),
    insider("257 pings", |_| frame(FIN | PING, b"?").repeat(257), Flooding),
    insider("257 pongs", |_| frame(FIN | PONG, b"").repeat(257), Flooding),
    stranger("257 pings from somebody who says nothing", |_| frame(FIN | PING, b"").repeat(257), Flooding),
    stranger("an empty binary message before joining", |_| binary(b""), UnexpectedData),
    insider(
        "pings, pongs and empty messages together",
        |_| [frame(FIN | PING, b"?").repeat(118), frame(FIN | PONG, b"?").repeat(118), binary(b"").repeat(21)].concat(),
        Flooding,
    ),
    Row {
        name: "data after a violation",
        scene: Joined,
        attack: Insider(Old, |_| {
            [frame(BINARY, b"half of it"), binary(b"data of an app"), text(&complete().to_string())].concat()
        }),
        answer: Close(Fragmented),
        bystanders: Survive,
    },
    Row {
        name: "garbage at the place of a frame",
        scene: Waiting,
        attack: Insider(Old, |_| b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        answer: Close(ProtocolError),
        bystanders: Survive,
    },
];
