//! Old's side up to the check code: the offer that its QR frames show, and the one hello that may answer it. Not what
//! comes after the code: that is `sender`.

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::check_code::{CheckCode, WrongCode};
use super::device::{DeviceInfo, DevicePublicKey};
use super::padding::unpad;
use super::proximity::Proximity;
use super::response::{self, Response};
use super::schedule::{self, Digest};
use super::sender::Confirmed;
use super::suite::{OpeningContext, SecretKey};
use super::{ChannelError, message, opaque};
use crate::protocol::Role;
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::ids::{JoinHash, PublishedKey, SessionId};
use crate::protocol::limits;
use crate::protocol::qr::{Demands, QrPayload, RelayRef, Suite};

/// The only header that a hello can have.
pub(super) const HELLO: Header = Header { from: Role::New, kind: FrameKind::Hello, seq: 0 };

/// What old decides about an offer.
#[derive(Clone, Debug)]
pub struct OfferSettings {
    /// The cipher suite.
    pub suite: Suite,
    /// What the QR code demands of new.
    pub demands: Demands,
    /// The session's id, fresh and random.
    pub session: SessionId,
    /// Where new finds the session.
    pub relay: RelayRef,
    /// How many QR frames there are, 1 to [`limits::MAX_FRAMES`].
    pub frames: u8,
}

/// An offer: old's key pair, and the secrets of its QR frames.
pub struct Offer {
    settings: OfferSettings,
    secret: SecretKey,
    public: PublishedKey,
    session_prk: Box<Zeroizing<[u8; 32]>>,
}

impl Offer {
    /// Makes an offer with fresh keys.
    ///
    /// # Errors
    /// [`ChannelError::MutualScanUnsupported`] and [`ChannelError::BadFrameCount`] for settings that cannot be met.
    pub fn new(settings: OfferSettings, rng: &mut impl CryptoRng) -> Result<Self, ChannelError> {
        if settings.demands.mutual_scan {
            return Err(ChannelError::MutualScanUnsupported);
        }
        if !(1..=limits::MAX_FRAMES).contains(&usize::from(settings.frames)) {
            return Err(ChannelError::BadFrameCount);
        }
        let (secret, public) = SecretKey::generate(settings.suite, rng)?;
        let mut session_prk = Box::new(Zeroizing::new([0; 32]));
        rng.fill_bytes(session_prk.as_mut_slice());
        Ok(Self { settings, secret, public, session_prk })
    }

    /// The key to publish through the relay.
    #[must_use]
    pub fn public_key(&self) -> &PublishedKey {
        &self.public
    }

    /// The hashes under which the relay knows the frames' join proofs, in order.
    #[must_use]
    pub fn join_hashes(&self) -> Vec<JoinHash> {
        let secrets = (0..self.settings.frames).map(|frame| schedule::frame_secret(&self.session_prk, frame));
        secrets.map(|secret| JoinHash::of(&schedule::join_proof(&secret))).collect()
    }

    /// What QR frame number `frame` shows; `None` past the last.
    #[must_use]
    pub fn qr(&self, frame: u8) -> Option<QrPayload> {
        (frame < self.settings.frames).then(|| QrPayload {
            suite: self.settings.suite,
            demands: self.settings.demands,
            frame,
            session: self.settings.session,
            frame_secret: schedule::frame_secret(&self.session_prk, frame),
            key_hash: schedule::key_hash(&self.public),
            relay: self.settings.relay.clone(),
        })
    }

    /// How many QR frames there are.
    #[must_use]
    pub fn frames(&self) -> u8 {
        self.settings.frames
    }

    /// Opens the hello of the app that scanned frame `joined_frame`, and answers it.
    ///
    /// Consumes the offer: one encapsulated key a session, ever, whether it opens or not. The private key and the
    /// pre-shared key are gone before the hello is even read. Whether `joined_frame` is still fresh enough is the
    /// caller's to check.
    ///
    /// # Errors
    /// [`ChannelError::ProximityMissing`] if the QR code demands a nonce that old has not got itself,
    /// [`ChannelError::DoesNotOpen`] for everything wrong with the frame.
    pub fn open_hello(
        self,
        joined_frame: u8,
        proximity: &Proximity,
        hello_frame: &[u8],
        device: &DeviceInfo,
        rng: &mut impl CryptoRng,
    ) -> Result<OpenedHello, ChannelError> {
        let payload = self.qr(joined_frame).ok_or(ChannelError::DoesNotOpen)?;
        proximity.meets(payload.demands)?;
        let session = payload.session;
        let root = schedule::root(&payload);
        let (enc, ciphertext) = split_hello(hello_frame)?;
        let mut context = self.secret.receive(enc, schedule::setup(&payload, &root, proximity))?;
        drop((payload, self.session_prk));

        let padded = context.open(&schedule::aad(HELLO, session, &[]), ciphertext)?;
        let (peer_key, peer) = message::decode_hello(unpad(&padded)?)?;
        let hello_hash = schedule::hello_hash(&root, enc, ciphertext);

        let mut nonce = [0; response::NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let mut response = Response::new(session, enc, &nonce, &*context.export(schedule::RESPONSE_EXPORT)?);
        let (header, ciphertext) = response.seal(FrameKind::Reply, &hello_hash, &message::encode_device(device))?;
        let reply_frame = header.frame(&[nonce.as_slice(), &ciphertext].concat());
        let reply_hash = schedule::reply_hash(&hello_hash, &nonce, &ciphertext);

        let code = CheckCode::derive(*context.export(&schedule::code_export(&reply_hash))?);
        let channel = AwaitingCode { response, context, reply_hash, peer_key, code };
        Ok(OpenedHello { channel, peer, reply_frame })
    }
}

/// The encapsulated key and the ciphertext of a hello frame.
fn split_hello(frame: &[u8]) -> Result<(&[u8], &[u8]), ChannelError> {
    let Ok((HELLO, body)) = Header::decode(frame) else { return Err(ChannelError::DoesNotOpen) };
    let (length, rest) = body.split_first_chunk().ok_or(ChannelError::DoesNotOpen)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(ChannelError::DoesNotOpen)
}

/// What an accepted hello gives.
#[derive(Debug)]
pub struct OpenedHello {
    /// The channel, which can do nothing before the code was typed.
    pub channel: AwaitingCode,
    /// What the other app says about its device. Unconfirmed: show it, do not trust it.
    pub peer: DeviceInfo,
    /// To be sent.
    pub reply_frame: Vec<u8>,
}

/// Old's channel while the person types the check code. It may be with anybody who saw the QR code.
pub struct AwaitingCode {
    response: Response,
    context: OpeningContext,
    reply_hash: Digest,
    peer_key: DevicePublicKey,
    code: CheckCode,
}

impl AwaitingCode {
    /// Compares the code that was typed, in constant time. One try: a wrong code is the end of the channel.
    ///
    /// # Errors
    /// [`WrongCode`] if it is another one.
    pub fn confirm(self, typed: &CheckCode) -> Result<Confirmed, WrongCode> {
        if !bool::from(self.code.ct_eq(typed)) {
            return Err(WrongCode);
        }
        let Self { response, context, reply_hash, peer_key, .. } = self;
        Ok(Confirmed { response, context, reply_hash, peer_key })
    }
}

opaque!(Offer, AwaitingCode);
