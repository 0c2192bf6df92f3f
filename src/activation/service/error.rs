//! Everything that the service answers instead of success.

use crate::activation::device_proof::BadProof;
use crate::activation::flow::Refused;
use crate::activation::grant::BadGrant;
use crate::activation::personal_pin::lock::Locked;
use crate::activation::registry::RegistryError;
use crate::activation::temporary_pin::send_rules::SendRefused;

/// Why something is refused.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The proof of the device key does not hold.
    #[error(transparent)]
    Proof(#[from] BadProof),
    /// The proof was used before.
    #[error("the proof of the device key was used before; make a new one for every request")]
    Replayed,
    /// The enrolment token or copy grant does not hold.
    #[error(transparent)]
    Grant(#[from] BadGrant),
    /// The enrolment token or copy grant was used before, by another device.
    #[error("the token or grant was used before")]
    TokenUsed,
    /// No key file for enrolment tokens is configured.
    #[error("this service takes no enrolment tokens: activation.enrolment_jwks_file is not set")]
    NoEnrolment,
    /// The token's user is not on file.
    #[error("the user is not on file")]
    NotOnFile,
    /// The app that signed the grant is not active.
    #[error("the app that signed the grant is not active")]
    GrantorNotActive,
    /// The device key belongs to an app or to another activation.
    #[error("the device key is in use; a new app makes a new key")]
    DeviceKeyUsed,
    /// The user has as many active apps as allowed.
    #[error("the user has as many active apps as allowed")]
    TooManyApps,
    /// There is no such activation for this device.
    #[error("there is no such activation of this device")]
    UnknownActivation,
    /// The device is no active app.
    #[error("the device key is not an active app's")]
    UnknownDevice,
    /// The user has no such app.
    #[error("there is no such app")]
    UnknownApp,
    /// There is no such user.
    #[error("there is no such user")]
    UnknownUser,
    /// The step is refused.
    #[error(transparent)]
    Step(#[from] Refused),
    /// No SMS may go out now.
    #[error(transparent)]
    Sends(SendRefused),
    /// Too many SMS are under way.
    #[error("too many SMS are under way; try again in a few seconds")]
    SmsBusy,
    /// Too many streams of events are open.
    #[error("too many streams of events are open on this node; try again later")]
    TooManyStreams,
    /// The personal PIN may be replaced only by an app that was opened a short time ago.
    #[error("the app must be opened with its PIN, or prove a temporary PIN, before the PIN can be replaced")]
    NotUnlocked,
    /// The app hash is not configured.
    #[error("the app hash is not configured")]
    UnknownAppHash,
    /// A message of the personal PIN's protocol cannot be read.
    #[error("the message of the personal PIN's protocol is malformed")]
    BadPinMessage,
    /// The PIN was wrong, or proving it took too long.
    #[error("the personal PIN was not proven")]
    PinNotProven,
    /// The PIN was registered under a setup that was removed.
    #[error("the personal PIN was registered under a setup that is gone; the app must be activated again")]
    PinSetupGone,
    /// Too many wrong PINs.
    #[error(transparent)]
    Locked(Locked),
    /// The registry does not answer as it should.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
