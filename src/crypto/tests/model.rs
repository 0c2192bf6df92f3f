//! A second, plain implementation of the channel's sealing side, written from the specification: concatenations, hashes
//! and AES-GCM, with HPKE as the only part shared with the first. What it computes from fixed inputs is what the files
//! in `tests/vectors` hold.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::Hkdf;
use hpke::kem::{DhP256HkdfSha256, MlKem768P256};
use hpke::{Deserializable as _, Kem};
use p256::ecdsa::signature::Signer as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::super::suite::{self, Psk, Setup};
use super::inputs::Inputs;
use super::*;
use crate::protocol::ids::PublishedKey;

/// What follows from the inputs without HPKE.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Derived {
    pub(super) key_hash: Hex,
    pub(super) frame_secret: Hex,
    pub(super) qr_payload: Hex,
    pub(super) qr_text: String,
    pub(super) qr_hash: Hex,
    pub(super) frame_prk: Hex,
    pub(super) join_proof: Hex,
    pub(super) join_hash: Hex,
    pub(super) psk: Hex,
    pub(super) psk_id: Hex,
    pub(super) info: Hex,
}

impl Derived {
    pub(super) fn of(inputs: &Inputs, frame: u8) -> Self {
        let public = &inputs.recipient_public_key;
        let key_hash = sha256(&[b"handoff/1 pk", &u16::try_from(public.len()).unwrap().to_be_bytes(), public]);
        let frame_secret = expand(&inputs.session_prk, &[b"frame", &[frame]], 32);
        let payload = [
            [1, inputs.suite, inputs.flags, frame].as_slice(),
            &inputs.session_id,
            &frame_secret,
            &key_hash,
            &[inputs.relay_id],
            inputs.relay_host.as_bytes(),
        ]
        .concat();
        let qr_hash = sha256(&[&payload]);
        let prk = extract(b"handoff/1", &frame_secret);
        let join_proof = expand(&prk, &[b"join"], 32);
        let proximity = &inputs.proximity_nonce;
        Self {
            key_hash: key_hash.into(),
            qr_text: format!("HO:{}", base45::encode(&payload)),
            qr_payload: payload.into(),
            qr_hash: qr_hash.into(),
            join_hash: sha256(&[&join_proof])[..16].into(),
            join_proof,
            psk: expand(&prk, &[b"psk", &[u8::try_from(proximity.len()).unwrap()], proximity], 32),
            psk_id: [&*inputs.session_id, &[frame]].concat().into(),
            info: [b"handoff/1 transfer".as_slice(), &[inputs.suite], &qr_hash].concat().into(),
            frame_secret,
            frame_prk: prk,
        }
    }

    pub(super) fn setup(&self) -> Setup {
        Setup {
            info: self.info.to_vec(),
            psk: Psk::new(Zeroizing::new(self.psk.array())),
            psk_id: self.psk_id.to_vec(),
        }
    }
}

/// One sealed frame, taken apart. `nonce` is empty where HPKE counts by itself.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Sealed {
    pub(super) header: Hex,
    pub(super) nonce: Hex,
    pub(super) aad: Hex,
    pub(super) plaintext: Hex,
    pub(super) padded_plaintext: Hex,
    pub(super) ciphertext: Hex,
    pub(super) frame: Hex,
}

/// What follows from the inputs up to the check code.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Handshake {
    pub(super) derived: Derived,
    pub(super) encapsulated_key: Hex,
    pub(super) kem_shared_secret: Hex,
    pub(super) hello: Sealed,
    pub(super) transcript_hash_1: Hex,
    pub(super) response_export: Hex,
    pub(super) response_prk: Hex,
    pub(super) response_key: Hex,
    pub(super) response_base_nonce: Hex,
    pub(super) reply: Sealed,
    pub(super) transcript_hash_2: Hex,
    pub(super) check_code_export_context: Hex,
    pub(super) check_code_export: Hex,
    pub(super) check_code: String,
}

