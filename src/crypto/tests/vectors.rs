//! The frozen vectors in `tests/vectors`: `UPDATE_VECTORS=1 cargo test` writes them, and without it they must be what
//! the plain implementation computes, byte for byte, and what the channel itself makes and takes.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::super::padding;
use super::inputs::{Inputs, fixed};
use super::model::{Derived, Handshake, Transfer, header, pad};
use super::*;
use crate::protocol::frame::FrameKind;
use crate::protocol::ids::{JoinHash, PublishedKey};

/// The committed file, which must hold exactly `expected`.
pub(super) fn frozen<T: Serialize + DeserializeOwned>(name: &str, expected: &T) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let expected = format!("{}\n", serde_json::to_string_pretty(expected).unwrap());
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    // Not `assert_eq`: nobody reads a difference of 100 KiB.
    assert!(
        committed == expected,
        "{name} is not what the specification says: run with UPDATE_VECTORS=1, see the diff"
    );
    serde_json::from_str(&committed).unwrap()
}

#[derive(Serialize, Deserialize)]
struct QrFile {
    description: String,
    frames: Vec<QrVector>,
}

#[derive(Serialize, Deserialize)]
struct QrVector {
    name: String,
    inputs: QrFields,
    payload: Hex,
    text: String,
    qr_hash: Hex,
}

#[derive(Serialize, Deserialize)]
struct QrFields {
    version: u8,
    suite: u8,
    flags: u8,
    frame: u8,
    session_id: Hex,
    frame_secret: Hex,
    key_hash: Hex,
    relay_id: u8,
    relay_host: String,
}

fn qr_vectors() -> QrFile {
    let vector = |name: &str, suite: Suite, flags, frame, relay_id, relay_host: &str| {
        let inputs = Inputs {
            flags,
            frame,
            relay_id,
            relay_host: relay_host.to_owned(),
            session_prk: fixed(name).into(),
            ..Inputs::of(suite)
        };
        let derived = Derived::of(&inputs, frame);
        QrVector {
            name: name.to_owned(),
            inputs: QrFields {
                version: 1,
                suite: inputs.suite,
                flags,
                frame,
                session_id: inputs.session_id,
                frame_secret: derived.frame_secret,
                key_hash: derived.key_hash,
                relay_id,
                relay_host: relay_host.to_owned(),
            },
            payload: derived.qr_payload,
            text: derived.qr_text,
            qr_hash: derived.qr_hash,
        }
    };
    QrFile {
        description: "QR payloads: version, suite, flags, frame (one byte each), session_id (16), frame_secret (32), \
                      key_hash (32), relay_id (1), relay_host (only behind relay_id 0). text is HO: and the payload \
                      in Base45 (RFC 9285); qr_hash is SHA-256 of the payload."
            .to_owned(),
        frames: vec![
            vector("first_frame_of_a_listed_relay", Suite::P256, 0, 0, 1, ""),
            vector("last_frame_of_the_shortest_interval", Suite::P256, 0, 179, 255, ""),
            vector("literal_ipv4_relay", Suite::P256, 0, 35, 0, "127.0.0.1:8080"),
            vector("literal_ipv6_relay", Suite::P256, 0, 35, 0, "[::1]:8443"),
            vector("literal_host_without_port", Suite::P256, 0, 1, 0, "relay.example"),
            vector("proximity_demanded", Suite::MlKem768P256, 1, 0, 1, ""),
            vector("mutual_scan_demanded", Suite::P256, 2, 0, 1, ""),
            vector("everything_demanded", Suite::MlKem768P256, 3, 20, 7, ""),
        ],
    }
}

