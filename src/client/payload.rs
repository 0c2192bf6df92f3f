//! What the old app hands over: bytes that it has, or a statement about this very handoff that it makes once the check
//! code was right. Not how it travels.

use std::fmt;

use crate::crypto::{Binding, Credential};

/// Makes the credential. It may sign, but must not wait: the transfer stands still meanwhile.
type Make = Box<dyn FnOnce(&Binding) -> Credential + Send>;

/// What the old app hands over.
pub enum Payload {
    /// These bytes.
    Bytes(Credential),
    /// What this returns, asked once, after the right check code and never without it.
    Bound(Make),
}

impl Payload {
    /// A credential that names the handoff and the new device's key.
    pub fn bound(make: impl FnOnce(&Binding) -> Credential + Send + 'static) -> Self {
        Self::Bound(Box::new(make))
    }

    /// How many bytes it has, where that is known beforehand.
    pub(super) fn known_len(&self) -> Option<usize> {
        match self {
            Self::Bytes(credential) => Some(credential.len()),
            Self::Bound(_) => None,
        }
    }

    pub(super) fn make(self, binding: &Binding) -> Credential {
        match self {
            Self::Bytes(credential) => credential,
            Self::Bound(make) => make(binding),
        }
    }
}

impl From<Credential> for Payload {
    fn from(credential: Credential) -> Self {
        Self::Bytes(credential)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload([redacted])")
    }
}
