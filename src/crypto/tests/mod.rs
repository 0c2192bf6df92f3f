//! Tests of the whole channel, and what they share: bytes in hexadecimal, randomness that was written down beforehand,
//! and a pair of apps.

mod behaviour;
mod hpke_vectors;
mod inputs;
mod model;
mod refusals;
mod vectors;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;

use rand::{TryCryptoRng, TryRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::*;
use crate::protocol::ids::SessionId;
use crate::protocol::qr::{Demands, QrPayload, RelayRef, Suite};

/// Bytes that are hexadecimal in a file.
#[derive(Clone, PartialEq, Eq, Default)]
struct Hex(Vec<u8>);

impl Hex {
    fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().unwrap()
    }
}

impl<T: AsRef<[u8]>> From<T> for Hex {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl std::ops::Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16));
        pairs.collect::<Result<_, _>>().map(Self).map_err(de::Error::custom)
    }
}

/// Randomness that was written down beforehand. Panics when asked for more.
struct Script {
    bytes: VecDeque<u8>,
    /// Whether it also panics when less was asked for.
    is_needed: bool,
}

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Self { bytes: parts.concat().into(), is_needed: true }
    }

    /// For what fails before it draws, or does not.
    fn if_needed(parts: &[&[u8]]) -> Self {
        Self { bytes: parts.concat().into(), is_needed: false }
    }
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.bytes.pop_front().expect("more randomness than was written down");
        }
        Ok(())
    }
}

impl TryCryptoRng for Script {}

impl Drop for Script {
    fn drop(&mut self) {
        let is_left = self.is_needed && !self.bytes.is_empty();
        assert!(std::thread::panicking() || !is_left, "randomness left over");
    }
}

fn settings(suite: Suite) -> OfferSettings {
    OfferSettings {
        suite,
        demands: Demands::default(),
        session: SessionId::from_random([0x5a; 16]),
        relay: RelayRef::Listed(std::num::NonZeroU8::MIN),
        frames: 36,
    }
}

fn device() -> DeviceInfo {
    DeviceInfo::new("Pixel 9", "4.2.0").unwrap()
}

/// An offer, and its frame 7 as scanned.
fn offer(suite: Suite) -> (Offer, QrPayload) {
    let offer = Offer::new(settings(suite), &mut rand::rng()).unwrap();
    let scanned = offer.qr(7).unwrap();
    (offer, scanned)
}

/// Old, new, and the hello between them.
fn greeted(suite: Suite) -> (Offer, AwaitingReply, Vec<u8>) {
    let mut rng = rand::rng();
    let (offer, scanned) = offer(suite);
    let invitation = Invitation::new(scanned, Proximity::none()).unwrap();
    let key = DeviceKey::generate(&mut rng);
    let (new, hello) = invitation.accept(offer.public_key(), &device(), key, &mut rng).unwrap();
    (offer, new, hello)
}

fn open_hello(offer: Offer, hello: &[u8]) -> Result<OpenedHello, ChannelError> {
    offer.open_hello(7, &Proximity::none(), hello, &device(), &mut rand::rng())
}

/// Both apps when the check code was typed.
fn confirmed(suite: Suite, credential: &[u8]) -> (Sender, Receiver) {
    let (offer, new, hello) = greeted(suite);
    let old = open_hello(offer, &hello).unwrap();
    let new = new.open_reply(&old.reply_frame).unwrap();
    (old.channel.confirm(&new.code).unwrap().hand_over(Credential::new(credential.to_vec())), new.channel)
}

/// Both apps when the credential has arrived.
fn transferred(suite: Suite, credential: &[u8]) -> (Sender, Complete) {
    let (mut sender, mut receiver) = confirmed(suite, credential);
    loop {
        match receiver.open_chunk(&sender.next_frame().unwrap().unwrap()).unwrap() {
            Received::More(more, _) => receiver = more,
            Received::All(complete) => return (sender, complete),
        }
    }
}
