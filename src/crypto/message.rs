//! The plaintexts inside sealed frames: hello, reply, chunk and receipt. Not their padding and not their frames. Nothing
//! may follow what a message consists of.

use zeroize::Zeroizing;

use super::ChannelError;
use super::device::{DeviceInfo, DevicePublicKey, SIGNATURE_BYTES};
use super::schedule::Digest;
use crate::protocol::limits;

/// Most bytes of a credential in one chunk: with both numbers and the padding's length exactly 4 KiB.
const MAX_DATA_BYTES: usize = 4096 - 4 - 8;

/// New's first message: its signing key, what device it is, and 32 fresh random bytes.
pub(super) fn encode_hello(key: &[u8], device: &DeviceInfo, nonce: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    // An uncompressed point has 65 bytes.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    Zeroizing::new([length.as_slice(), key, &encode_device(device), nonce].concat())
}

/// What old needs of a hello.
pub(super) fn decode_hello(message: &[u8]) -> Result<(DevicePublicKey, DeviceInfo), ChannelError> {
    let (length, rest) = message.split_first_chunk().ok_or(ChannelError::DoesNotOpen)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (key, rest) = rest.split_at_checked(length).ok_or(ChannelError::DoesNotOpen)?;
    let (device, nonce) = split_device(rest)?;
    if nonce.len() != 32 {
        return Err(ChannelError::DoesNotOpen);
    }
    Ok((DevicePublicKey::decode(key)?, device))
}

/// A device's texts; old's reply is nothing else.
pub(super) fn encode_device(device: &DeviceInfo) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * (1 + 64)));
    for text in [device.model(), device.version()] {
        // A device's texts have at most 64 bytes.
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend(text.bytes());
    }
    bytes
}

pub(super) fn decode_reply(message: &[u8]) -> Result<DeviceInfo, ChannelError> {
    match split_device(message)? {
        (device, []) => Ok(device),
        _ => Err(ChannelError::DoesNotOpen),
    }
}

fn split_device(bytes: &[u8]) -> Result<(DeviceInfo, &[u8]), ChannelError> {
    let (model, rest) = split_text(bytes).ok_or(ChannelError::DoesNotOpen)?;
    let (version, rest) = split_text(rest).ok_or(ChannelError::DoesNotOpen)?;
    Ok((DeviceInfo::new(model, version).map_err(|_| ChannelError::DoesNotOpen)?, rest))
}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// A piece of the credential.
pub(super) struct Chunk<'a> {
    /// Bytes of the whole credential.
    pub(super) total: usize,
    /// Bytes of it that went before.
    pub(super) offset: usize,
    pub(super) data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The piece at `offset`.
    pub(super) fn at(offset: usize, credential: &'a [u8]) -> Self {
        let rest = credential.get(offset..).unwrap_or_default();
        Self { total: credential.len(), offset, data: rest.get(..MAX_DATA_BYTES).unwrap_or(rest) }
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        if self.total > limits::MAX_CREDENTIAL_BYTES {
            return Err(ChannelError::CredentialTooLarge);
        }
        let number = |value| u32::try_from(value).map(u32::to_be_bytes).map_err(|_| ChannelError::CredentialTooLarge);
        Ok(Zeroizing::new([number(self.total)?.as_slice(), &number(self.offset)?, self.data].concat()))
    }

    /// Reads a piece that fits into its whole. Only an empty credential has an empty piece: others would never end.
    pub(super) fn decode(message: &'a [u8]) -> Result<Self, ChannelError> {
        let chunk = Self::split(message).ok_or(ChannelError::DoesNotOpen)?;
        let fits = chunk.total <= limits::MAX_CREDENTIAL_BYTES
            && chunk.data.len() <= MAX_DATA_BYTES
            && chunk.end() <= chunk.total
            && chunk.data.is_empty() == (chunk.total == 0);
        fits.then_some(chunk).ok_or(ChannelError::DoesNotOpen)
    }

    fn split(message: &'a [u8]) -> Option<Self> {
        let (total, rest) = message.split_first_chunk()?;
        let (offset, data) = rest.split_first_chunk()?;
        let number = |bytes: &[u8; 4]| usize::try_from(u32::from_be_bytes(*bytes)).ok();
        Some(Self { total: number(total)?, offset: number(offset)?, data })
    }

    /// Bytes of the credential up to the end of this piece.
    pub(super) fn end(&self) -> usize {
        self.offset.saturating_add(self.data.len())
    }
}

/// New's last message: the credential's digest, signed.
pub(super) fn encode_receipt(digest: &Digest, signature: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    [digest.as_slice(), signature].concat()
}

pub(super) fn decode_receipt(message: &[u8]) -> Result<(&Digest, &[u8; SIGNATURE_BYTES]), ChannelError> {
    let (digest, rest) = message.split_first_chunk().ok_or(ChannelError::DoesNotOpen)?;
    Ok((digest, rest.try_into().map_err(|_| ChannelError::DoesNotOpen)?))
}
