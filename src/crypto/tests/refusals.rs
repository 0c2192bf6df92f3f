//! The frozen list of what must fail: each entry is fed to the channel in the state that a good transfer has reached,
//! and must be refused with the error it names.

use hpke::aead::{AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeS, Serializable as _};

use super::super::padding;
use super::super::suite::Setup;
use super::hpke_vectors::bad_points;
use super::transcript::{
    Derived, Device, Handshake, Inputs, Transfer, header, pad, piece, receipt_statement, sha256, sign, upstream,
};
use super::vectors::frozen;
use super::*;
use crate::protocol::frame::Header;
use crate::protocol::ids::PublishedKey;

#[derive(Serialize, Deserialize)]
struct RefusalFile {
    description: String,
    refusals: Vec<Refusal>,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    name: String,
    description: String,
    #[serde(flatten)]
    step: Step,
    expected: String,
}

/// What is tried, and with which bytes. `transfer` names the file whose inputs lead up to it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum Step {
    ReadQrText { text: String },
    ReadQrPayload { payload: Hex },
    MakeInvitation { qr_payload: Hex, proximity_nonce: Hex },
    AcceptPublicKey { qr_payload: Hex, public_key: Hex },
    MakeProximityNonce { nonce: Hex },
    MakePsk { psk: Hex },
    ReadHeader { frame: Hex },
    Unpad { padded: Hex },
    ReadCheckCode { text: String },
    TypeCheckCode { transfer: String, text: String },
    OpenHello { transfer: String, joined_frame: u8, frame: Hex },
    OpenReply { transfer: String, frame: Hex },
    OpenCredentialFrame { transfer: String, frames_before: Vec<Hex>, frame: Hex },
    OpenReceipt { transfer: String, credential: Hex, frame: Hex },
}

impl Step {
    /// The name of the error with which the channel refuses; `None` if it does not.
    fn run(self) -> Option<String> {
        match self {
            Self::ReadQrText { text } => error(QrPayload::from_text(&text)),
            Self::ReadQrPayload { payload } => error(QrPayload::decode(&payload)),
            Self::MakeInvitation { qr_payload, proximity_nonce } => {
                error(Invitation::new(QrPayload::decode(&qr_payload).unwrap(), proximity(&proximity_nonce)))
            }
            Self::AcceptPublicKey { qr_payload, public_key } => {
                let invitation = Invitation::new(QrPayload::decode(&qr_payload).unwrap(), Proximity::none()).unwrap();
                let key = PublishedKey::new(public_key.0).unwrap();
                let device_key = DeviceKey::generate(&mut rand::rng());
                error(invitation.accept(&key, &device(), device_key, &mut rand::rng()))
            }
            Self::MakeProximityNonce { nonce } => error(Proximity::new(nonce.0)),
            // The type takes 32 bytes and nothing else, so the mistake does not get as far as a run.
            Self::MakePsk { psk } => <[u8; 32]>::try_from(&*psk).err().map(|_| "bad_psk".to_owned()),
            Self::ReadHeader { frame } => error(Header::decode(&frame)),
            Self::Unpad { padded } => error(padding::unpad(&padded)),
            Self::ReadCheckCode { text } => error(text.parse::<CheckCode>()),
            Self::TypeCheckCode { transfer, text } => {
                let (channel, _) = inputs(&transfer).awaiting_code();
                error(channel.confirm(&text.parse().unwrap(), Credential::default()))
            }
            Self::OpenHello { transfer, joined_frame, frame } => {
                error(inputs(&transfer).open_hello_after(joined_frame, &frame))
            }
            Self::OpenReply { transfer, frame } => error(inputs(&transfer).open_reply(&frame)),
            Self::OpenCredentialFrame { transfer, frames_before, frame } => {
                let open = |receiver: Receiver, frame: &Hex| match receiver.open_chunk(frame).unwrap() {
                    Received::More(more, _) => more,
                    Received::All(_) => panic!("the credential is complete"),
                };
                error(frames_before.iter().fold(inputs(&transfer).receiver(), open).open_chunk(&frame))
            }
            Self::OpenReceipt { transfer, credential, frame } => {
                let mut sender = inputs(&transfer).confirm(&credential);
                while sender.next_frame().unwrap().is_some() {}
                error(sender.open_receipt(&frame))
            }
        }
    }
}

fn hello_frame(header: &[u8], enc: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    [header, &u16::try_from(enc.len()).unwrap().to_be_bytes(), enc, ciphertext].concat()
}

