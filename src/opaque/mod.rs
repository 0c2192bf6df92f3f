//! OPAQUE (RFC 9807): a PIN that the server can check and never sees. Bytes in, bytes out; the sides are [`client`] and
//! [`server`].
//!
//! The suite is OPAQUE-3DH on P-256 with SHA-256, HKDF and HMAC, and Argon2id as the key stretching function. What
//! each side says, in bytes as RFC 9807 has them:
//!
//! | message | bytes | from |
//! |---|---|---|
//! | registration request | 33 | client |
//! | registration response | 66 | server |
//! | registration upload | 129 | client; the server keeps it as the record |
//! | KE1 | 98 | client |
//! | KE2 | 259 | server; each one allows one guess at the PIN |
//! | KE3 | 32 | client; only whoever guessed right can make it |
//!
//! Both sides bind the name of the app (16 bytes) as credential identifier and client identity, and the context
//! `handoff/1 personal pin`. Not a rule about PINs, tries or storage: those are the callers'.
//!
//! The crate behind it is of an older generation of the same authors' crates than everything else here; no other
//! module names them, and no type of theirs leaves this one.

pub mod client;
pub mod server;

#[cfg(test)]
mod tests;

use opaque_ke::argon2::Argon2;
use opaque_ke::rand::{CryptoRng as OldCryptoRng, Error as OldError, RngCore as OldRng};
use opaque_ke::{CipherSuite, Identifiers, TripleDh};
use rand::CryptoRng;
use zeroize::Zeroizing;

/// Bytes of a registration request.
pub const REGISTRATION_REQUEST: usize = 33;
/// Bytes of a registration response.
pub const REGISTRATION_RESPONSE: usize = 66;
/// Bytes of a registration upload, and of the record.
pub const REGISTRATION_UPLOAD: usize = 129;
/// Bytes of the first login message.
pub const KE1: usize = 98;
/// Bytes of the second login message.
pub const KE2: usize = 259;
/// Bytes of the third login message.
pub const KE3: usize = 32;

/// What names an app.
pub type AppName = [u8; 16];

/// What both sides know after a login, and nobody else: 32 bytes.
pub type SessionKey = Zeroizing<[u8; 32]>;

/// Keeps these messages apart from any other use of the same suite.
const CONTEXT: &[u8] = b"handoff/1 personal pin";

/// The algorithms. Argon2id has its library's settings: 19 MiB, two passes, one lane; a phone takes tens of
/// milliseconds. It slows down only whoever has the server's key and its database; nobody else can guess at all.
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = p256_013::NistP256;
    type KeyExchange = TripleDh<p256_013::NistP256, sha2_010::Sha256>;
    type Ksf = Argon2<'static>;
}

/// A message is not one, or does not belong to this exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueError {
    /// Wrong length, or not points of the curve.
    #[error("the message is malformed")]
    Malformed,
    /// The proof is wrong: with the client, most likely the PIN; with the server, the KE3.
    #[error("the proof is wrong")]
    Wrong,
}

fn identifiers(app: &AppName) -> Identifiers<'_> {
    Identifiers { client: Some(app), server: None }
}

/// Today's randomness in the shape of yesterday's traits.
struct Randomness<'a, R>(&'a mut R);

impl<R: CryptoRng> OldRng for Randomness<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), OldError> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> OldCryptoRng for Randomness<'_, R> {}

/// The bytes of a message in an array of their length.
fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], OpaqueError> {
    bytes.try_into().map_err(|_| OpaqueError::Malformed)
}

/// RFC 9807 has one encoding of a message. The library also takes points in SEC1's compact form.
fn only_encoding(encoding: &[u8], received: &[u8]) -> Result<(), OpaqueError> {
    if encoding == received { Ok(()) } else { Err(OpaqueError::Malformed) }
}

/// `Debug` for states that hold secrets: their name.
macro_rules! hidden {
    ($($state:ident),*) => {
        $(impl std::fmt::Debug for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($state)).finish_non_exhaustive()
            }
        })*
    };
}
use hidden;
