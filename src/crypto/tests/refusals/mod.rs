//! The frozen list of what must fail: each entry is fed to the channel in the state that a good transfer has reached,
//! and must be refused with the error it names.

mod handshake;
mod transfer;

use hpke::kem::DhP256HkdfSha256;
use hpke::{Kem as _, Serializable as _};

use super::super::padding;
use super::super::suite::Setup;
use super::hpke_vectors::bad_points;
use super::inputs::Inputs;
use super::model::{Handshake, header, pad, sha256, upstream};
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
                error(channel.confirm(&text.parse().unwrap()))
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

/// The list while it grows, and the good transfer that its entries spoil. Those who seal spoiled frames first assert that
/// what they seal unspoiled is the good frame: an entry must fail for the reason it names.
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
    handshake::hellos(&mut list);
    handshake::hello_messages(&mut list);
    handshake::encapsulated_keys(&mut list);
    handshake::replies(&mut list);
    transfer::credentials(&mut list);
    transfer::receipts(&mut list);
    let mut hybrid = List::of(HYBRID);
    handshake::hybrids(&mut hybrid);
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