/// An error's name as it stands in the files: `DoesNotOpen` is `does_not_open`.
fn error<T, E: fmt::Debug>(result: Result<T, E>) -> Option<String> {
    let printed = format!("{:?}", result.err()?);
    let name = printed.split(|c: char| !c.is_alphanumeric()).next().unwrap();
    let snake = |c: char| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.to_string() };
    Some(name.chars().map(snake).collect::<String>().trim_start_matches('_').to_owned())
}

fn proximity(nonce: &[u8]) -> Proximity {
    if nonce.is_empty() { Proximity::none() } else { Proximity::new(nonce.to_vec()).unwrap() }
}

const P256: &str = "transfer-p256.json";
const HYBRID: &str = "transfer-mlkem768-p256.json";

fn inputs(transfer: &str) -> Inputs {
    Inputs::of(if transfer == P256 { Suite::P256 } else { Suite::MlKem768P256 })
}

/// The list while it grows, and the good transfer that its entries spoil.
struct List {
    refusals: Vec<Refusal>,
    transfer: &'static str,
    inputs: Inputs,
    good: Handshake,
}

impl List {
    fn of(transfer: &'static str) -> Self {
        let inputs = inputs(transfer);
        Self { refusals: vec![], transfer, good: Handshake::of(&inputs), inputs }
    }

    fn add(&mut self, expected: &str, name: &str, description: &str, step: Step) {
        let (name, description, expected) = (name.to_owned(), description.to_owned(), expected.to_owned());
        self.refusals.push(Refusal { name, description, step, expected });
    }

    fn hello(&mut self, name: &str, description: &str, frame: impl AsRef<[u8]>) {
        let (transfer, joined_frame) = (self.transfer.to_owned(), self.inputs.frame);
        let step = Step::OpenHello { transfer, joined_frame, frame: frame.into() };
        self.add("does_not_open", name, description, step);
    }

    fn reply(&mut self, name: &str, description: &str, frame: impl AsRef<[u8]>) {
        let step = Step::OpenReply { transfer: self.transfer.to_owned(), frame: frame.into() };
        self.add("does_not_open", name, description, step);
    }

    fn chunk(&mut self, name: &str, description: &str, before: &[&Hex], frame: impl AsRef<[u8]>) {
        let frames_before = before.iter().copied().cloned().collect();
        let transfer = self.transfer.to_owned();
        let step = Step::OpenCredentialFrame { transfer, frames_before, frame: frame.into() };
        self.add("does_not_open", name, description, step);
    }

    fn receipt(&mut self, name: &str, description: &str, frame: impl AsRef<[u8]>) {
        let step = Step::OpenReceipt {
            transfer: self.transfer.to_owned(),
            credential: CREDENTIAL.into(),
            frame: frame.into(),
        };
        self.add("does_not_open", name, description, step);
    }

    /// A hello sealed with anything in it.
    fn seal_hello(&self, setup: Setup, header: &[u8], session: &[u8], padded: &[u8]) -> Vec<u8> {
        let (enc, mut context) = upstream(&self.inputs, setup);
        let ciphertext = context.seal(&[header, session].concat(), padded).unwrap();
        hello_frame(header, &enc, &ciphertext)
    }

    fn seal_good_hello(&self, setup: Setup) -> Vec<u8> {
        self.seal_hello(setup, &header(2, 1, 0), &self.inputs.session_id, &self.good.hello.padded_plaintext)
    }

    fn seal_hello_of(&self, message: &[u8]) -> Vec<u8> {
        self.seal_hello(self.good.derived.setup(), &header(2, 1, 0), &self.inputs.session_id, &pad(message))
    }

    /// A frame of old's, sealed with anything in it.
    fn seal_response(&self, header: Vec<u8>, seq: u64, session: &[u8], transcript: &[u8], padded: &[u8]) -> Vec<u8> {
        let aad = [&header, session, transcript].concat();
        self.good.downstream(header, seq, aad, &[], padded).frame.0
    }
}

const CREDENTIAL: &[u8] = b"the credential";

#[test]
fn what_must_fail_fails() {
    let mut list = List::of(P256);
    qr_codes(&mut list);
    public_keys(&mut list);
    proximity_and_psk(&mut list);
    headers_and_paddings(&mut list);
    check_codes(&mut list);
    hellos(&mut list);
    hello_messages(&mut list);
    encapsulated_keys(&mut list);
    replies(&mut list);
    credentials(&mut list);
    receipts(&mut list);
    let mut hybrid = List::of(HYBRID);
    hybrids(&mut hybrid);
    list.refusals.append(&mut hybrid.refusals);

    let description = "Each refusal is one step of one app, which must fail with the expected error. A step with a \
                       transfer starts from the state that the named file's inputs have led to just before it; \
                       everything that the step does not name is as in that file. See README.md for the steps and \
                       the errors. Besides, no state survives a failure, and an offer answers one hello, whether it \
                       opens or not.";
    let expected = RefusalFile { description: description.to_owned(), refusals: list.refusals };
    let file = frozen("refusals.json", &expected);
    let mut names = std::collections::HashSet::new();
    for Refusal { name, step, expected, .. } in file.refusals {
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert_eq!(step.run(), Some(expected), "{name}");
    }
}