impl Handshake {
    pub(super) fn of(inputs: &Inputs) -> Self {
        let derived = Derived::of(inputs, inputs.frame);
        let (enc, mut context) = upstream(inputs, derived.setup());
        let hello_header = header(2, 1, 0);
        let aad = [&hello_header, &*inputs.session_id].concat();
        let key = &inputs.device_public_key;
        let plaintext = [
            u16::try_from(key.len()).unwrap().to_be_bytes().as_slice(),
            key,
            &inputs.new_device.encode(),
            &inputs.hello_nonce,
        ]
        .concat();
        let ciphertext = context.seal(&aad, &pad(&plaintext)).unwrap();
        let body = [&u16::try_from(enc.len()).unwrap().to_be_bytes(), enc.as_slice(), &ciphertext].concat();
        let hello = sealed(hello_header, vec![], aad, plaintext, ciphertext, &body);
        let th1 = sha256(&[&derived.qr_hash, &enc, &length(&hello.ciphertext), &hello.ciphertext]);

        let response_export = context.export::<32>(b"handoff/1 response").unwrap();
        let prk = extract(&[enc.as_slice(), &inputs.response_nonce].concat(), &*response_export);
        let (key, base_nonce) = (expand(&prk, &[b"key"], 32), expand(&prk, &[b"nonce"], 12));
        let reply_header = header(1, 2, 0);
        let aad = [&reply_header, &*inputs.session_id, &th1].concat();
        let plaintext = inputs.old_device.encode();
        let ciphertext = gcm(&key, &base_nonce, 0, &aad, &pad(&plaintext));
        let body = [&*inputs.response_nonce, &ciphertext].concat();
        let reply = sealed(reply_header, nonce(&base_nonce, 0), aad, plaintext, ciphertext, &body);
        let th2 = sha256(&[&th1, &inputs.response_nonce, &length(&reply.ciphertext), &reply.ciphertext]);

        let code_context = [b"handoff/1 code".as_slice(), &th2].concat();
        let code_export = *context.export::<8>(&code_context).unwrap();
        Self {
            kem_shared_secret: shared_secret(inputs, &enc),
            encapsulated_key: enc.into(),
            derived,
            hello,
            transcript_hash_1: th1.into(),
            response_export: response_export.into(),
            response_prk: prk,
            response_key: key,
            response_base_nonce: base_nonce,
            reply,
            transcript_hash_2: th2.into(),
            check_code_export_context: code_context.into(),
            check_code_export: code_export.into(),
            check_code: (1000 + u64::from_be_bytes(code_export) % 9000).to_string(),
        }
    }

    /// A frame that old seals, with anything in it.
    pub(super) fn downstream(
        &self,
        header: Vec<u8>,
        seq: u64,
        aad: Vec<u8>,
        plaintext: &[u8],
        padded: &[u8],
    ) -> Sealed {
        let ciphertext = gcm(&self.response_key, &self.response_base_nonce, seq, &aad, padded);
        let body = ciphertext.clone();
        let nonce = nonce(&self.response_base_nonce, seq);
        Sealed { padded_plaintext: padded.into(), ..sealed(header, nonce, aad, plaintext.to_vec(), ciphertext, &body) }
    }

    /// A piece of a credential.
    pub(super) fn chunk(&self, inputs: &Inputs, seq: u64, plaintext: &[u8]) -> Sealed {
        let header = header(1, 3, seq);
        let aad = [&header, &*inputs.session_id, &self.transcript_hash_2].concat();
        self.downstream(header, seq, aad, plaintext, &pad(plaintext))
    }

    /// New's second message, with anything in it.
    pub(super) fn receipt(&self, inputs: &Inputs, header: Vec<u8>, transcript: &[u8], plaintext: Vec<u8>) -> Sealed {
        let (_, mut context) = upstream(inputs, self.derived.setup());
        context.seal(b"", b"the hello goes first").unwrap();
        let aad = [&header, &*inputs.session_id, transcript].concat();
        let ciphertext = context.seal(&aad, &pad(&plaintext)).unwrap();
        let body = ciphertext.clone();
        sealed(header, vec![], aad, plaintext, ciphertext, &body)
    }
}

/// One credential on its way.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Transfer {
    pub(super) name: String,
    pub(super) credential: Hex,
    pub(super) credential_frames: Vec<Sealed>,
    pub(super) credential_digest: Hex,
    pub(super) receipt_statement: Hex,
    pub(super) receipt_signature: Hex,
    pub(super) receipt: Sealed,
}

