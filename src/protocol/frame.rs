//! Data frames: what the two apps send each other in binary WebSocket frames. The relay forwards them unread.
//!
//! ```text
//! u8 version = 1 | u8 direction | u8 type | u8 flags = 0 | u64 seq, big-endian | body
//! ```

use super::Role;
use super::limits;

/// Length of the clear header in bytes.
pub const HEADER_BYTES: usize = 12;

/// The header's version byte.
pub const VERSION: u8 = 1;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// New to old, seq 0: the encapsulated key and the sealed hello.
    Hello = 1,
    /// Old to new, seq 0: the sealed answer.
    Reply = 2,
    /// Old to new: a sealed piece of the credential.
    Credential = 3,
    /// New to old: the sealed, signed receipt.
    Receipt = 4,
    /// Either way, unsealed and outside the numbering: seq is the number of the next frame expected.
    Ack = 5,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Hello, Self::Reply, Self::Credential, Self::Receipt, Self::Ack];

    /// The header's type byte.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Reply => 2,
            Self::Credential => 3,
            Self::Receipt => 4,
            Self::Ack => 5,
        }
    }
}

/// The clear header; sealed frames authenticate its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends the frame.
    pub from: Role,
    /// What the frame carries.
    pub kind: FrameKind,
    /// Number of the frame among the sender's sealed frames, counted from 0.
    pub seq: u64,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = self.seq.to_be_bytes();
        [VERSION, direction(self.from), self.kind.code(), 0, s0, s1, s2, s3, s4, s5, s6, s7]
    }

    /// Splits a frame into its header and body.
    ///
    /// # Errors
    /// [`FrameError`] names what is wrong; none repeats the frame.
    pub fn decode(frame: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        if frame.len() > limits::MAX_FRAME_BYTES {
            return Err(FrameError::TooLong);
        }
        let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().ok_or(FrameError::TooShort)?;
        let [version, from, kind, flags, seq @ ..] = *header;
        if version != VERSION {
            return Err(FrameError::UnknownVersion(version));
        }
        if flags != 0 {
            return Err(FrameError::UnknownFlags(flags));
        }
        let from = Role::BOTH.into_iter().find(|role| direction(*role) == from).ok_or(FrameError::UnknownDirection)?;
        let kind = FrameKind::ALL.into_iter().find(|k| k.code() == kind).ok_or(FrameError::UnknownKind(kind))?;
        Ok((Self { from, kind, seq: u64::from_be_bytes(seq) }, body))
    }

    /// A frame of this header and `body`.
    #[must_use]
    pub fn frame(self, body: &[u8]) -> Vec<u8> {
        [self.encode().as_slice(), body].concat()
    }
}

/// The header's direction byte.
fn direction(from: Role) -> u8 {
    match from {
        Role::Old => 1,
        Role::New => 2,
    }
}

/// Why bytes are not a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the header.
    #[error("the frame is shorter than its 12-byte header")]
    TooShort,
    /// Longer than [`limits::MAX_FRAME_BYTES`].
    #[error("the frame is longer than 64 KiB")]
    TooLong,
    /// A version that this app does not know.
    #[error("the frame has version {0}, and this app knows only 1: update the app")]
    UnknownVersion(u8),
    /// A direction byte other than 1 and 2.
    #[error("the frame has an unknown direction")]
    UnknownDirection,
    /// A type byte outside the table.
    #[error("the frame has the unknown type {0}")]
    UnknownKind(u8),
    /// Reserved bits.
    #[error("the frame has the unknown flags {0:#04x}")]
    UnknownFlags(u8),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_header_is_twelve_bytes_in_network_order() {
        let header = Header { from: Role::New, kind: FrameKind::Receipt, seq: 0x0102_0304_0506_0708 };
        assert_eq!(header.encode(), [1, 2, 4, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Header::decode(&header.frame(b"body")), Ok((header, b"body".as_slice())));
    }

    #[test]
    fn what_is_not_a_frame_is_named() {
        let good = Header { from: Role::Old, kind: FrameKind::Reply, seq: 1 }.encode();
        let with = |index: usize, value: u8| {
            let mut bytes = good;
            bytes[index] = value;
            Header::decode(&bytes).map(|_| ()).unwrap_err()
        };
        assert_eq!(Header::decode(&good[..11]).unwrap_err(), FrameError::TooShort);
        assert_eq!(Header::decode(&vec![1; limits::MAX_FRAME_BYTES + 1]).unwrap_err(), FrameError::TooLong);
        assert_eq!(with(0, 2), FrameError::UnknownVersion(2));
        assert_eq!(with(1, 3), FrameError::UnknownDirection);
        assert_eq!(with(2, 9), FrameError::UnknownKind(9));
        assert_eq!(with(3, 1), FrameError::UnknownFlags(1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((header, body)) = Header::decode(&bytes) {
                prop_assert_eq!(header.frame(body), bytes);
            }
        }
    }
}
