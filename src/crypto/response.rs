//! The response keys: AES-256-GCM for everything that old sends, one number after the other. Not HPKE, whose contexts
//! seal in one direction only; derived from it the way RFC 9458 section 4.4 does.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use zeroize::Zeroizing;

use super::ChannelError;
use super::padding::{pad, unpad};
use super::schedule::{self, Digest};
use crate::protocol::Role;
use crate::protocol::frame::{FrameKind, Header};
use crate::protocol::ids::SessionId;

/// Length of the random salt that makes the response keys fresh on old's side too.
pub(super) const NONCE_BYTES: usize = 32;

/// One end of old's direction: the key, and the number of the next frame, which is also its nonce.
pub(super) struct Response {
    cipher: Box<Aes256Gcm>,
    base_nonce: Zeroizing<[u8; 12]>,
    session: SessionId,
    next: u64,
}

impl Response {
    pub(super) fn new(session: SessionId, enc: &[u8], nonce: &[u8; NONCE_BYTES], exported: &[u8; 32]) -> Self {
        let (key, base_nonce) = schedule::response_keys(enc, nonce, exported);
        let cipher = Box::new(Aes256Gcm::new((&*key).into()));
        Self { cipher, base_nonce, session, next: 0 }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Pads and seals the next message; returns the frame's header and ciphertext.
    pub(super) fn seal(
        &mut self,
        kind: FrameKind,
        transcript: &Digest,
        message: &[u8],
    ) -> Result<(Header, Vec<u8>), ChannelError> {
        let header = self.header(kind);
        let padded = pad(message)?;
        let payload = Payload { msg: &padded, aad: &schedule::aad(header, self.session, transcript) };
        let ciphertext = self.cipher.encrypt(&self.nonce().into(), payload).map_err(|_| ChannelError::DoesNotSeal)?;
        self.advance();
        Ok((header, ciphertext))
    }

    /// Opens the next message, which must be a `kind`, and takes its padding off.
    pub(super) fn open(
        &mut self,
        kind: FrameKind,
        header: Header,
        transcript: &Digest,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        if header != self.header(kind) {
            return Err(ChannelError::DoesNotOpen);
        }
        let payload = Payload { msg: ciphertext, aad: &schedule::aad(header, self.session, transcript) };
        let padded = self.cipher.decrypt(&self.nonce().into(), payload).map_err(|_| ChannelError::DoesNotOpen)?;
        let message = Zeroizing::new(unpad(&Zeroizing::new(padded))?.to_vec());
        self.advance();
        Ok(message)
    }

    fn header(&self, kind: FrameKind) -> Header {
        Header { from: Role::Old, kind, seq: self.next }
    }

    /// `nonce_i`: the base nonce, with the number in its low 8 bytes, by exclusive or.
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = *self.base_nonce;
        nonce.iter_mut().rev().zip(self.next.to_be_bytes().into_iter().rev()).for_each(|(to, from)| *to ^= from);
        nonce
    }

    /// The largest credential has 65 frames, so this never saturates.
    fn advance(&mut self) {
        self.next = self.next.saturating_add(1);
    }
}
