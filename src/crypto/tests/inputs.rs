//! Everything that is random or chosen in a transfer, fixed, and the channel's public interface driven with it.

use hpke::kem::{DhP256HkdfSha256, MlKem768P256};
use hpke::{Kem, Serializable as _};

use super::model::sha256;
use super::*;
use crate::protocol::ids::PublishedKey;
use crate::protocol::qr::RelayHost;

/// A device, as the two apps describe theirs.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Device {
    pub(super) model: String,
    pub(super) version: String,
}

impl Device {
    fn new(model: &str, version: &str) -> Self {
        Self { model: model.to_owned(), version: version.to_owned() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [text(&self.model), text(&self.version)].concat()
    }

    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(&self.model, &self.version).unwrap()
    }
}

/// Everything that is random or chosen in a transfer.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
pub(super) struct Inputs {
    pub(super) suite: u8,
    pub(super) flags: u8,
    pub(super) frames: u8,
    pub(super) frame: u8,
    pub(super) session_id: Hex,
    pub(super) relay_id: u8,
    pub(super) relay_host: String,
    pub(super) proximity_nonce: Hex,
    pub(super) session_prk: Hex,
    pub(super) recipient_key_seed: Hex,
    pub(super) recipient_private_key: Hex,
    pub(super) recipient_public_key: Hex,
    pub(super) encapsulation_randomness: Hex,
    pub(super) ephemeral_private_key: Hex,
    pub(super) device_private_key: Hex,
    pub(super) device_public_key: Hex,
    pub(super) hello_nonce: Hex,
    pub(super) response_nonce: Hex,
    pub(super) new_device: Device,
    pub(super) old_device: Device,
}

/// Bytes that nobody chose: the hash of what they are for.
pub(super) fn fixed(purpose: &str) -> [u8; 32] {
    sha256(&[b"handoff/1 test vector: ", purpose.as_bytes()])
}

impl Inputs {
    pub(super) fn of(suite: Suite) -> Self {
        match suite {
            Suite::P256 => Self::fixed::<DhP256HkdfSha256>(suite, "p256"),
            Suite::MlKem768P256 => Self::fixed::<MlKem768P256>(suite, "mlkem768-p256"),
        }
    }

    /// Suite 1 with a listed relay and no demands; suite 2 with a literal one, a proximity nonce and one frame.
    fn fixed<K: Kem>(suite: Suite, name: &str) -> Self {
        let plain = suite == Suite::P256;
        let fixed = |purpose: &str| fixed(&format!("{name} {purpose}"));
        let (private, public) = K::gen_keypair_with_rng(&mut Script::new(&[&fixed("recipient key seed")]));
        let device: p256::SecretKey = p256::SecretKey::from_slice(&fixed("device private key")).unwrap();
        let ephemeral = fixed("encapsulation");
        let (encapsulation, ephemeral) = if plain {
            (ephemeral.to_vec(), DhP256HkdfSha256::derive_keypair(&ephemeral).0.to_bytes().to_vec())
        } else {
            let classical = fixed("ephemeral");
            ([ephemeral, classical].concat(), classical.to_vec())
        };
        Self {
            suite: suite.code(),
            flags: u8::from(!plain),
            frames: if plain { 36 } else { 1 },
            frame: if plain { 7 } else { 0 },
            session_id: SessionId::from_random(*fixed("session id").first_chunk().unwrap()).as_bytes().into(),
            relay_id: u8::from(plain),
            relay_host: if plain { "" } else { "relay.example:8443" }.to_owned(),
            proximity_nonce: if plain { Hex::default() } else { fixed("proximity nonce")[..16].into() },
            session_prk: fixed("session prk").into(),
            recipient_key_seed: fixed("recipient key seed").into(),
            recipient_private_key: private.to_bytes().into(),
            recipient_public_key: public.to_bytes().into(),
            encapsulation_randomness: encapsulation.into(),
            ephemeral_private_key: ephemeral.into(),
            device_private_key: device.to_bytes().into(),
            device_public_key: device.public_key().to_sec1_bytes().into(),
            hello_nonce: fixed("hello nonce").into(),
            response_nonce: fixed("response nonce").into(),
            new_device: Device::new("Pixel 9", "4.2.0"),
            old_device: Device::new("iPhone 13 \u{2013} Älteres", "4.1.7"),
        }
    }
}

