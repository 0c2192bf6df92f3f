//! Control messages: JSON text frames between one app and the relay.
//!
//! The relay refuses what it does not know (unknown types and fields, duplicate keys); apps ignore unknown fields
//! from the relay, and unknown types too, so that the relay can learn new ones first.

use serde::{Deserialize, Serialize};

use super::close::CloseReason;
use super::ids::{JoinHash, JoinProof, OpenToken, PublishedKey, ResumeHash, ResumeToken};
use super::limits;
use super::network::{Country, Network, Verdict};

/// What an app sends to the relay. The first message is `open`, `join` or `resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Old: opens the session named in the path.
    Open {
        /// The key that the new app encapsulates to.
        public_key: PublishedKey,
        /// One hash for each QR frame, in order.
        join_hashes: Vec<JoinHash>,
        /// How long each frame is shown, in milliseconds.
        interval_ms: u64,
        /// SHA-256 of the old app's own resume token.
        resume_hash: ResumeHash,
        /// The opening token, where the relay asks for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<OpenToken>,
    },
    /// New: joins with the proof from the QR frame that was scanned.
    Join {
        /// Number of the scanned frame.
        frame: u8,
        /// The frame's join proof.
        proof: JoinProof,
        /// SHA-256 of the new app's own resume token.
        resume_hash: ResumeHash,
    },
    /// Either: takes the session up again after a lost connection.
    Resume {
        /// The app's own resume token.
        token: ResumeToken,
    },
    /// Either: ends the session.
    Cancel {
        /// Why.
        reason: CancelReason,
    },
    /// Old: the new app has confirmed the receipt.
    Complete {},
}

/// Why an app ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The person changed their mind, or the app was closed.
    User,
    /// The check code was wrong.
    WrongCode,
    /// The check code was not typed in time.
    CodeTimeout,
    /// A key, frame or signature did not verify.
    VerificationFailed,
}

impl ClientMessage {
    /// Reads one text frame.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but one known message with exactly its fields.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        decode(text)
    }

    /// The text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

/// What the relay sends to an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// To old: the session is open, and frame 0 is the current one from now on.
    Opened {
        /// Time left, in milliseconds.
        expires_in_ms: u64,
    },
    /// To new: the join was accepted.
    Joined {
        /// Time left, in milliseconds.
        expires_in_ms: u64,
        /// The key that old published; to be checked against the QR payload before use.
        public_key: PublishedKey,
        /// Whether old is connected.
        peer_online: bool,
    },
    /// To either: the session goes on over this connection.
    Resumed {
        /// Time left, in milliseconds.
        expires_in_ms: u64,
        /// Whether the other app is connected.
        peer_online: bool,
        /// To old, once new has joined: what `peer_joined` said, in case it was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        joined: Option<JoinedPeer>,
        /// To new: what `joined` said, in case it was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public_key: Option<PublishedKey>,
    },
    /// To old: new has joined.
    PeerJoined(JoinedPeer),
    /// To either: the other app's connection is gone; it may come back.
    PeerOffline {},
    /// To either: the other app is connected again; send again what it has not acknowledged.
    PeerOnline {},
    /// To either, every 25 s.
    Tick {
        /// Time left, in milliseconds.
        expires_in_ms: u64,
    },
    /// To either: the last message of a connection, before the close frame.
    Ended {
        /// Why; the close frame carries the same reason's code and label.
        reason: CloseReason,
        /// One sentence for developers.
        detail: String,
        /// Whether trying again can help.
        retry: bool,
        /// How long to wait before trying again, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

/// What old hears of the app that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedPeer {
    /// Number of the QR frame that was scanned.
    pub frame: u8,
    /// How near the two addresses are.
    pub network: Network,
    /// Whether the countries match.
    pub country: Country,
}

impl JoinedPeer {
    /// The verdict part.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict { network: self.network, country: self.country }
    }
}

impl ServerMessage {
    /// The last message of a connection.
    #[must_use]
    pub fn ended(reason: CloseReason, retry_after_ms: Option<u64>) -> Self {
        Self::Ended {
            reason,
            detail: reason.sentence().to_owned(),
            retry: reason.can_retry(),
            retry_after_ms: retry_after_ms.filter(|_| reason.can_retry()),
        }
    }

    /// Reads one text frame; unknown fields are ignored.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but one known message with at least its fields.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        decode(text)
    }

    /// The text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }
}

/// A text frame that is not a message. Never repeats what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than [`limits::MAX_CONTROL_BYTES`].
    #[error("the control message is longer than 16 KiB")]
    TooLong,
    /// Not JSON, not a known type, or not exactly its fields.
    #[error("the control message is not valid JSON of a known type (line {line}, column {column})")]
    Malformed {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
}

impl DecodeError {
    /// The reason with which the connection is closed.
    #[must_use]
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::TooLong => CloseReason::TooLarge,
            Self::Malformed { .. } => CloseReason::MalformedMessage,
        }
    }
}