impl Transfer {
    pub(super) fn of(name: &str, inputs: &Inputs, handshake: &Handshake, credential: &[u8]) -> Self {
        let mut pieces: Vec<&[u8]> = credential.chunks(4084).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let total = u32::try_from(credential.len()).unwrap();
        let frames = pieces.into_iter().zip(0_u32..).map(|(data, index)| {
            let plaintext = piece(total, index * 4084, data);
            handshake.chunk(inputs, u64::from(index) + 1, &plaintext)
        });
        let credential_frames = frames.collect();
        let digest = sha256(&[credential]);
        let statement = receipt_statement(&handshake.transcript_hash_2, &digest);
        let signature = sign(&inputs.device_private_key, &statement);
        let plaintext = [digest.as_slice(), &signature].concat();
        Self {
            name: name.to_owned(),
            credential: credential.into(),
            credential_frames,
            credential_digest: digest.into(),
            receipt_statement: statement.into(),
            receipt_signature: signature.into(),
            receipt: handshake.receipt(inputs, header(2, 4, 1), &handshake.transcript_hash_2, plaintext),
        }
    }
}

/// New's HPKE context.
pub(super) fn upstream(inputs: &Inputs, setup: Setup) -> (Vec<u8>, suite::SealingContext) {
    let public = PublishedKey::new(inputs.recipient_public_key.to_vec()).unwrap();
    let mut script = Script::new(&[&inputs.encapsulation_randomness]);
    suite::send(inputs.suite(), &public, setup, &mut script).unwrap()
}

fn shared_secret(inputs: &Inputs, enc: &[u8]) -> Hex {
    fn of<K: Kem>(private: &[u8], enc: &[u8]) -> Hex {
        let (private, enc) = (K::PrivateKey::from_bytes(private).unwrap(), K::EncappedKey::from_bytes(enc).unwrap());
        K::decap(&private, None, &enc).ok().unwrap().0.as_slice().into()
    }
    match inputs.suite() {
        Suite::P256 => of::<DhP256HkdfSha256>(&inputs.recipient_private_key, enc),
        Suite::MlKem768P256 => of::<MlKem768P256>(&inputs.recipient_private_key, enc),
    }
}

fn sealed(
    header: Vec<u8>,
    nonce: Vec<u8>,
    aad: Vec<u8>,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    body: &[u8],
) -> Sealed {
    Sealed {
        frame: [header.as_slice(), body].concat().into(),
        padded_plaintext: pad(&plaintext).into(),
        header: header.into(),
        nonce: nonce.into(),
        aad: aad.into(),
        plaintext: plaintext.into(),
        ciphertext: ciphertext.into(),
    }
}

pub(super) fn header(direction: u8, kind: u8, seq: u64) -> Vec<u8> {
    [[1, direction, kind, 0].as_slice(), &seq.to_be_bytes()].concat()
}

pub(super) fn piece(total: u32, offset: u32, data: &[u8]) -> Vec<u8> {
    [&total.to_be_bytes(), &offset.to_be_bytes(), data].concat()
}

pub(super) fn receipt_statement(transcript: &[u8], digest: &[u8]) -> Vec<u8> {
    [b"handoff/1 receipt", transcript, digest].concat()
}

pub(super) fn sign(private: &[u8], statement: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from_slice(private).unwrap().sign(statement);
    signature.to_bytes().to_vec()
}

pub(super) fn pad(message: &[u8]) -> Vec<u8> {
    let mut padded = [&length(message), message].concat();
    while padded.len() % 1024 != 0 {
        padded.push(0);
    }
    padded
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_be_bytes()
}

fn nonce(base: &[u8], seq: u64) -> Vec<u8> {
    let seq = [[0; 4].as_slice(), &seq.to_be_bytes()].concat();
    base.iter().zip(seq).map(|(a, b)| a ^ b).collect()
}

fn gcm(key: &[u8], base_nonce: &[u8], seq: u64, aad: &[u8], padded: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = nonce(base_nonce, seq).try_into().unwrap();
    Aes256Gcm::new_from_slice(key).unwrap().encrypt(&nonce.into(), Payload { msg: padded, aad }).unwrap()
}

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

fn extract(salt: &[u8], secret: &[u8]) -> Hex {
    Hkdf::<Sha256>::extract(Some(salt), secret).0.into()
}

fn expand(prk: &[u8], info: &[&[u8]], length: usize) -> Hex {
    let mut secret = vec![0; length];
    Hkdf::<Sha256>::from_prk(prk).unwrap().expand(&info.concat(), &mut secret).unwrap();
    Hex(secret)
}
