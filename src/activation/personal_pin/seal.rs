//! Seals what the server must remember between KE2 and KE3, so that whoever reads the database cannot finish a login.
//!
//! AES-256-GCM under a key that follows from the setup. Says until when it may be used; not how often.

use std::time::{Duration, SystemTime};

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use hkdf::Hkdf;
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{PinError, SetupName};
use crate::activation::ids::AppId;
use crate::opaque::server::LOGIN;

/// Bytes of the nonce: random; a setup would have to serve 2^32 logins for two to meet.
const NONCE: usize = 12;

/// Bytes of the time, in milliseconds since 1970.
const UNTIL: usize = 8;

pub(super) struct SealKey(Box<Aes256Gcm>);

impl SealKey {
    pub(super) fn of(setup: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let derived = Hkdf::<Sha256>::new(Some(b"handoff/1 personal pin"), setup).expand(b"login state", key.as_mut());
        // HKDF-SHA256 gives up to 8,160 bytes.
        debug_assert!(derived.is_ok());
        Self(Box::new(Aes256Gcm::new((&*key).into())))
    }

    /// The setup's name, the nonce, and sealed: the time and the state. Bound to name and app.
    pub(super) fn seal(
        &self,
        name: SetupName,
        app: AppId,
        until: SystemTime,
        state: &[u8; LOGIN],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, PinError> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let plain = Zeroizing::new([&milliseconds(until).to_be_bytes()[..], state].concat());
        let payload = Payload { msg: &plain, aad: &aad(name, app) };
        let sealed = self.0.encrypt(&nonce.into(), payload).map_err(|_| PinError::Malformed)?;
        Ok([&name.0[..], &nonce, &sealed].concat())
    }

    pub(super) fn open(&self, app: AppId, sealed: &[u8], now: SystemTime) -> Result<Zeroizing<[u8; LOGIN]>, PinError> {
        let opened = self.open_whole(app, sealed).ok_or(PinError::NotProven)?;
        let (until, state) = opened.split_first_chunk::<UNTIL>().ok_or(PinError::NotProven)?;
        let state: [u8; LOGIN] = state.try_into().map_err(|_| PinError::NotProven)?;
        let state = Zeroizing::new(state);
        if milliseconds(now) >= u64::from_be_bytes(*until) { Err(PinError::NotProven) } else { Ok(state) }
    }

    fn open_whole(&self, app: AppId, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (name, rest) = sealed.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: ciphertext, aad: &aad(SetupName(*name), app) };
        self.0.decrypt(&(*nonce).into(), payload).ok().map(Zeroizing::new)
    }
}

fn aad(name: SetupName, app: AppId) -> Vec<u8> {
    [&name.0[..], app.as_bytes()].concat()
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