fn decode<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, DecodeError> {
    if text.len() > limits::MAX_CONTROL_BYTES {
        return Err(DecodeError::TooLong);
    }
    serde_json::from_str(text).map_err(|error| DecodeError::Malformed { line: error.line(), column: error.column() })
}

fn encode<T: Serialize>(message: &T) -> String {
    #[expect(clippy::expect_used, reason = "messages hold only strings, numbers, booleans and sequences")]
    serde_json::to_string(message).expect("a message is always representable as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const B32: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    const B16: &str = "AgICAgICAgICAgICAgICAg";

    fn open_text() -> String {
        format!(
            r#"{{"type":"open","public_key":"AAEC","join_hashes":["{B16}"],"interval_ms":5000,"resume_hash":"{B32}"}}"#
        )
    }

    #[test]
    fn every_client_message_survives_the_wire() {
        let token = OpenToken::new("a.b.c".to_owned());
        let resume_hash = ResumeHash::new([1; 32]);
        for message in [
            ClientMessage::Open {
                public_key: PublishedKey::new(vec![0, 1, 2]).unwrap(),
                join_hashes: vec![JoinHash::new([2; 16])],
                interval_ms: 5000,
                resume_hash: resume_hash.clone(),
                token,
            },
            ClientMessage::Join { frame: 3, proof: JoinProof::new([1; 32]), resume_hash },
            ClientMessage::Resume { token: ResumeToken::new([1; 32]) },
            ClientMessage::Cancel { reason: CancelReason::WrongCode },
            ClientMessage::Complete {},
        ] {
            assert_eq!(ClientMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn the_text_of_a_message_is_what_the_protocol_says() {
        let open = ClientMessage::decode(&open_text()).unwrap();
        assert_eq!(open.encode(), open_text());
        let joined = JoinedPeer { frame: 2, network: Network::SameNetwork, country: Country::Unknown };
        assert_eq!(
            ServerMessage::PeerJoined(joined).encode(),
            r#"{"type":"peer_joined","frame":2,"network":"same_network","country":"unknown"}"#
        );
        assert_eq!(ServerMessage::PeerOffline {}.encode(), r#"{"type":"peer_offline"}"#);
        assert_eq!(
            ServerMessage::ended(CloseReason::Overloaded, Some(700)).encode(),
            r#"{"type":"ended","reason":"overloaded","detail":"the relay is at its limit; try again after the time given","retry":true,"retry_after_ms":700}"#
        );
    }

    #[test]
    fn the_relay_refuses_what_it_does_not_know() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "\u{0}",
            r#"{"type":"nonsense"}"#,
            r#"{"type":"opened","expires_in_ms":1}"#,
            r#"{"type":"complete","extra":1}"#,
            r#"{"type":"complete","type":"complete"}"#,
            r#"{"type":"cancel"}"#,
            r#"{"type":"cancel","reason":"boredom"}"#,
            r#"{"type":"cancel","reason":"user","reason":"user"}"#,
            r#"{"type":"complete"} {"type":"complete"}"#,
            &format!(r#"{{"type":"join","frame":256,"proof":"{B32}","resume_hash":"{B32}"}}"#),
            &format!(r#"{{"type":"join","frame":-1,"proof":"{B32}","resume_hash":"{B32}"}}"#),
            &format!(r#"{{"type":"join","frame":1.0,"proof":"{B32}","resume_hash":"{B32}"}}"#),
            &format!(r#"{{"type":"join","frame":1,"proof":"{B16}","resume_hash":"{B32}"}}"#),
            &format!(r#"{{"type":"resume","token":"{B32}="}}"#),
            &open_text().replace("5000", "\"5000\""),
            &open_text().replace("\"AAEC\"", "\"\""),
            &deep,
        ] {
            let error = ClientMessage::decode(text).unwrap_err();
            assert_eq!(error.close_reason(), CloseReason::MalformedMessage, "{text}");
        }
        let long = format!(r#"{{"type":"complete"{}}}"#, " ".repeat(limits::MAX_CONTROL_BYTES));
        assert_eq!(ClientMessage::decode(&long).unwrap_err().close_reason(), CloseReason::TooLarge);
    }

    #[test]
    fn apps_ignore_fields_they_do_not_know() {
        let text = r#"{"type":"tick","expires_in_ms":7,"weather":"fine"}"#;
        assert_eq!(ServerMessage::decode(text), Ok(ServerMessage::Tick { expires_in_ms: 7 }));
    }

    #[test]
    fn a_text_with_escapes_is_the_same_text() {
        let plain = format!(r#"{{"type":"resume","token":"{B32}"}}"#);
        let escaped = plain.replacen('A', r"\u0041", 1);
        assert_ne!(escaped, plain);
        assert_eq!(ClientMessage::decode(&escaped), ClientMessage::decode(&plain));
        assert!(ClientMessage::decode(&plain).is_ok());
    }

    #[test]
    fn a_decode_error_does_not_repeat_the_input() {
        let error = ClientMessage::decode(r#"{"type":"resume","token":"hunter2"}"#).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