/// The same inputs, through the channel's public interface.
impl Inputs {
    pub(super) fn suite(&self) -> Suite {
        Suite::from_code(self.suite).unwrap()
    }

    pub(super) fn offer(&self) -> Offer {
        let settings = OfferSettings {
            suite: self.suite(),
            demands: Demands { proximity: self.flags & 1 != 0, mutual_scan: self.flags & 2 != 0 },
            session: SessionId::from_bytes(self.session_id.array()).unwrap(),
            relay: match self.relay_id.try_into() {
                Ok(id) => RelayRef::Listed(id),
                Err(_) => RelayRef::Literal(RelayHost::parse(&self.relay_host).unwrap()),
            },
            frames: self.frames,
        };
        Offer::new(settings, &mut Script::new(&[&self.recipient_key_seed, &self.session_prk])).unwrap()
    }

    pub(super) fn proximity(&self) -> Proximity {
        if self.proximity_nonce.is_empty() {
            Proximity::none()
        } else {
            Proximity::new(self.proximity_nonce.to_vec()).unwrap()
        }
    }

    pub(super) fn invitation(&self) -> Invitation {
        Invitation::new(self.offer().qr(self.frame).unwrap(), self.proximity()).unwrap()
    }

    pub(super) fn accept(&self) -> (AwaitingReply, Vec<u8>) {
        let key = DeviceKey::generate(&mut Script::new(&[&self.device_private_key]));
        assert_eq!(Hex(key.public()), self.device_public_key);
        let mut script = Script::new(&[&self.encapsulation_randomness, &self.hello_nonce]);
        let published = PublishedKey::new(self.recipient_public_key.to_vec()).unwrap();
        self.invitation().accept(&published, &self.new_device.info(), key, &mut script).unwrap()
    }

    pub(super) fn open_hello(&self, frame: &[u8]) -> Result<OpenedHello, ChannelError> {
        self.open_hello_after(self.frame, frame)
    }

    pub(super) fn open_hello_after(&self, joined: u8, frame: &[u8]) -> Result<OpenedHello, ChannelError> {
        // Drawn only if the hello opens.
        let mut script = Script::if_needed(&[&self.response_nonce]);
        self.offer().open_hello(joined, &self.proximity(), frame, &self.old_device.info(), &mut script)
    }

    pub(super) fn open_reply(&self, reply: &[u8]) -> Result<OpenedReply, ChannelError> {
        self.accept().0.open_reply(reply)
    }

    fn replied(&self) -> (OpenedHello, OpenedReply) {
        let (new, hello) = self.accept();
        let old = self.open_hello(&hello).unwrap();
        let new = new.open_reply(&old.reply_frame).unwrap();
        (old, new)
    }

    pub(super) fn awaiting_code(&self) -> (AwaitingCode, CheckCode) {
        let (old, new) = self.replied();
        (old.channel, new.code)
    }

    pub(super) fn confirm(&self, credential: &[u8]) -> Sender {
        let (channel, code) = self.awaiting_code();
        channel.confirm(&code).unwrap().hand_over(Credential::new(credential.to_vec()))
    }

    pub(super) fn receiver(&self) -> Receiver {
        self.replied().1.channel
    }

    /// The receipt of a credential, and old waiting for it.
    pub(super) fn transfer(&self, credential: &[u8]) -> (Vec<u8>, Sender) {
        let (mut sender, mut receiver) = (self.confirm(credential), self.receiver());
        loop {
            match receiver.open_chunk(&sender.next_frame().unwrap().unwrap()).unwrap() {
                Received::More(more, _) => receiver = more,
                Received::All(complete) => return (complete.finish().unwrap().1, sender),
            }
        }
    }
}
