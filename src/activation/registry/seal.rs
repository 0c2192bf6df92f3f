//! What protects the registry's contents: names, numbers and entered data are sealed, and looked up by keyed hashes.
//!
//! AES-256-GCM with random nonces: good for four billion values under one key. Every value is bound to its kind and its
//! row, so that a value that was moved to another row does not open. Where the key comes from is `keys`' business.

use std::fmt;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use zeroize::Zeroizing;

use crate::activation::ids::{PhoneNumber, UserId};
use crate::keyed_hash::HashKey;

const NONCE_BYTES: usize = 12;

/// A keyed hash that stands for a user ID, a number, an address or a token.
pub type Tag = [u8; 32];

/// A sealed value that does not open: another key, another row, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open: the key file is not the one that it was sealed with, or the row was changed")]
pub struct DoesNotOpen;

/// Seals values, and makes the tags that they are found by.
pub struct Sealer {
    cipher: Box<Aes256Gcm>,
    tags: HashKey,
    random: fn() -> [u8; NONCE_BYTES],
}

impl Sealer {
    /// With keys derived from the registry's; `random` makes nonces and must never repeat itself.
    #[must_use]
    pub fn new(key: &HashKey, random: fn() -> [u8; NONCE_BYTES]) -> Self {
        let cipher_key: Zeroizing<[u8; 32]> = Zeroizing::new(key.hash("registry seal", b""));
        let tags = HashKey::new(key.hash("registry tags", b""));
        Self { cipher: Box::new(Aes256Gcm::new((&*cipher_key).into())), tags, random }
    }

    /// The nonce and the ciphertext.
    ///
    /// # Errors
    /// [`DoesNotOpen`] for more than 64 GiB.
    pub fn seal(&self, kind: &'static str, row: &[u8; 16], plaintext: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        let nonce = (self.random)();
        let payload = Payload { msg: plaintext, aad: &aad(kind, row) };
        let ciphertext = self.cipher.encrypt(&nonce.into(), payload).map_err(|_| DoesNotOpen)?;
        Ok([&nonce[..], &ciphertext].concat())
    }

    /// What was sealed for this kind and row.
    ///
    /// # Errors
    /// [`DoesNotOpen`] without saying why.
    pub fn open(&self, kind: &'static str, row: &[u8; 16], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(DoesNotOpen)?;
        let payload = Payload { msg: ciphertext, aad: &aad(kind, row) };
        self.cipher.decrypt(&(*nonce).into(), payload).map(Zeroizing::new).map_err(|_| DoesNotOpen)
    }

    /// Stands for a user ID.
    #[must_use]
    pub fn user_tag(&self, id: &UserId) -> Tag {
        self.tags.hash("user ID", id.expose().as_bytes())
    }

    /// Stands for a phone number.
    #[must_use]
    pub fn number_tag(&self, number: &PhoneNumber) -> Tag {
        self.tags.hash("phone number", number.expose().as_bytes())
    }

    /// Stands for anything else, kept apart by its kind.
    #[must_use]
    pub fn tag(&self, kind: &'static str, value: &[u8]) -> Tag {
        self.tags.hash(kind, value)
    }
}

fn aad(kind: &'static str, row: &[u8; 16]) -> Vec<u8> {
    [b"handoff registry/1 ", kind.as_bytes(), b"\0", row].concat()
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&HashKey::new([key; 32]), rand::random)
    }

    #[test]
    fn a_value_opens_only_with_its_key_kind_and_row_and_unchanged() {
        let sealed = sealer(1).seal("user", &[1; 16], b"+4512345678").unwrap();
        assert_eq!(*sealer(1).open("user", &[1; 16], &sealed).unwrap(), b"+4512345678");
        assert_eq!(sealer(2).open("user", &[1; 16], &sealed), Err(DoesNotOpen));
        assert_eq!(sealer(1).open("app", &[1; 16], &sealed), Err(DoesNotOpen));
        assert_eq!(sealer(1).open("user", &[2; 16], &sealed), Err(DoesNotOpen));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer(1).open("user", &[1; 16], &changed), Err(DoesNotOpen));
            assert_eq!(sealer(1).open("user", &[1; 16], &sealed[..at]), Err(DoesNotOpen));
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same_twice() {
        let seal = || sealer(1).seal("user", &[1; 16], b"+4512345678").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn tags_differ_by_key_and_kind() {
        let number = "+4512345678".parse().unwrap();
        let tag = sealer(1).number_tag(&number);
        assert_eq!(tag, sealer(1).number_tag(&number));
        assert_ne!(tag, sealer(2).number_tag(&number));
        assert_ne!(tag, sealer(1).user_tag(&"+4512345678".parse().unwrap()));
    }
}
