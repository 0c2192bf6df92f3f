//! Hashes under a secret key: what stands in for an address or a session id where the thing itself must not appear.
//!
//! Not for passwords and not for key derivation. Pure; the key's randomness is passed in.

use std::fmt;

use hkdf::HkdfExtract;
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// A key of [`Self::LEN`] bytes; zeroized when dropped, never printed.
#[derive(Clone)]
pub struct HashKey(Zeroizing<[u8; Self::LEN]>);

impl HashKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes the key over and wipes the caller's copy of the argument.
    #[must_use]
    pub fn new(mut bytes: [u8; Self::LEN]) -> Self {
        let key = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }

    /// A key that only this process knows: its hashes cannot be compared with another process's, or tomorrow's.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; Self::LEN]);
        rng.fill_bytes(key.as_mut());
        Self(key)
    }

    /// The first `N` (at most 32) bytes of HMAC-SHA256(key, u8(len purpose) || purpose || data).
    ///
    /// The purpose keeps hashes of different things apart; it is a short constant of the caller.
    #[must_use]
    pub fn hash<const N: usize>(&self, purpose: &'static str, data: &[u8]) -> [u8; N] {
        const { assert!(N <= 32, "SHA-256 has 32 bytes") };
        // HKDF-Extract is HMAC with the salt as its key (RFC 5869 section 2.2).
        let mut hmac = HkdfExtract::<Sha256>::new(Some(self.0.as_slice()));
        hmac.input_ikm(&[u8::try_from(purpose.len()).unwrap_or(u8::MAX)]);
        hmac.input_ikm(purpose.as_bytes());
        hmac.input_ikm(data);
        let (digest, _) = hmac.finalize();
        let mut hash = [0; N];
        hash.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        hash
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_hmac_sha256_of_the_purpose_and_the_data() {
        // Python: list(hmac.digest(bytes([7] * 32), b"\x04testdata", "sha256"))
        let expected: [u8; 32] = [
            81, 176, 90, 112, 66, 188, 165, 59, 158, 104, 117, 199, 227, 149, 98, 100, 173, 211, 252, 152, 221, 171,
            88, 161, 180, 34, 77, 103, 75, 137, 218, 35,
        ];
        assert_eq!(HashKey::new([7; 32]).hash("test", b"data"), expected);
        assert_eq!(HashKey::new([7; 32]).hash::<8>("test", b"data"), expected[..8]);
    }

    #[test]
    fn key_purpose_and_data_each_change_the_hash() {
        let key = HashKey::new([1; 32]);
        let hash: [u8; 8] = key.hash("a", b"bc");
        assert_eq!(hash, key.clone().hash("a", b"bc"));
        assert_ne!(hash, HashKey::new([2; 32]).hash("a", b"bc"));
        assert_ne!(hash, key.hash("ab", b"c"));
        assert_ne!(hash, key.hash("a", b"bd"));
    }

    #[test]
    fn the_key_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", HashKey::random(&mut rand::rng())), "HashKey([redacted])");
    }
}
