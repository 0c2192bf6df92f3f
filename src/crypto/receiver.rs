//! New's side after the reply: collects the credential and signs its receipt. Not what the app does with either.

use super::binding::Binding;
use super::device::DeviceKey;
use super::message::{self, Chunk};
use super::padding::pad;
use super::response::Response;
use super::schedule::{self, Digest};
use super::sender::RECEIPT;
use super::suite::SealingContext;
use super::{ChannelError, Credential, Progress, opaque};
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::ids::SessionId;

/// New's channel: takes the credential in order, without gaps.
pub struct Receiver {
    response: Response,
    context: SealingContext,
    reply_hash: Digest,
    device_key: DeviceKey,
    /// What has arrived, and how long the whole is; `None` before the first piece.
    credential: Option<(Credential, usize)>,
}

impl Receiver {
    pub(super) fn new(response: Response, context: SealingContext, reply_hash: Digest, device_key: DeviceKey) -> Self {
        Self { response, context, reply_hash, device_key, credential: None }
    }

    /// Opens the next piece of the credential.
    ///
    /// # Errors
    /// [`ChannelError::DoesNotOpen`] for any other frame; what has arrived is cleared.
    pub fn open_chunk(mut self, frame: &[u8]) -> Result<Received, ChannelError> {
        let (header, ciphertext) = Header::decode(frame).map_err(|_| ChannelError::DoesNotOpen)?;
        let message = self.response.open(FrameKind::Credential, header, &self.reply_hash, ciphertext)?;
        let chunk = Chunk::decode(&message)?;
        // Reserved at once: growing would leave uncleared copies behind.
        let (mut credential, total) =
            self.credential.take().unwrap_or_else(|| (Credential::new(Vec::with_capacity(chunk.total)), chunk.total));
        if chunk.total != total || chunk.offset != credential.len() {
            return Err(ChannelError::DoesNotOpen);
        }
        credential.extend(chunk.data);
        let progress = Progress { sent: credential.len(), total };
        if progress.sent < total {
            self.credential = Some((credential, total));
            return Ok(Received::More(self, progress));
        }
        let Self { response, context, reply_hash, device_key, .. } = self;
        Ok(Received::All(Complete { session: response.session(), context, reply_hash, device_key, credential }))
    }
}

/// What one piece of the credential leads to.
#[derive(Debug)]
pub enum Received {
    /// There is more to come.
    More(Receiver, Progress),
    /// That was the last.
    All(Complete),
}

/// New's channel with the whole credential.
pub struct Complete {
    session: SessionId,
    context: SealingContext,
    reply_hash: Digest,
    device_key: DeviceKey,
    credential: Credential,
}

impl Complete {
    /// What a statement about this handoff must name.
    #[must_use]
    pub fn binding(&self) -> Binding {
        Binding::new(self.reply_hash, &self.device_key.verifier())
    }

    /// The credential, and the receipt frame to send once it is safely stored.
    ///
    /// # Errors
    /// [`ChannelError::DoesNotSeal`] if the receipt cannot be sealed.
    pub fn finish(mut self) -> Result<(Credential, Vec<u8>), ChannelError> {
        let digest = schedule::credential_digest(&self.credential);
        let signature = self.device_key.sign(&schedule::receipt_statement(&self.reply_hash, &digest));
        let aad = schedule::aad(RECEIPT, self.session, &self.reply_hash);
        let ciphertext = self.context.seal(&aad, &pad(&message::encode_receipt(&digest, &signature))?)?;
        Ok((self.credential, RECEIPT.frame(&ciphertext)))
    }
}

opaque!(Receiver, Complete);