fn qr_codes(list: &mut List) {
    let good = list.good.derived.qr_payload.clone();
    let with = |index: usize, value: u8| [&good[..index], &[value], &good[index + 1..]].concat();
    for (expected, name, description, payload) in [
        ("newer_version", "qr_of_another_version", "version 2", with(0, 2)),
        ("unknown_suite", "qr_of_suite_0", "no suite has the number 0", with(1, 0)),
        ("unknown_suite", "qr_of_an_unknown_suite", "suite 3", with(1, 3)),
        ("unknown_flags", "qr_with_an_unknown_flag", "bit 2 is not assigned", with(2, 4)),
        ("bad_frame_number", "qr_with_an_impossible_frame", "no session has 181 frames", with(3, 180)),
        ("bad_session_id", "qr_with_another_kind_of_uuid", "UUID version 1", with(10, 0x10)),
        ("bad_relay", "qr_with_an_empty_literal_relay", "relay id 0 and nothing behind it", with(84, 0)),
        ("bad_relay", "qr_with_a_url_as_relay", "a path", [&with(84, 0), b"host/path".as_slice()].concat()),
        ("bad_relay", "qr_with_credentials_in_the_relay", "user@host", [&with(84, 0), b"u@h".as_slice()].concat()),
        ("too_long", "qr_with_something_behind_a_listed_relay", "one byte more", [&*good, b"x"].concat()),
        ("cut", "qr_cut_short", "the relay id is missing", good[..84].to_vec()),
        ("cut", "qr_empty", "no bytes", vec![]),
    ] {
        list.add(expected, name, description, Step::ReadQrPayload { payload: payload.into() });
    }
    for (expected, name, description, text) in [
        ("foreign", "qr_text_of_something_else", "a URL", "https://example.com/"),
        ("foreign", "qr_text_with_a_lower_case_prefix", "the prefix is upper case", "ho:BB8"),
        ("bad_text", "qr_text_not_base45", "lower case letters are not in the alphabet", "HO:bb8"),
        ("bad_text", "qr_text_with_an_overflow", "three characters above 65535", "HO:GGW"),
        ("cut", "qr_text_without_payload", "only the prefix", "HO:"),
    ] {
        list.add(expected, name, description, Step::ReadQrText { text: text.to_owned() });
    }
}

fn public_keys(list: &mut List) {
    let payload = list.good.derived.qr_payload.clone();
    let public = list.inputs.recipient_public_key.clone();
    let (_, other) = DhP256HkdfSha256::derive_keypair(b"somebody else");
    for (name, description, key) in [
        ("public_key_of_somebody_else", "a valid key, not the one that was scanned", other.to_bytes().to_vec()),
        ("public_key_with_a_byte_more", "the right key and a zero", [&*public, &[0]].concat()),
        ("public_key_with_a_byte_less", "the right key, cut", public[..64].to_vec()),
    ] {
        let step = Step::AcceptPublicKey { qr_payload: payload.clone(), public_key: key.into() };
        list.add("key_mismatch", name, description, step);
    }
    for (kind, key) in bad_points().into_iter().filter(|(_, key)| !key.is_empty()) {
        let step = accept_under_its_own_hash(&payload, &key);
        let name = format!("public_key_{kind}");
        list.add("bad_key", &name, "the QR code carries the hash of an encoding that is no public key", step);
    }
}

/// The QR payload of an old app that published `key` in earnest.
fn accept_under_its_own_hash(payload: &[u8], key: &[u8]) -> Step {
    let hash = sha256(&[b"handoff/1 pk", &u16::try_from(key.len()).unwrap().to_be_bytes(), key]);
    let qr_payload = [&payload[..52], &hash, &payload[84..]].concat();
    Step::AcceptPublicKey { qr_payload: qr_payload.into(), public_key: key.into() }
}

