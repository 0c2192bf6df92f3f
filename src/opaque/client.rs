//! The client's side: registers a PIN, and logs in with it. Each step consumes the one before.

use opaque_ke::{
    ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialResponse, RegistrationResponse,
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    AppName, CONTEXT, KE1, KE2, KE3, OpaqueError, REGISTRATION_REQUEST, REGISTRATION_RESPONSE, REGISTRATION_UPLOAD,
    Randomness, SessionKey, Suite, array, hidden, identifiers, only_encoding,
};

/// A PIN on its way to be registered.
pub struct Registration {
    state: ClientRegistration<Suite>,
    pin: Zeroizing<Vec<u8>>,
}

impl Registration {
    /// The first step: what to send, and what to keep.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the PIN cannot be hashed; no text of ordinary length has that effect.
    pub fn start(pin: &[u8], rng: &mut impl CryptoRng) -> Result<(Self, [u8; REGISTRATION_REQUEST]), OpaqueError> {
        let started = ClientRegistration::start(&mut Randomness(rng), pin).map_err(|_| OpaqueError::Malformed)?;
        let request = array(&started.message.serialize())?;
        Ok((Self { state: started.state, pin: Zeroizing::new(pin.to_vec()) }, request))
    }

    /// The second step, after the server's answer: what to send. Takes as long as Argon2id.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the answer is no registration response.
    pub fn finish(
        self,
        app: &AppName,
        response: &[u8; REGISTRATION_RESPONSE],
        rng: &mut impl CryptoRng,
    ) -> Result<[u8; REGISTRATION_UPLOAD], OpaqueError> {
        let message = RegistrationResponse::deserialize(response).map_err(|_| OpaqueError::Malformed)?;
        only_encoding(&message.serialize(), response)?;
        let parameters = ClientRegistrationFinishParameters::new(identifiers(app), None);
        let finished = self.state.finish(&mut Randomness(rng), &self.pin, message, parameters);
        array(&finished.map_err(|_| OpaqueError::Malformed)?.message.serialize())
    }
}

/// A login under way.
pub struct Login {
    state: ClientLogin<Suite>,
    pin: Zeroizing<Vec<u8>>,
}

impl Login {
    /// The first step: KE1 to send, and what to keep.
    ///
    /// # Errors
    /// [`OpaqueError::Malformed`] if the PIN cannot be hashed; no text of ordinary length has that effect.
    pub fn start(pin: &[u8], rng: &mut impl CryptoRng) -> Result<(Self, [u8; KE1]), OpaqueError> {
        let started = ClientLogin::start(&mut Randomness(rng), pin).map_err(|_| OpaqueError::Malformed)?;
        let ke1 = array(&started.message.serialize())?;
        Ok((Self { state: started.state, pin: Zeroizing::new(pin.to_vec()) }, ke1))
    }

    /// The second step, after KE2: KE3 to send, and the key that only the server shares. Takes as long as Argon2id.
    ///
    /// # Errors
    /// [`OpaqueError::Wrong`] if the PIN is not the registered one, or the server does not know this app.
    /// [`OpaqueError::Malformed`] if the answer is no KE2.
    pub fn finish(
        self,
        app: &AppName,
        ke2: &[u8; KE2],
        rng: &mut impl CryptoRng,
    ) -> Result<([u8; KE3], SessionKey), OpaqueError> {
        let message = CredentialResponse::deserialize(ke2).map_err(|_| OpaqueError::Malformed)?;
        only_encoding(&message.serialize(), ke2)?;
        let parameters = ClientLoginFinishParameters::new(Some(CONTEXT), identifiers(app), None);
        let finished = self.state.finish(&mut Randomness(rng), &self.pin, message, parameters);
        // Every way in which an envelope does not open means the same to a person.
        let finished = finished.map_err(|_| OpaqueError::Wrong)?;
        let key = Zeroizing::new(array(&finished.session_key)?);
        Ok((array(&finished.message.serialize())?, key))
    }
}

hidden!(Registration, Login);
