//! Reads what the relay says. A relay may be newer than the app: what it does not know is ignored where the protocol
//! says so, and everything else that is not a message is an end with a name.

use std::time::Duration;

use serde::Deserialize;

use crate::protocol::message::{DecodeError, ServerMessage};

/// Types that this app knows; a message of one of these must be valid.
const KNOWN: [&str; 8] = ["opened", "joined", "resumed", "peer_joined", "peer_offline", "peer_online", "tick", "ended"];

/// A text frame from the relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// A message of this protocol.
    Message(ServerMessage),
    /// A message that only a newer app understands.
    Unknown,
    /// The connection's end, for a reason that only a newer app understands.
    EndedOtherwise {
        /// Whether trying again can help.
        retry: bool,
        /// How long to wait before.
        retry_after: Option<Duration>,
    },
    /// Not a message.
    Malformed,
}

/// What every message has. Other members may be anything: in a type that this app does not know, they mean nothing to it.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
}

/// What can be read of an end whose reason this app does not know.
#[derive(Deserialize)]
struct End {
    #[expect(dead_code, reason = "an end has a reason, known or not")]
    reason: String,
    #[serde(default)]
    retry: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

pub(super) fn read(text: &str) -> Inbound {
    match ServerMessage::decode(text) {
        Ok(message) => Inbound::Message(message),
        Err(DecodeError::TooLong) => Inbound::Malformed,
        Err(DecodeError::Malformed { .. }) => read_envelope(text),
    }
}

fn read_envelope(text: &str) -> Inbound {
    match serde_json::from_str::<Envelope>(text) {
        Ok(envelope) if !KNOWN.contains(&envelope.kind.as_str()) => Inbound::Unknown,
        Ok(envelope) if envelope.kind == "ended" => read_end(text),
        Ok(_) | Err(_) => Inbound::Malformed,
    }
}

fn read_end(text: &str) -> Inbound {
    match serde_json::from_str(text) {
        Ok(End { retry, retry_after_ms, .. }) => {
            Inbound::EndedOtherwise { retry, retry_after: retry_after_ms.map(Duration::from_millis) }
        }
        Err(_) => Inbound::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::close::CloseReason;
    use crate::protocol::message::JoinedPeer;
    use crate::protocol::network::{Country, Network};

    #[test]
    fn every_message_of_the_protocol_is_known() {
        let joined = JoinedPeer { frame: 0, network: Network::Unknown, country: Country::Unknown };
        let public_key = crate::protocol::ids::PublishedKey::new(vec![1]).unwrap();
        for message in [
            ServerMessage::Opened { expires_in_ms: 1 },
            ServerMessage::Joined { expires_in_ms: 1, public_key, peer_online: true },
            ServerMessage::Resumed { expires_in_ms: 1, peer_online: true, joined: None, public_key: None },
            ServerMessage::PeerJoined(joined),
            ServerMessage::PeerOffline {},
            ServerMessage::PeerOnline {},
            ServerMessage::Tick { expires_in_ms: 1 },
            ServerMessage::ended(CloseReason::Expired, None),
        ] {
            let text = message.encode();
            let kind = serde_json::from_str::<Envelope>(&text).unwrap().kind;
            assert!(KNOWN.contains(&kind.as_str()), "{kind}");
            assert_eq!(read(&text), Inbound::Message(message));
        }
    }

    #[test]
    fn what_a_newer_relay_says_is_ignored_or_obeyed() {
        assert_eq!(read(r#"{"type":"notice","text":"maintenance at noon"}"#), Inbound::Unknown);
        assert_eq!(
            read(r#"{"type":"ended","reason":"eclipse","detail":"dark","retry":true,"retry_after_ms":70}"#),
            Inbound::EndedOtherwise { retry: true, retry_after: Some(Duration::from_millis(70)) }
        );
        assert_eq!(
            read(r#"{"type":"ended","reason":"eclipse"}"#),
            Inbound::EndedOtherwise { retry: false, retry_after: None }
        );
    }

    #[test]
    fn in_a_message_that_only_a_newer_app_knows_a_name_of_today_may_stand_for_anything() {
        for text in [
            r#"{"type":"notice","reason":7}"#,
            r#"{"type":"notice","reason":["a"],"retry":"perhaps","retry_after_ms":-1}"#,
            r#"{"reason":{"type":1},"expires_in_ms":"soon","frame":null,"type":"notice"}"#,
            r#"{"type":"notice","reason":"a","reason":"b"}"#,
        ] {
            assert_eq!(read(text), Inbound::Unknown, "{text}");
        }
        assert_eq!(read(r#"{"type":"ended","reason":7}"#), Inbound::Malformed);
        assert_eq!(read(r#"{"type":"notice","type":"tick"}"#), Inbound::Malformed);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        let long = format!(r#"{{"type":"notice","text":"{}"}}"#, "x".repeat(20_000));
        for text in
            ["", "null", "[]", "{}", "\u{0}", r#"{"type":"tick"}"#, r#"{"type":"ended"}"#, r#"{"type":1}"#, &long]
        {
            assert_eq!(read(text), Inbound::Malformed, "{text:.40}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"(\{"type":")?[ -~]{0,200}"#) {
            let _ = read(&text);
        }
    }
}