fn proximity_and_psk(list: &mut List) {
    for (name, length) in [("empty", 0), ("one_byte", 1), ("fifteen_bytes", 15), ("too_long", 256)] {
        let step = Step::MakeProximityNonce { nonce: vec![7; length].into() };
        list.add("bad_proximity", &format!("proximity_nonce_{name}"), "16 to 255 bytes are allowed", step);
    }
    for length in [0, 31, 33] {
        let step = Step::MakePsk { psk: vec![7; length].into() };
        let description = "a pre-shared key has exactly 32 bytes, and HPKE libraries do not all check";
        list.add("bad_psk", &format!("psk_of_{length}_bytes"), description, step);
    }
    let payload = list.good.derived.qr_payload.clone();
    let demanding = |flags: u8| Hex([&payload[..2], &[flags], &payload[3..]].concat());
    let step = Step::MakeInvitation { qr_payload: demanding(1), proximity_nonce: Hex::default() };
    list.add("proximity_missing", "proximity_demanded_and_missing", "flag bit 0 without a nonce", step);
    let step = Step::MakeInvitation { qr_payload: demanding(2), proximity_nonce: Hex::default() };
    list.add("mutual_scan_unsupported", "mutual_scan_demanded", "flag bit 1, which this version refuses", step);
}

fn headers_and_paddings(list: &mut List) {
    let good = &list.good.hello.frame;
    let with = |index: usize, value: u8| [&good[..index], &[value], &good[index + 1..]].concat();
    for (expected, name, description, frame) in [
        ("unknown_version", "header_of_another_version", "version 2", with(0, 2)),
        ("unknown_direction", "header_of_no_direction", "direction 3", with(1, 3)),
        ("unknown_kind", "header_of_an_unknown_type", "type 6", with(2, 6)),
        ("unknown_flags", "header_with_a_flag", "no flag is assigned", with(3, 1)),
        ("too_short", "header_cut_short", "eleven bytes", good[..11].to_vec()),
    ] {
        list.add(expected, name, description, Step::ReadHeader { frame: frame.into() });
    }
    let padded = |length: u32, rest: &[u8], size: usize| {
        let mut padded = [length.to_be_bytes().as_slice(), rest].concat();
        padded.resize(size, 0);
        padded
    };
    for (name, description, padded) in [
        ("padding_missing", "nothing at all", vec![]),
        ("padding_without_length", "three bytes", vec![0; 3]),
        ("padding_too_short", "not a whole kilobyte", padded(1, b"x", 1023)),
        ("padding_too_long", "not a whole kilobyte", padded(1, b"x", 1025)),
        ("padding_not_minimal", "a kilobyte more than needed", padded(1, b"x", 2048)),
        ("padding_not_zero", "the last byte is not zero", [padded(1, b"x", 1023), vec![1]].concat()),
        ("padding_length_too_large", "the length passes the end", padded(1021, b"x", 1024)),
        ("padding_length_huge", "the length is 2^32 - 1", padded(u32::MAX, b"x", 1024)),
        ("padding_length_too_small", "the message goes on behind its length", padded(1, b"xy", 1024)),
    ] {
        list.add("does_not_open", name, description, Step::Unpad { padded: padded.into() });
    }
}

fn check_codes(list: &mut List) {
    for (name, text) in [
        ("empty", ""),
        ("of_three_digits", "471"),
        ("of_five_digits", "47111"),
        ("with_a_leading_zero", "0471"),
        ("with_a_sign", "+4711"),
        ("with_a_letter", "47a1"),
        ("of_other_digits", "٤٧١١"),
    ] {
        let description = "not four digits from 1000 to 9999: a slip, to be asked again, and no try";
        list.add(
            "bad_check_code",
            &format!("check_code_{name}"),
            description,
            Step::ReadCheckCode { text: text.to_owned() },
        );
    }
    let right: u16 = list.good.check_code.parse().unwrap();
    let step = Step::TypeCheckCode { transfer: list.transfer.to_owned(), text: (right ^ 1).to_string() };
    list.add("wrong_code", "check_code_wrong", "another code than new showed: one try, and the session is over", step);
}