#[test]
fn qr_vectors_hold() {
    for QrVector { name, inputs, payload, text, qr_hash } in frozen("qr.json", &qr_vectors()).frames {
        let read = QrPayload::from_text(&text).unwrap();
        assert_eq!(Hex::from(&*read.encode()), payload, "{name}");
        assert_eq!(*read.to_text(), text, "{name}");
        assert_eq!(Hex::from(schedule::root(&read)), qr_hash, "{name}");
        assert_eq!((read.suite.code(), read.demands.bits(), read.frame), (inputs.suite, inputs.flags, inputs.frame));
        assert_eq!(Hex::from(read.session.as_bytes()), inputs.session_id);
        assert_eq!(Hex::from(read.frame_secret.expose()), inputs.frame_secret);
        assert_eq!(Hex::from(read.key_hash), inputs.key_hash);
        match read.relay {
            RelayRef::Listed(id) => assert_eq!((id.get(), ""), (inputs.relay_id, inputs.relay_host.as_str())),
            RelayRef::Literal(host) => assert_eq!((0, host.as_str()), (inputs.relay_id, inputs.relay_host.as_str())),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct DerivationFile {
    description: String,
    derivations: Vec<Derivation>,
}

#[derive(Serialize, Deserialize)]
struct Derivation {
    name: String,
    inputs: Inputs,
    frame: u8,
    derived: Derived,
}

fn derivation_vectors() -> DerivationFile {
    let vector = |name: &str, suite, frame, nonce: &[u8]| {
        let inputs = Inputs { proximity_nonce: nonce.into(), frames: 36, frame, flags: 0, ..Inputs::of(suite) };
        let derived = Derived::of(&inputs, frame);
        Derivation { name: name.to_owned(), inputs, frame, derived }
    };
    let long: Vec<u8> = (1..=255).collect();
    DerivationFile {
        description:
            "What follows from old's secrets and its public key before anything is encapsulated; see README.md \
                      for each field."
                .to_owned(),
        derivations: vec![
            vector("frame_0_without_proximity", Suite::P256, 0, &[]),
            vector("frame_1_of_the_same_session", Suite::P256, 1, &[]),
            vector("shortest_proximity_nonce", Suite::P256, 35, &long[..16]),
            vector("longest_proximity_nonce", Suite::P256, 35, &long),
            vector("post_quantum", Suite::MlKem768P256, 0, &[]),
            vector("post_quantum_with_proximity", Suite::MlKem768P256, 35, &long[..32]),
        ],
    }
}

#[test]
fn derivation_vectors_hold() {
    for Derivation { name, inputs, frame, derived } in frozen("derivations.json", &derivation_vectors()).derivations {
        let offer = inputs.offer();
        let payload = offer.qr(frame).unwrap();
        assert_eq!(Hex::from(offer.public_key().as_bytes()), inputs.recipient_public_key, "{name}");
        assert_eq!(Hex::from(&*payload.encode()), derived.qr_payload, "{name}");
        assert_eq!(*payload.to_text(), derived.qr_text, "{name}");
        assert_eq!(Hex::from(payload.frame_secret.expose()), derived.frame_secret, "{name}");
        assert_eq!(Hex::from(payload.key_hash), derived.key_hash, "{name}");
        let root = schedule::root(&payload);
        assert_eq!(Hex::from(root), derived.qr_hash, "{name}");
        let setup = schedule::setup(&payload, &root, &inputs.proximity());
        assert_eq!(Hex::from(setup.psk.expose()), derived.psk, "{name}");
        assert_eq!((Hex(setup.info), Hex(setup.psk_id)), (derived.info, derived.psk_id), "{name}");
        let proof = Invitation::new(payload, inputs.proximity()).unwrap().join_proof();
        assert_eq!(Hex::from(proof.as_bytes()), derived.join_proof, "{name}");
        assert_eq!(Hex::from(JoinHash::of(&proof).as_bytes()), derived.join_hash, "{name}");
        assert_eq!(Hex::from(offer.join_hashes()[usize::from(frame)].as_bytes()), derived.join_hash, "{name}");
    }
}

#[derive(Serialize, Deserialize)]
struct PaddingFile {
    description: String,
    paddings: Vec<PaddingVector>,
}

#[derive(Serialize, Deserialize)]
struct PaddingVector {
    message: Hex,
    padded: Hex,
}

#[test]
fn padding_vectors_hold() {
    let vector = |message: &[u8]| PaddingVector { message: message.into(), padded: pad(message).into() };
    let expected = PaddingFile {
        description: "padded is the message's length as a big-endian u32, the message, and zeros up to the next \
                      multiple of 1024 bytes."
            .to_owned(),
        paddings: vec![vector(b""), vector(b"\0"), vector(b"message"), vector(&[7; 1020]), vector(&[7; 1021])],
    };
    for PaddingVector { message, padded } in frozen("padding.json", &expected).paddings {
        assert_eq!(Hex::from(&*padding::pad(&message).unwrap()), padded);
        assert_eq!(padding::unpad(&padded), Ok(&*message));
    }
}

#[derive(Serialize, Deserialize)]
struct CheckCodeFile {
    description: String,
    check_codes: Vec<CheckCodeVector>,
    accepted_texts: Vec<CheckCodeText>,
}

#[derive(Serialize, Deserialize)]
struct CheckCodeVector {
    exported: Hex,
    check_code: String,
}

#[derive(Serialize, Deserialize)]
struct CheckCodeText {
    text: String,
    check_code: String,
}

#[test]
fn check_code_vectors_hold() {
    let vector = |number: u64| CheckCodeVector {
        exported: number.to_be_bytes().into(),
        check_code: (1000 + number % 9000).to_string(),
    };
    let text = |text: &str| CheckCodeText { text: text.to_owned(), check_code: "4711".to_owned() };
    let expected = CheckCodeFile {
        description: "check_code is 1000 + (exported as a big-endian number mod 9000). White space in what a person \
                      types is ignored."
            .to_owned(),
        check_codes: [0, 1, 8999, 9000, 1 << 32, 0x0123_4567_89ab_cdef, u64::MAX].map(vector).into(),
        accepted_texts: ["4711", " 4711 ", "47 11", "4 7 1 1\n"].map(text).into(),
    };
    let file = frozen("check-codes.json", &expected);
    for CheckCodeVector { exported, check_code } in file.check_codes {
        assert_eq!(CheckCode::derive(exported.array()).to_string(), check_code);
    }
    for CheckCodeText { text, check_code } in file.accepted_texts {
        assert_eq!(text.parse::<CheckCode>(), check_code.parse());
    }
}

#[derive(Serialize, Deserialize)]
struct TransferFile {
    description: String,
    inputs: Inputs,
    handshake: Handshake,
    transfers: Vec<Transfer>,
    acknowledgements: Vec<Acknowledgement>,
}

#[derive(Serialize, Deserialize)]
struct Acknowledgement {
    description: String,
    frame: Hex,
}

fn transfer_vectors(suite: Suite) -> TransferFile {
    let inputs = Inputs::of(suite);
    let handshake = Handshake::of(&inputs);
    let credential = |size: usize| -> Vec<u8> {
        (0_u32..).flat_map(|block| model::sha256(&[b"credential", &block.to_be_bytes()])).take(size).collect()
    };
    let transfer = |name, size| Transfer::of(name, &inputs, &handshake, &credential(size));
    let acknowledgement = |description: &str, direction, seq| Acknowledgement {
        description: description.to_owned(),
        frame: header(direction, 5, seq).into(),
    };
    TransferFile {
        description: "One session from the QR code to the check code, and from there three credentials, each of which \
                      could follow it. See README.md for each field."
            .to_owned(),
        transfers: vec![transfer("empty", 0), transfer("one_byte", 1), transfer("two_frames", 5000)],
        acknowledgements: vec![
            acknowledgement("old has the hello, and expects the receipt next", 1, 1),
            acknowledgement("new has the reply, and expects the first credential frame next", 2, 1),
            acknowledgement("new has two credential frames, and expects a third next", 2, 3),
        ],
        inputs,
        handshake,
    }
}

#[test]
fn transfer_vectors_hold() {
    for (suite, name) in [(Suite::P256, "transfer-p256.json"), (Suite::MlKem768P256, "transfer-mlkem768-p256.json")] {
        let TransferFile { inputs, handshake, transfers, acknowledgements, .. } =
            frozen(name, &transfer_vectors(suite));
        assert_eq!(Hex::from(inputs.offer().public_key().as_bytes()), inputs.recipient_public_key);

        let (new, hello) = inputs.accept();
        assert_eq!(Hex(hello), handshake.hello.frame);
        let old = inputs.open_hello(&handshake.hello.frame).unwrap();
        assert_eq!(Hex(old.reply_frame), handshake.reply.frame);
        assert_eq!((old.peer.model(), old.peer.version()), (&*inputs.new_device.model, &*inputs.new_device.version));
        let new = new.open_reply(&handshake.reply.frame).unwrap();
        assert_eq!(new.code.to_string(), handshake.check_code);
        assert_eq!((new.peer.model(), new.peer.version()), (&*inputs.old_device.model, &*inputs.old_device.version));

        for transfer in &transfers {
            carry(&inputs, &handshake, transfer);
        }
        for Acknowledgement { frame, description } in acknowledgements {
            let (header, body) = crate::protocol::frame::Header::decode(&frame).unwrap();
            assert_eq!((header.kind, body), (FrameKind::Ack, [].as_slice()), "{description}");
            assert_eq!(Hex::from(header.encode()), frame);
        }
    }
}

fn carry(inputs: &Inputs, handshake: &Handshake, transfer: &Transfer) {
    let (channel, _) = inputs.awaiting_code();
    let typed = handshake.check_code.parse().unwrap();
    let mut sender = channel.confirm(&typed).unwrap().hand_over(Credential::new(transfer.credential.to_vec()));
    let mut receiver = Some(inputs.receiver());
    let mut arrived = None;
    for expected in &transfer.credential_frames {
        assert_eq!(sender.next_frame().unwrap().map(Hex), Some(expected.frame.clone()));
        match receiver.take().unwrap().open_chunk(&expected.frame).unwrap() {
            Received::More(more, _) => receiver = Some(more),
            Received::All(complete) => arrived = Some(complete),
        }
    }
    assert_eq!(sender.next_frame(), Ok(None));
    let (credential, receipt) = arrived.unwrap().finish().unwrap();
    assert_eq!(Hex::from(&*credential), transfer.credential);
    assert_eq!(Hex(receipt), transfer.receipt.frame);
    assert_eq!(sender.open_receipt(&transfer.receipt.frame), Ok(()));
}

#[test]
fn a_published_key_of_either_suite_fits_the_relays_limit() {
    for suite in Suite::ALL {
        assert!(PublishedKey::new(Inputs::of(suite).recipient_public_key.to_vec()).is_some());
    }
}
