//! Valid control messages of a transfer with random secrets.
//!
//! Written as JSON by hand, not with the relay's own types: a field that the relay misspells must not be misspelt here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handoff_relay::protocol::Role;
use rand::Rng as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the two apps of one session know.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) session: String,
    pub(crate) interval_ms: u64,
    pub(crate) proofs: Vec<[u8; 32]>,
    pub(crate) public_key: Vec<u8>,
    pub(crate) old_token: [u8; 32],
    pub(crate) new_token: [u8; 32],
}

impl Transfer {
    /// A transfer with as many frames as a session of `lifetime_ms` has.
    pub(crate) fn random(lifetime_ms: u64, interval_ms: u64) -> Self {
        let frames = lifetime_ms.div_ceil(interval_ms);
        Self {
            session: random_session(),
            interval_ms,
            proofs: (0..frames).map(|_| random()).collect(),
            public_key: [random::<32>(), random()].concat(),
            old_token: random(),
            new_token: random(),
        }
    }

    /// With the relay's defaults.
    pub(crate) fn usual() -> Self {
        Self::random(180_000, 5000)
    }

    pub(crate) fn open(&self) -> Value {
        let hashes: Vec<String> = self.proofs.iter().map(|proof| base64url(&Sha256::digest(proof)[..16])).collect();
        json!({
            "type": "open",
            "public_key": base64url(&self.public_key),
            "join_hashes": hashes,
            "interval_ms": self.interval_ms,
            "resume_hash": base64url(&Sha256::digest(self.old_token)),
        })
    }

    pub(crate) fn join(&self, frame: usize) -> Value {
        json!({
            "type": "join",
            "frame": frame,
            "proof": base64url(&self.proofs[frame]),
            "resume_hash": base64url(&Sha256::digest(self.new_token)),
        })
    }

    /// A join of somebody else who has scanned the same frame.
    pub(crate) fn join_of_another(&self, frame: usize) -> Value {
        changed(self.join(frame), "resume_hash", base64url(&random::<32>()))
    }

    pub(crate) fn resume(&self, role: Role) -> Value {
        let token = match role {
            Role::Old => self.old_token,
            Role::New => self.new_token,
        };
        json!({"type": "resume", "token": base64url(&token)})
    }
}

/// A message with another value in one field.
pub(crate) fn changed(mut message: Value, field: &str, value: impl Into<Value>) -> Value {
    message[field] = value.into();
    message
}

/// A message without one field.
pub(crate) fn without(mut message: Value, field: &str) -> Value {
    message.as_object_mut().unwrap().remove(field).unwrap();
    message
}

pub(crate) fn cancel(reason: &str) -> Value {
    json!({"type": "cancel", "reason": reason})
}

pub(crate) fn complete() -> Value {
    json!({"type": "complete"})
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

pub(crate) fn random_session() -> String {
    uuid::Builder::from_random_bytes(random()).into_uuid().to_string()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
