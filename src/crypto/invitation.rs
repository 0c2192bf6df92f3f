//! New's side up to the check code: a scanned QR frame, the hello that answers it, and the reply. Not the credential:
//! that is `receiver`.

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;

use super::check_code::CheckCode;
use super::device::{DeviceInfo, DeviceKey};
use super::offer::HELLO;
use super::padding::pad;
use super::proximity::Proximity;
use super::receiver::Receiver;
use super::response::Response;
use super::schedule::{self, Digest};
use super::suite::{self, SealingContext};
use super::{ChannelError, message, opaque};
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::ids::{JoinProof, PublishedKey, SessionId};
use crate::protocol::qr::QrPayload;

/// A scanned QR frame whose demands can be met.
pub struct Invitation {
    payload: QrPayload,
    proximity: Proximity,
}

impl Invitation {
    /// Takes a scanned frame.
    ///
    /// # Errors
    /// [`ChannelError::MutualScanUnsupported`] and [`ChannelError::ProximityMissing`] for demands that cannot be met.
    pub fn new(payload: QrPayload, proximity: Proximity) -> Result<Self, ChannelError> {
        if payload.demands.mutual_scan {
            return Err(ChannelError::MutualScanUnsupported);
        }
        proximity.meets(payload.demands)?;
        Ok(Self { payload, proximity })
    }

    /// The session to join.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.payload.session
    }

    /// The number of the scanned frame.
    #[must_use]
    pub fn frame(&self) -> u8 {
        self.payload.frame
    }

    /// What proves to the relay that the frame was scanned. The relay learns nothing else from it.
    #[must_use]
    pub fn join_proof(&self) -> JoinProof {
        schedule::join_proof(&self.payload.frame_secret)
    }

    /// Seals the hello to old's key, once it is known to be the key that the QR code names.
    ///
    /// # Errors
    /// [`ChannelError::KeyMismatch`] if it is not, [`ChannelError::BadKey`] if it is and is no valid key.
    pub fn accept(
        self,
        key: &PublishedKey,
        device: &DeviceInfo,
        device_key: DeviceKey,
        rng: &mut impl CryptoRng,
    ) -> Result<(AwaitingReply, Vec<u8>), ChannelError> {
        let payload = self.payload;
        if !bool::from(schedule::key_hash(key).ct_eq(&payload.key_hash)) {
            return Err(ChannelError::KeyMismatch);
        }
        let session = payload.session;
        let root = schedule::root(&payload);
        let setup = schedule::setup(&payload, &root, &self.proximity);
        let (enc, mut context) = suite::send(payload.suite, key, setup, rng)?;
        drop((payload, self.proximity));

        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let hello = pad(&message::encode_hello(&device_key.public(), device, &nonce))?;
        let ciphertext = context.seal(&schedule::aad(HELLO, session, &[]), &hello)?;
        // The longest encapsulated key has 1,153 bytes.
        let length = u16::try_from(enc.len()).unwrap_or(u16::MAX).to_be_bytes();
        let frame = HELLO.frame(&[length.as_slice(), &enc, &ciphertext].concat());

        let hello_hash = schedule::hello_hash(&root, &enc, &ciphertext);
        Ok((AwaitingReply { session, enc, context, hello_hash, device_key }, frame))
    }
}

/// New's channel while it waits for the reply.
pub struct AwaitingReply {
    session: SessionId,
    enc: Vec<u8>,
    context: SealingContext,
    hello_hash: Digest,
    device_key: DeviceKey,
}

impl AwaitingReply {
    /// Opens the reply: now old is known to hold the QR code's secret and private key, and the check code may be shown.
    ///
    /// # Errors
    /// [`ChannelError::DoesNotOpen`] for everything wrong with the frame.
    pub fn open_reply(self, frame: &[u8]) -> Result<OpenedReply, ChannelError> {
        let (header, body) = Header::decode(frame).map_err(|_| ChannelError::DoesNotOpen)?;
        let (nonce, ciphertext) = body.split_first_chunk().ok_or(ChannelError::DoesNotOpen)?;
        let exported = self.context.export(schedule::RESPONSE_EXPORT)?;
        let mut response = Response::new(self.session, &self.enc, nonce, &exported);
        let reply = response.open(FrameKind::Reply, header, &self.hello_hash, ciphertext)?;
        let peer = message::decode_reply(&reply)?;

        let reply_hash = schedule::reply_hash(&self.hello_hash, nonce, ciphertext);
        let code = CheckCode::derive(*self.context.export(&schedule::code_export(&reply_hash))?);
        let channel = Receiver::new(response, self.context, reply_hash, self.device_key);
        Ok(OpenedReply { channel, code, peer })
    }
}

/// What an accepted reply gives.
#[derive(Debug)]
pub struct OpenedReply {
    /// The channel, ready for the credential.
    pub channel: Receiver,
    /// To be shown; the person types it into old.
    pub code: CheckCode,
    /// What old says about its device.
    pub peer: DeviceInfo,
}

opaque!(Invitation, AwaitingReply);
