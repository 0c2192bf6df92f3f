//! The personal PIN's registration (OPAQUE, RFC 9807), the server's side: it learns nothing that a guess of the PIN could
//! be tested with, unless it has its own key too.

use std::fmt;

use opaque_ke::ciphersuite::CipherSuite;
use opaque_ke::rand::{CryptoRng, RngCore};
use opaque_ke::{RegistrationRequest, RegistrationUpload, ServerRegistration, ServerSetup};
use zeroize::Zeroizing;

/// P-256 and SHA-256 throughout.
pub(crate) struct Suite;

impl CipherSuite for Suite {
    type OprfCs = p256_013::NistP256;
    type KeyExchange = opaque_ke::TripleDh<p256_013::NistP256, sha2_010::Sha256>;
    type Ksf = opaque_ke::argon2::Argon2<'static>;
}

/// A message that cannot be read, or a key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message of the personal PIN's protocol is malformed")]
pub struct BadMessage;

/// The server's key.
pub struct PinServer(ServerSetup<Suite>);

impl PinServer {
    /// A new key, for a file.
    #[must_use]
    pub fn generate() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(ServerSetup::<Suite>::new(&mut OlderRng(rand::rng())).serialize().to_vec())
    }

    /// The key of a file.
    ///
    /// # Errors
    /// [`BadMessage`] if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadMessage> {
        ServerSetup::deserialize(bytes).map(Self).map_err(|_| BadMessage)
    }

    /// Answers a registration request for this app.
    ///
    /// # Errors
    /// [`BadMessage`] if it is none.
    pub fn register(&self, app: &[u8], request: &[u8]) -> Result<Vec<u8>, BadMessage> {
        let request = RegistrationRequest::deserialize(request).map_err(|_| BadMessage)?;
        let started = ServerRegistration::<Suite>::start(&self.0, request, app).map_err(|_| BadMessage)?;
        Ok(started.message.serialize().to_vec())
    }

    /// The record of a registration upload.
    ///
    /// # Errors
    /// [`BadMessage`] if it is none.
    pub fn record(&self, upload: &[u8]) -> Result<Vec<u8>, BadMessage> {
        let upload = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| BadMessage)?;
        Ok(ServerRegistration::finish(upload).serialize().to_vec())
    }
}

impl fmt::Debug for PinServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinServer([redacted])")
    }
}

/// Randomness for the generation of traits that opaque-ke takes.
struct OlderRng(rand::rngs::ThreadRng);

impl RngCore for OlderRng {
    fn next_u32(&mut self) -> u32 {
        rand::Rng::next_u32(&mut self.0)
    }

    fn next_u64(&mut self) -> u64 {
        rand::Rng::next_u64(&mut self.0)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        rand::Rng::fill_bytes(&mut self.0, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), opaque_ke::rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for OlderRng {}
