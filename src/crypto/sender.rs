//! Old's side after the check code: seals the credential and checks the receipt. Not reachable without the code.

use subtle::ConstantTimeEq as _;

use super::binding::Binding;
use super::device::DevicePublicKey;
use super::message::{self, Chunk};
use super::padding::unpad;
use super::response::Response;
use super::schedule::{self, Digest};
use super::suite::OpeningContext;
use super::{ChannelError, Credential, Progress, opaque};
use crate::protocol::Role;
use crate::protocol::frame::{FrameKind, Header};

/// The only header that a receipt can have.
pub(super) const RECEIPT: Header = Header { from: Role::New, kind: FrameKind::Receipt, seq: 1 };

/// Old's channel to the device on which the person read the check code: what it is bound to may now be signed.
pub struct Confirmed {
    pub(super) response: Response,
    pub(super) context: OpeningContext,
    pub(super) reply_hash: Digest,
    pub(super) peer_key: DevicePublicKey,
}

impl Confirmed {
    /// What a statement about this handoff names.
    #[must_use]
    pub fn binding(&self) -> Binding {
        Binding::new(self.reply_hash, &self.peer_key)
    }

    /// Takes what is to be handed over.
    #[must_use]
    pub fn hand_over(self, credential: Credential) -> Sender {
        let digest = schedule::credential_digest(&credential);
        let progress = Progress { sent: 0, total: credential.len() };
        let Self { response, context, reply_hash, peer_key } = self;
        Sender { response, context, reply_hash, peer_key, digest, credential: Some(credential), progress }
    }
}

/// Old's channel with a credential to send.
pub struct Sender {
    response: Response,
    context: OpeningContext,
    reply_hash: Digest,
    peer_key: DevicePublicKey,
    digest: Digest,
    /// Cleared as soon as its last byte is sealed.
    credential: Option<Credential>,
    progress: Progress,
}

impl Sender {
    /// Seals the next piece of the credential; `None` after the last. An empty credential has one piece.
    ///
    /// # Errors
    /// [`ChannelError::CredentialTooLarge`] before the first piece of a credential that is.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let Some(credential) = &self.credential else { return Ok(None) };
        let chunk = Chunk::at(self.progress.sent, credential);
        let (header, ciphertext) = self.response.seal(FrameKind::Credential, &self.reply_hash, &chunk.encode()?)?;
        self.progress.sent = chunk.end();
        if self.progress.sent == self.progress.total {
            self.credential = None;
        }
        Ok(Some(header.frame(&ciphertext)))
    }

    /// How much of the credential is sealed.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Checks the receipt: new holds exactly this credential, and signed so.
    ///
    /// # Errors
    /// [`ChannelError::DoesNotOpen`] for anything else, and for a receipt before the last piece was sealed.
    pub fn open_receipt(mut self, frame: &[u8]) -> Result<(), ChannelError> {
        let (Ok((RECEIPT, ciphertext)), None) = (Header::decode(frame), &self.credential) else {
            return Err(ChannelError::DoesNotOpen);
        };
        let aad = schedule::aad(RECEIPT, self.response.session(), &self.reply_hash);
        let padded = self.context.open(&aad, ciphertext)?;
        let (digest, signature) = message::decode_receipt(unpad(&padded)?)?;
        if !bool::from(self.digest.ct_eq(digest)) {
            return Err(ChannelError::DoesNotOpen);
        }
        self.peer_key.verify(&schedule::receipt_statement(&self.reply_hash, digest), signature)
    }
}

opaque!(Confirmed, Sender);
