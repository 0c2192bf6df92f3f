//! One message of every kind, with every optional field: a new variant or field does not compile until it is here.

use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::ids::{JoinHash, JoinProof, OpenToken, PublishedKey, ResumeHash, ResumeToken};
use handoff_relay::protocol::message::{CancelReason, ClientMessage, JoinedPeer, ServerMessage};
use handoff_relay::protocol::network::{Country, Network};
use serde::Serialize;
use serde_json::Value;

/// What every app may send.
pub(super) fn from_apps() -> Vec<ClientMessage> {
    let resume_hash = ResumeHash::new([1; 32]);
    let open = ClientMessage::Open {
        public_key: key(),
        join_hashes: vec![JoinHash::new([2; 16])],
        interval_ms: 180_000,
        resume_hash: resume_hash.clone(),
        token: OpenToken::new("token".to_owned()),
    };
    let join = ClientMessage::Join { frame: 3, proof: JoinProof::new([4; 32]), resume_hash };
    let resume = ClientMessage::Resume { token: ResumeToken::new([5; 32]) };
    let cancel = ClientMessage::Cancel { reason: CancelReason::User };
    let all = vec![open, join, resume, cancel, ClientMessage::Complete {}];
    for message in &all {
        // Whoever adds a message or a field is led here, and adds it above.
        match message {
            ClientMessage::Open { public_key: _, join_hashes: _, interval_ms: _, resume_hash: _, token: _ }
            | ClientMessage::Join { frame: _, proof: _, resume_hash: _ }
            | ClientMessage::Resume { token: _ }
            | ClientMessage::Cancel { reason: _ }
            | ClientMessage::Complete {} => {}
        }
    }
    all
}

/// What the relay may send.
pub(super) fn from_relay() -> Vec<ServerMessage> {
    let joined = JoinedPeer { frame: 5, network: Network::SameAddress, country: Country::Same };
    let all = vec![
        ServerMessage::Opened { expires_in_ms: 6 },
        ServerMessage::Joined { expires_in_ms: 7, public_key: key(), peer_online: true },
        ServerMessage::Resumed { expires_in_ms: 8, peer_online: true, joined: Some(joined), public_key: Some(key()) },
        ServerMessage::PeerJoined(joined),
        ServerMessage::PeerOffline {},
        ServerMessage::PeerOnline {},
        ServerMessage::Tick { expires_in_ms: 9 },
        ServerMessage::ended(CloseReason::Overloaded, Some(10)),
    ];
    for message in &all {
        match message {
            ServerMessage::Opened { expires_in_ms: _ }
            | ServerMessage::Joined { expires_in_ms: _, public_key: _, peer_online: _ }
            | ServerMessage::Resumed { expires_in_ms: _, peer_online: _, joined: _, public_key: _ }
            | ServerMessage::PeerJoined(JoinedPeer { frame: _, network: _, country: _ })
            | ServerMessage::PeerOffline {}
            | ServerMessage::PeerOnline {}
            | ServerMessage::Tick { expires_in_ms: _ }
            | ServerMessage::Ended { reason: _, detail: _, retry: _, retry_after_ms: _ } => {}
        }
    }
    all
}

pub(super) fn cancel_reasons() -> Vec<Value> {
    use CancelReason::{CodeTimeout, User, VerificationFailed, WrongCode};
    let all = [User, WrongCode, CodeTimeout, VerificationFailed];
    for reason in all {
        match reason {
            User | WrongCode | CodeTimeout | VerificationFailed => {}
        }
    }
    values(&all)
}

pub(super) fn networks() -> Vec<Value> {
    use Network::{Different, SameAddress, SameNetwork, Unknown};
    let all = [SameAddress, SameNetwork, Different, Unknown];
    for network in all {
        match network {
            SameAddress | SameNetwork | Different | Unknown => {}
        }
    }
    values(&all)
}

pub(super) fn countries() -> Vec<Value> {
    use Country::{Different, Same, Unknown};
    let all = [Same, Different, Unknown];
    for country in all {
        match country {
            Same | Different | Unknown => {}
        }
    }
    values(&all)
}

pub(super) fn values<T: Serialize>(all: &[T]) -> Vec<Value> {
    all.iter().map(|one| serde_json::to_value(one).unwrap()).collect()
}

fn key() -> PublishedKey {
    PublishedKey::new(vec![4; 65]).unwrap()
}
