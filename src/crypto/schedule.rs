//! The key schedule: every label, hash and derivation of `handoff/1` that HPKE does not already do. Not the ciphers:
//! those are in `suite` and `response`.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::proximity::Proximity;
use super::suite::{Psk, Setup};
use crate::protocol::frame::Header;
use crate::protocol::ids::{JoinProof, PublishedKey, SessionId};
use crate::protocol::qr::{FrameSecret, QrPayload};

/// Every label, in one table. Those with the protocol's name enter hashes, HPKE and signatures, which other protocols
/// use too; the short ones only ever follow a key that was extracted for this protocol.
mod label {
    pub(super) const SALT: &[u8] = b"handoff/1";
    pub(super) const FRAME: &[u8] = b"frame";
    pub(super) const JOIN: &[u8] = b"join";
    pub(super) const PSK: &[u8] = b"psk";
    pub(super) const PUBLIC_KEY: &[u8] = b"handoff/1 pk";
    pub(super) const INFO: &[u8] = b"handoff/1 transfer";
    pub(super) const RESPONSE: &[u8] = b"handoff/1 response";
    pub(super) const KEY: &[u8] = b"key";
    pub(super) const NONCE: &[u8] = b"nonce";
    pub(super) const CODE: &[u8] = b"handoff/1 code";
    pub(super) const RECEIPT: &[u8] = b"handoff/1 receipt";
}

/// A SHA-256 hash.
pub(super) type Digest = [u8; 32];

/// The secret of QR frame `frame`.
pub(super) fn frame_secret(session_prk: &[u8; 32], frame: u8) -> FrameSecret {
    #[expect(clippy::expect_used, reason = "32 bytes are what HKDF-SHA256 asks for")]
    let session = Hkdf::from_prk(session_prk).expect("a 32-byte key is a valid HKDF key");
    FrameSecret::new(*expand(&session, &[label::FRAME, &[frame]]))
}

/// `pk_hash`: what a QR code says about the public key.
pub(super) fn key_hash(public: &PublishedKey) -> Digest {
    let key = public.as_bytes();
    // A published key has at most 2,048 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    hash(&[label::PUBLIC_KEY, &length, key])
}

/// `join_f`: what new shows the relay.
pub(super) fn join_proof(secret: &FrameSecret) -> JoinProof {
    JoinProof::new(*expand(&frame_keys(secret), &[label::JOIN]))
}

/// `T_f`: the transcript's root, the QR frame exactly as scanned.
pub(super) fn root(payload: &QrPayload) -> Digest {
    hash(&[&payload.encode()])
}

/// What enters HPKE: `info`, `psk_f` and `psk_id`.
pub(super) fn setup(payload: &QrPayload, root: &Digest, proximity: &Proximity) -> Setup {
    // A nonce has at most 255 bytes.
    let length = u8::try_from(proximity.expose().len()).unwrap_or(u8::MAX);
    Setup {
        info: [label::INFO, &[payload.suite.code()], root].concat(),
        psk: Psk::new(expand(&frame_keys(&payload.frame_secret), &[label::PSK, &[length], proximity.expose()])),
        psk_id: [payload.session.as_bytes().as_slice(), &[payload.frame]].concat(),
    }
}

/// `prk_f`.
fn frame_keys(secret: &FrameSecret) -> Hkdf<Sha256> {
    extract(label::SALT, secret.expose())
}

/// `th1`: the transcript with the hello.
pub(super) fn hello_hash(root: &Digest, enc: &[u8], ciphertext: &[u8]) -> Digest {
    hash(&[root, enc, &length32(ciphertext), ciphertext])
}

/// `th2`: the transcript with the reply.
pub(super) fn reply_hash(hello_hash: &Digest, response_nonce: &[u8; 32], ciphertext: &[u8]) -> Digest {
    hash(&[hello_hash, response_nonce, &length32(ciphertext), ciphertext])
}

/// The export from which the response keys come.
pub(super) const RESPONSE_EXPORT: &[u8] = label::RESPONSE;

/// `k2` and `n2`: the keys of everything that old seals.
pub(super) fn response_keys(
    enc: &[u8],
    response_nonce: &[u8; 32],
    exported: &[u8; 32],
) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 12]>) {
    let keys = extract(&[enc, response_nonce].concat(), exported);
    (expand(&keys, &[label::KEY]), expand(&keys, &[label::NONCE]))
}

/// The export from which the check code comes.
pub(super) fn code_export(reply_hash: &Digest) -> Vec<u8> {
    [label::CODE, reply_hash].concat()
}

/// What every sealed frame authenticates in the clear: its header, the session, and the transcript so far.
pub(super) fn aad(header: Header, session: SessionId, transcript: &[u8]) -> Vec<u8> {
    [header.encode().as_slice(), session.as_bytes(), transcript].concat()
}

/// The digest of a credential that new signs.
pub(super) fn credential_digest(credential: &[u8]) -> Digest {
    hash(&[credential])
}

/// What new signs once it holds the whole credential.
pub(super) fn receipt_statement(reply_hash: &Digest, digest: &Digest) -> Vec<u8> {
    [label::RECEIPT, reply_hash, digest].concat()
}

fn hash(parts: &[&[u8]]) -> Digest {
    parts.iter().fold(Sha256::new(), Sha256::chain_update).finalize().into()
}

/// A length in front of a ciphertext. Frames have at most 64 KiB.
fn length32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn extract(salt: &[u8], secret: &[u8; 32]) -> Hkdf<Sha256> {
    let (mut prk, keys) = Hkdf::extract(Some(salt), secret);
    prk.zeroize();
    keys
}

fn expand<const N: usize>(keys: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 32, "one block of HKDF-SHA256") };
    let mut secret = Zeroizing::new([0; N]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 expands to up to 255 blocks, and this is one")]
    keys.expand_multi_info(info, secret.as_mut_slice()).expect("one block is a valid HKDF output");
    secret
}