fn hellos(list: &mut List) {
    let other_frame = Derived::of(&list.inputs, list.inputs.frame - 1);
    let with_nonce = Inputs { proximity_nonce: vec![1; 16].into(), ..list.inputs.clone() };
    let with_nonce = Derived::of(&with_nonce, list.inputs.frame);
    let of = |change: fn(&mut Setup)| {
        let mut setup = list.good.derived.setup();
        change(&mut setup);
        list.seal_good_hello(setup)
    };
    let sealed = |header: Vec<u8>| {
        let padded = &list.good.hello.padded_plaintext;
        list.seal_hello(list.good.derived.setup(), &header, &list.inputs.session_id, padded)
    };
    let other_session = SessionId::from_random([1; 16]);
    let padded = list.good.hello.padded_plaintext.clone();
    let good = list.good.hello.frame.clone();
    let seal =
        |session: &[u8], padded: &[u8]| list.seal_hello(list.good.derived.setup(), &header(2, 1, 0), session, padded);
    let not_zero = [&padded[..1023], &[1]].concat();
    let not_minimal = [&*padded, &[0; 1024]].concat();
    let frames: Vec<(&str, &str, Vec<u8>)> = vec![
        ("hello_for_another_suite", "info names suite 2", of(|setup| setup.info[18] = 2)),
        ("hello_for_another_qr_code", "info has another qr_hash", of(|setup| setup.info[19] ^= 1)),
        ("hello_with_another_psk_id", "psk_id names another frame", of(|setup| setup.psk_id[16] ^= 1)),
        ("hello_from_an_earlier_frame", "sealed from the frame before", list.seal_good_hello(other_frame.setup())),
        ("hello_with_a_proximity_nonce", "old has none", list.seal_good_hello(with_nonce.setup())),
        ("hello_without_psk", "HPKE in mode base", hello_in_mode_base(list)),
        ("hello_of_another_session", "the AAD has another session id", seal(other_session.as_bytes(), &padded)),
        ("hello_without_session_id", "the AAD is the header alone", seal(&[], &padded)),
        ("hello_in_the_other_direction", "sealed with direction 1", sealed(header(1, 1, 0))),
        ("hello_of_another_type", "sealed with type 4", sealed(header(2, 4, 0))),
        ("hello_with_number_1", "sealed with seq 1", sealed(header(2, 1, 1))),
        ("hello_of_another_version", "sealed with version 2", sealed([&[2], &header(2, 1, 0)[1..]].concat())),
        ("hello_with_a_flag", "sealed with flags 1", sealed([&[1, 2, 1, 1], &header(2, 1, 0)[4..]].concat())),
        ("hello_padded_with_ones", "the last byte is not zero", seal(&list.inputs.session_id, &not_zero)),
        ("hello_padded_too_far", "a kilobyte more than needed", seal(&list.inputs.session_id, &not_minimal)),
        ("hello_not_padded", "the message alone", seal(&list.inputs.session_id, &list.good.hello.plaintext)),
        ("hello_cut_short", "one byte less", good[..good.len() - 1].to_vec()),
        ("hello_with_a_byte_more", "one byte more", [&*good, &[0]].concat()),
        ("hello_without_ciphertext", "the encapsulated key alone", good[..12 + 2 + 65].to_vec()),
        ("hello_without_body", "the header alone", good[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.hello(name, description, frame);
    }
    let transfer = list.transfer.to_owned();
    let step = Step::OpenHello { transfer: transfer.clone(), joined_frame: list.inputs.frame + 1, frame: good.clone() };
    list.add("does_not_open", "hello_after_a_join_with_another_frame", "the relay said another frame", step);
    let step = Step::OpenHello { transfer, joined_frame: list.inputs.frames, frame: good };
    list.add("does_not_open", "hello_after_a_join_with_no_frame", "the relay said a frame that there is not", step);
}

fn hello_in_mode_base(list: &List) -> Vec<u8> {
    let public = <DhP256HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&list.inputs.recipient_public_key).unwrap();
    let mut script = Script::new(&[&list.inputs.encapsulation_randomness]);
    let info = &list.good.derived.info;
    let (enc, mut context): (_, AeadCtxS<AesGcm256, HkdfSha256, DhP256HkdfSha256>) =
        hpke::setup_sender_with_rng(&OpModeS::Base, &public, info, &mut script).unwrap();
    let ciphertext = context.seal(&list.good.hello.padded_plaintext, &list.good.hello.aad).unwrap();
    hello_frame(&header(2, 1, 0), &enc.to_bytes(), &ciphertext)
}

fn hello_messages(list: &mut List) {
    let key = list.inputs.device_public_key.clone();
    let device = list.inputs.new_device.encode();
    let hello = |key: &[u8], device: &[u8], nonce: &[u8]| {
        [&u16::try_from(key.len()).unwrap().to_be_bytes(), key, device, nonce].concat()
    };
    let named = |model: &str| Device { model: model.to_owned(), version: String::new() }.encode();
    let messages = [
        ("hello_with_a_short_nonce", "31 bytes", hello(&key, &device, &[1; 31])),
        ("hello_with_a_long_nonce", "33 bytes", hello(&key, &device, &[1; 33])),
        ("hello_with_a_long_model", "65 bytes", hello(&key, &named(&"x".repeat(65)), &[1; 32])),
        ("hello_with_a_line_break", "a control character", hello(&key, &named("a\nb"), &[1; 32])),
        ("hello_with_a_c1_control", "U+0085 in the model", hello(&key, &named("a\u{85}b"), &[1; 32])),
        ("hello_not_utf_8", "the model is not UTF-8", hello(&key, &[1, 0xff, 0], &[1; 32])),
        ("hello_empty", "no message", vec![]),
    ];
    for (name, description, message) in messages {
        let frame = list.seal_hello_of(&message);
        list.hello(name, description, frame);
    }
    for (kind, point) in bad_points() {
        let frame = list.seal_hello_of(&hello(&point, &device, &[1; 32]));
        list.hello(&format!("hello_with_signing_key_{kind}"), "the signing key is no uncompressed P-256 point", frame);
    }
}

fn encapsulated_keys(list: &mut List) {
    let ciphertext = list.good.hello.ciphertext.clone();
    for (kind, point) in bad_points() {
        let frame = hello_frame(&header(2, 1, 0), &point, &ciphertext);
        list.hello(&format!("hello_with_encapsulated_key_{kind}"), "enc is no uncompressed P-256 point", frame);
    }
    let public = list.inputs.recipient_public_key.clone();
    let frame = hello_frame(&header(2, 1, 0), &public, &ciphertext);
    list.hello("hello_with_the_recipients_own_key", "enc is old's public key", frame);
}

fn replies(list: &mut List) {
    let (good, session) = (list.good.reply.clone(), list.inputs.session_id.clone());
    let (th1, th2) = (list.good.transcript_hash_1.clone(), list.good.transcript_hash_2.clone());
    let nonce = list.inputs.response_nonce.clone();
    let reply = |header: Vec<u8>, seq: u64, session: &[u8], transcript: &[u8], padded: &[u8]| {
        let sealed = list.seal_response(header, seq, session, transcript, padded);
        [&sealed[..12], &nonce, &sealed[12..]].concat()
    };
    let padded = &good.padded_plaintext;
    let other_session = *SessionId::from_random([1; 16]).as_bytes();
    let longer = pad(&[&*good.plaintext, &[0]].concat());
    let short = pad(&good.plaintext[..good.plaintext.len() - 1]);
    let other_nonce = [&good.frame[..12], &[0; 32], &good.frame[44..]].concat();
    let frames = [
        ("reply_that_is_the_hello", "new's own frame, sent back", list.good.hello.frame.to_vec()),
        ("reply_in_the_other_direction", "sealed with direction 2", reply(header(2, 2, 0), 0, &session, &th1, padded)),
        ("reply_of_another_type", "sealed with type 3", reply(header(1, 3, 0), 0, &session, &th1, padded)),
        ("reply_with_number_1", "sealed with seq 1 and nonce 1", reply(header(1, 2, 1), 1, &session, &th1, padded)),
        ("reply_under_nonce_1", "seq 0 in the header only", reply(header(1, 2, 0), 1, &session, &th1, padded)),
        ("reply_of_another_session", "another session id", reply(header(1, 2, 0), 0, &other_session, &th1, padded)),
        ("reply_to_another_hello", "another transcript hash", reply(header(1, 2, 0), 0, &session, &th2, padded)),
        ("reply_without_transcript", "no transcript hash", reply(header(1, 2, 0), 0, &session, &[], padded)),
        ("reply_with_another_nonce", "the response nonce exchanged", other_nonce),
        ("reply_with_more_behind_it", "a byte behind the version", reply(header(1, 2, 0), 0, &session, &th1, &longer)),
        ("reply_cut_inside", "the version is cut", reply(header(1, 2, 0), 0, &session, &th1, &short)),
        ("reply_cut_short", "one byte less", good.frame[..good.frame.len() - 1].to_vec()),
        ("reply_without_ciphertext", "header and nonce alone", good.frame[..44].to_vec()),
        ("reply_without_body", "the header alone", good.frame[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.reply(name, description, frame);
    }
}

fn credentials(list: &mut List) {
    let (inputs, good) = (list.inputs.clone(), list.good.clone());
    let chunk = |seq, total, offset, data: &[u8]| good.chunk(&inputs, seq, &piece(total, offset, data)).frame;
    let first = chunk(1, 5000, 0, &[1; 4084]);
    let second = chunk(2, 5000, 4084, &[1; 916]);
    let padded = pad(&piece(1, 0, &[1]));
    let seal = |header: Vec<u8>, seq, session: &[u8], transcript: &[u8], padded: &[u8]| {
        list.seal_response(header, seq, session, transcript, padded)
    };
    let (session, th1, th2) = (&*inputs.session_id, &*good.transcript_hash_1, &*good.transcript_hash_2);
    let other_session = *SessionId::from_random([1; 16]).as_bytes();
    let not_minimal = [padded.as_slice(), &[0; 1024]].concat();
    let alone = [
        ("credential_that_is_the_reply", "the reply once more", good.reply.frame.to_vec()),
        ("credential_skipping_a_frame", "seq 2 where 1 is expected", second.to_vec()),
        ("credential_in_the_other_direction", "direction 2", seal(header(2, 3, 1), 1, session, th2, &padded)),
        ("credential_of_another_type", "type 2", seal(header(1, 2, 1), 1, session, th2, &padded)),
        ("credential_under_nonce_0", "the reply's nonce used again", seal(header(1, 3, 1), 0, session, th2, &padded)),
        ("credential_of_another_session", "session id", seal(header(1, 3, 1), 1, &other_session, th2, &padded)),
        ("credential_before_the_reply", "transcript_hash_1", seal(header(1, 3, 1), 1, session, th1, &padded)),
        ("credential_padded_too_far", "a kilobyte more", seal(header(1, 3, 1), 1, session, th2, &not_minimal)),
        ("credential_too_large", "total is 262145", chunk(1, 262_145, 0, &[1; 4084]).0),
        ("credential_starting_late", "the first offset is 1", chunk(1, 5000, 1, &[1; 4084]).0),
        ("credential_frame_too_large", "4085 bytes of data", chunk(1, 5000, 0, &[1; 4085]).0),
        ("credential_frame_beyond_total", "more data than total", chunk(1, 1, 0, &[1; 2]).0),
        ("credential_frame_without_data", "only an empty credential has an empty frame", chunk(1, 1, 0, &[]).0),
        ("credential_of_nothing_with_data", "total is 0, and there is a byte", chunk(1, 0, 0, &[1]).0),
        ("credential_of_nothing_with_offset", "total is 0, and the offset 1", chunk(1, 0, 1, &[]).0),
        ("credential_frame_without_offset", "the message is cut", good.chunk(&inputs, 1, &[0; 7]).frame.0),
    ];
    let after_first = [
        ("credential_frame_replayed", "the first frame once more", first.to_vec()),
        ("credential_frame_resealed", "the first piece under seq 2", chunk(2, 5000, 0, &[1; 4084]).0),
        ("credential_changing_its_total", "total is 5001 in the second frame", chunk(2, 5001, 4084, &[1; 917]).0),
        ("credential_with_a_gap", "an offset too high", chunk(2, 5000, 4085, &[1; 915]).0),
        ("credential_with_an_overlap", "an offset too low", chunk(2, 5000, 4083, &[1; 917]).0),
        ("credential_longer_than_total", "one byte too many", chunk(2, 5000, 4084, &[1; 917]).0),
        ("credential_offset_overflowing", "offset is 2^32 - 1", chunk(2, 5000, u32::MAX, &[1; 1]).0),
    ];
    for (name, description, frame) in alone {
        list.chunk(name, description, &[], frame);
    }
    for (name, description, frame) in after_first {
        list.chunk(name, description, &[&first], frame);
    }
}

fn receipts(list: &mut List) {
    let (inputs, good) = (list.inputs.clone(), list.good.clone());
    let right = Transfer::of("", &inputs, &good, CREDENTIAL);
    let (th1, th2) = (&*good.transcript_hash_1, &*good.transcript_hash_2);
    let key = &inputs.device_private_key;
    let (digest, other) = (sha256(&[CREDENTIAL]), sha256(&[b"another credential"]));
    let message = |digest: &[u8], signature: &[u8]| [digest, signature].concat();
    let signed = |private: &[u8], transcript: &[u8], digest: &[u8]| {
        message(digest, &sign(private, &receipt_statement(transcript, digest)))
    };
    let seal = |plaintext: Vec<u8>| good.receipt(&inputs, header(2, 4, 1), th2, plaintext).frame.0;
    let genuine = signed(key, th2, &digest);
    let flipped = [&genuine[..95], &[genuine[95] ^ 1]].concat();
    let der = p256::ecdsa::Signature::from_slice(&genuine[32..]).unwrap().to_der().as_bytes().to_vec();
    let another_key = transcript::fixed("another device");
    let sealed_as =
        |header: Vec<u8>, transcript: &[u8]| good.receipt(&inputs, header, transcript, genuine.clone()).frame.0;
    let frames = [
        ("receipt_for_another_credential", "rightly signed", seal(signed(key, th2, &other))),
        ("receipt_with_a_wrong_signature", "the last bit flipped", seal(flipped)),
        ("receipt_signed_by_another_key", "not the hello's", seal(signed(&another_key, th2, &digest))),
        ("receipt_signed_too_early", "over transcript_hash_1", seal(signed(key, th1, &digest))),
        ("receipt_signed_over_the_digest", "no label, no hash", seal(message(&digest, &sign(key, &digest)))),
        ("receipt_with_a_der_signature", "r and s are not fixed", seal(message(&digest, &der))),
        ("receipt_with_a_zero_signature", "r and s are 0", seal(message(&digest, &[0; 64]))),
        ("receipt_without_signature", "the digest alone", seal(digest.to_vec())),
        ("receipt_with_more_behind_it", "one byte more", seal([&genuine[..], &[0]].concat())),
        ("receipt_in_the_other_direction", "direction 1", sealed_as(header(1, 4, 1), th2)),
        ("receipt_of_another_type", "type 1", sealed_as(header(2, 1, 1), th2)),
        ("receipt_with_number_0", "seq 0", sealed_as(header(2, 4, 0), th2)),
        ("receipt_with_number_2", "seq 2", sealed_as(header(2, 4, 2), th2)),
        ("receipt_before_the_reply", "transcript_hash_1", sealed_as(header(2, 4, 1), th1)),
        ("receipt_that_is_the_hello", "the hello once more", good.hello.frame.to_vec()),
        ("receipt_under_the_hellos_nonce", "the first message of the context", first_of_the_context(list)),
        ("receipt_cut_short", "one byte less", right.receipt.frame[..right.receipt.frame.len() - 1].to_vec()),
        ("receipt_without_body", "the header alone", right.receipt.frame[..12].to_vec()),
    ];
    for (name, description, frame) in frames {
        list.receipt(name, description, frame);
    }
}

/// A receipt sealed as if there had been no hello.
fn first_of_the_context(list: &List) -> Vec<u8> {
    let right = Transfer::of("", &list.inputs, &list.good, CREDENTIAL).receipt;
    let (_, mut context) = upstream(&list.inputs, list.good.derived.setup());
    [&*right.header, &context.seal(&right.aad, &right.padded_plaintext).unwrap()].concat()
}

fn hybrids(list: &mut List) {
    let (enc, ciphertext) = (list.good.encapsulated_key.clone(), list.good.hello.ciphertext.clone());
    let (lattice, point) = enc.split_at(enc.len() - 65);
    let garbled = [&enc[..500], &[enc[500] ^ 1], &enc[501..]].concat();
    for (name, description, enc) in [
        ("hybrid_enc_garbled", "a bit of the ML-KEM ciphertext, which rejects implicitly", garbled),
        ("hybrid_enc_cut_short", "one byte less", enc[..enc.len() - 1].to_vec()),
        ("hybrid_enc_with_a_byte_more", "one byte more", [&*enc, &[0]].concat()),
        ("hybrid_enc_without_point", "the ML-KEM ciphertext alone", lattice.to_vec()),
        ("hybrid_enc_without_lattice", "the point alone", point.to_vec()),
        ("hybrid_enc_with_point_at_infinity", "zeros for a point", [lattice, &[0; 65]].concat()),
        ("hybrid_enc_off_curve", "a point off the curve", [&enc[..enc.len() - 1], &[enc[enc.len() - 1] ^ 1]].concat()),
    ] {
        let frame = hello_frame(&header(2, 1, 0), &enc, &ciphertext);
        list.hello(name, description, frame);
    }
    let without = Inputs { proximity_nonce: Hex::default(), ..list.inputs.clone() };
    let frame = list.seal_good_hello(Derived::of(&without, 0).setup());
    list.hello("hybrid_hello_without_proximity_nonce", "the pre-shared key lacks the nonce", frame);
    let other = Inputs { proximity_nonce: vec![1; 16].into(), ..list.inputs.clone() };
    let frame = list.seal_good_hello(Derived::of(&other, 0).setup());
    list.hello("hybrid_hello_with_another_proximity_nonce", "the nonce of another device", frame);

    let payload = [&list.good.derived.qr_payload[..2], &[0], &list.good.derived.qr_payload[3..]].concat();
    let public = list.inputs.recipient_public_key.clone();
    let (lattice, point) = public.split_at(public.len() - 65);
    for (name, description, key) in [
        ("hybrid_key_with_large_coefficients", "not below q", [&vec![0xff; lattice.len()], point].concat()),
        ("hybrid_key_with_point_at_infinity", "zeros for a point", [lattice, &[0; 65]].concat()),
        ("hybrid_key_without_lattice", "the point alone", point.to_vec()),
        ("hybrid_key_cut_short", "one byte less", public[..public.len() - 1].to_vec()),
    ] {
        let step = accept_under_its_own_hash(&payload, &key);
        list.add("bad_key", name, description, step);
    }
}
