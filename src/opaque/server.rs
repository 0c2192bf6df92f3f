//! The server's side: its setup, which is a secret key, and one function for each message.

use opaque_ke::{
    CredentialFinalization, CredentialRequest, RegistrationRequest, RegistrationUpload, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup,
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    AppName, CONTEXT, KE1, KE2, KE3, OpaqueError, REGISTRATION_REQUEST, REGISTRATION_RESPONSE, REGISTRATION_UPLOAD,
    Randomness, SessionKey, Suite, array, hidden, identifiers, only_encoding,
};

/// Bytes of a setup: OPRF seed, private key, and the public key that stands in records of apps that do not exist.
pub const SETUP: usize = 97;

/// Bytes of what the server must remember between KE2 and KE3.
pub const LOGIN: usize = 64;

/// Bytes of the server's public key.
pub const PUBLIC_KEY: usize = 33;

/// The server's long-term secret. Losing it makes every record worthless; whoever has it and a record can try all PINs.
pub struct Setup(ServerSetup<Suite>);

impl Setup {
    /// A new one.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(ServerSetup::new(&mut Randomness(rng)))
    }

    /// From its bytes.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if they are not a setup.
    pub fn from_bytes(bytes: &[u8; SETUP]) -> Result<Self, OpaqueError> {
        ServerSetup::deserialize(bytes).map(Self).map_err(|_| OpaqueError::Malformed)
    }

    /// Its bytes, for a file that nobody else reads.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }

    /// The public key: what clients authenticate. It names the setup.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.0.keypair().public().serialize().to_vec()
    }

    /// Answers a registration request for this app.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if it is none.
    pub fn respond(
        &self,
        app: &AppName,
        request: &[u8; REGISTRATION_REQUEST],
    ) -> Result<[u8; REGISTRATION_RESPONSE], OpaqueError> {
        let message = RegistrationRequest::deserialize(request).map_err(|_| OpaqueError::Malformed)?;
        only_encoding(&message.serialize(), request)?;
        let started = ServerRegistration::<Suite>::start(&self.0, message, app).map_err(|_| OpaqueError::Malformed)?;
        array(&started.message.serialize())
    }

    /// Answers KE1: KE2, and what to remember until KE3. Without a record, both look and cost the same, and no KE3 will
    /// be right.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the message is no KE1, or the record none.
    pub fn begin_login(
        &self,
        app: &AppName,
        record: Option<&[u8; REGISTRATION_UPLOAD]>,
        ke1: &[u8; KE1],
        rng: &mut impl CryptoRng,
    ) -> Result<([u8; KE2], Zeroizing<[u8; LOGIN]>), OpaqueError> {
        let message = CredentialRequest::deserialize(ke1).map_err(|_| OpaqueError::Malformed)?;
        only_encoding(&message.serialize(), ke1)?;
        let decoy = self.decoy();
        // A record is parsed in any case: that takes time.
        let parsed = ServerRegistration::<Suite>::deserialize(record.map_or(decoy.as_slice(), |record| record));
        let parsed = parsed.map_err(|_| OpaqueError::Malformed)?;
        let record = record.is_some().then_some(parsed);
        let begun = ServerLogin::start(&mut Randomness(rng), &self.0, record, message, app, parameters(app));
        let begun = begun.map_err(|_| OpaqueError::Malformed)?;
        let state = Zeroizing::new(array(&begun.state.serialize())?);
        Ok((array(&begun.message.serialize())?, state))
    }

    /// The bytes of a record that belongs to nobody.
    fn decoy(&self) -> Vec<u8> {
        let mut decoy = self.public_key();
        decoy.resize(REGISTRATION_UPLOAD, 0);
        decoy
    }
}

/// Checks an upload; its bytes are the record.
///
/// # Errors
/// [`OpaqueError::Malformed`] if it is none.
pub fn check_upload(upload: &[u8; REGISTRATION_UPLOAD]) -> Result<(), OpaqueError> {
    let message = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| OpaqueError::Malformed)?;
    only_encoding(&message.serialize(), upload)
}

/// Takes KE3.
///
/// # Errors
/// [`OpaqueError::Wrong`] if it is not from whoever knows the PIN. [`OpaqueError::Malformed`] if the state is none.
pub fn finish_login(app: &AppName, state: &[u8; LOGIN], ke3: &[u8; KE3]) -> Result<SessionKey, OpaqueError> {
    let login = ServerLogin::<Suite>::deserialize(state).map_err(|_| OpaqueError::Malformed)?;
    let ke3 = CredentialFinalization::deserialize(ke3).map_err(|_| OpaqueError::Wrong)?;
    let finished = login.finish(ke3, parameters(app)).map_err(|_| OpaqueError::Wrong)?;
    Ok(Zeroizing::new(array(&finished.session_key)?))
}

fn parameters(app: &AppName) -> ServerLoginParameters<'_, '_> {
    ServerLoginParameters { context: Some(CONTEXT), identifiers: identifiers(app) }
}

hidden!(Setup);
