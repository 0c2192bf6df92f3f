//! The end-to-end channel: hands a credential from the old app to the new one, through a relay that can read nothing.
//! Not the transport: frames go in and out as bytes, randomness comes in as an argument, and there is no clock.
//!
//! # The scheme
//!
//! Two messages establish the channel, in the manner of an authenticated key exchange with a pre-shared key:
//!
//! - **hello**, new to old: HPKE (RFC 9180) in mode PSK, to the old app's fresh key. The pre-shared key comes from the
//!   secret in the QR code that the person scanned.
//! - **reply**, old to new: AES-256-GCM under a key derived from an HPKE export and a fresh nonce, as in RFC 9458.
//!
//! Then the person types into old the four digits that new shows, and only then does old seal the **credential**, in
//! pieces. New answers with a signed **receipt**. Each message authenticates the hash of all before it, from the bytes of
//! the QR code on.
//!
//! | Suite | KEM | KDF | AEAD |
//! |---|---|---|---|
//! | [`Suite::P256`] | DHKEM(P-256, HKDF-SHA256), 0x0010 | HKDF-SHA256, 0x0001 | AES-256-GCM, 0x0002 |
//! | [`Suite::MlKem768P256`] | MLKEM768-P256, 0x0050 | the same | the same |
//!
//! The receipt is signed with ES256 (ECDSA, P-256, SHA-256). Every plaintext is padded to whole kilobytes.
//!
//! # What each side may conclude
//!
//! - **New, when the reply opens:** the sender made the QR code that was scanned, since the code carries the hash of the
//!   key that opened the hello. Whether the QR code was the *right* one, only the person knows.
//! - **Old, when the hello opens:** the sender saw the QR code. So did everybody who stood behind the person, or was
//!   sent a photograph. Old may *not* conclude that this is the person's new phone, and its [`DeviceInfo`] is a claim.
//! - **Old, when the code matches:** the channel ends in the phone whose screen the person reads. Somebody else, who
//!   answered the QR code first, would have shown another code; guessing it works once in 9,000 times, and a wrong
//!   guess ends the session. The code stops nobody who can make the person type what they dictate.
//! - **Old, when the receipt opens:** the holder of the key in the hello has this very credential.
//! - **Neither** learns who the other is beyond that, and the relay's word counts for nothing: it may drop, repeat,
//!   reorder and invent frames, and hand out other keys, and only ever ends a session by it.
//!
//! A recording is worth nothing later: the private key, the QR code's secrets and all that is derived from them exist
//! once, in memory, and are cleared as soon as they have served. Suite [`Suite::MlKem768P256`] keeps that promise also
//! against somebody who will own a quantum computer.
//!
//! # The roles
//!
//! **Old** makes an [`Offer`], shows its QR frames, opens one hello ([`OpenedHello`]), waits for the person
//! ([`AwaitingCode`]) and is a [`Sender`]. **New** takes an [`Invitation`], accepts it ([`AwaitingReply`]), opens the
//! reply ([`OpenedReply`]), is a [`Receiver`] and at last [`Complete`]. Each step consumes the one before, so no step can
//! be left out or taken twice, and what fails cannot be tried again.
//!
//! ```
//! use handoff_relay::crypto::{
//!     Credential, DeviceInfo, DeviceKey, Invitation, Offer, OfferSettings, Proximity, Received,
//! };
//! use handoff_relay::protocol::ids::SessionId;
//! use handoff_relay::protocol::qr::{Demands, QrPayload, RelayRef, Suite};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut rng = rand::rng();
//! let settings = OfferSettings {
//!     suite: Suite::P256,
//!     demands: Demands::default(),
//!     session: SessionId::from_random(rand::random()),
//!     relay: RelayRef::Listed(std::num::NonZeroU8::MIN),
//!     frames: 36,
//! };
//!
//! // Old shows a QR code, and the person scans it with new.
//! let offer = Offer::new(settings, &mut rng)?;
//! let scanned = offer.qr(4).ok_or("no such frame")?.to_text();
//! let invitation = Invitation::new(QrPayload::from_text(&scanned)?, Proximity::none())?;
//!
//! // New has joined and was given old's key: two messages, through the relay.
//! let (new, hello) = invitation.accept(
//!     &offer.public_key().clone(),
//!     &DeviceInfo::new("Pixel 9", "4.2.0")?,
//!     DeviceKey::generate(&mut rng),
//!     &mut rng,
//! )?;
//! let device = DeviceInfo::new("iPhone 13", "4.1.7")?;
//! let old = offer.open_hello(4, &Proximity::none(), &hello, &device, &mut rng)?;
//! let new = new.open_reply(&old.reply_frame)?;
//! assert_eq!(old.peer.model(), "Pixel 9");
//!
//! // New shows the check code; the person types it into old.
//! let typed = new.code.to_string().parse()?;
//! let mut sender = old.channel.confirm(&typed)?.hand_over(Credential::new(b"the credential".to_vec()));
//!
//! // The credential, in as many frames as it takes, and the receipt.
//! let mut receiver = new.channel;
//! let complete = loop {
//!     let frame = sender.next_frame()?.ok_or("nothing more to send")?;
//!     match receiver.open_chunk(&frame)? {
//!         Received::More(more, _progress) => receiver = more,
//!         Received::All(complete) => break complete,
//!     }
//! };
//! let (credential, receipt) = complete.finish()?;
//! sender.open_receipt(&receipt)?;
//! assert_eq!(*credential, b"the credential");
//! # Ok(())
//! # }
//! ```
//!
//! A channel that nobody confirmed has no way to seal a credential:
//!
//! ```compile_fail,E0599
//! # use handoff_relay::crypto::AwaitingCode;
//! fn leak(mut channel: AwaitingCode) {
//!     let _ = channel.next_frame();
//! }
//! ```
//!
//! And an offer answers one hello, whether it opens or not:
//!
//! ```compile_fail,E0382
//! # use handoff_relay::crypto::{DeviceInfo, Offer, Proximity};
//! # fn twice(offer: Offer, hello: &[u8], device: &DeviceInfo) {
//! let first = offer.open_hello(0, &Proximity::none(), hello, device, &mut rand::rng());
//! let second = offer.open_hello(0, &Proximity::none(), hello, device, &mut rand::rng());
//! # }
//! ```
//!
//! The bytes are described in `docs/protocol.md`, and frozen in `tests/vectors`.
//!
//! [`Suite::P256`]: crate::protocol::qr::Suite::P256
//! [`Suite::MlKem768P256`]: crate::protocol::qr::Suite::MlKem768P256

mod binding;
mod check_code;
mod device;
mod error;
mod invitation;
mod message;
mod offer;
mod padding;
mod proximity;
mod receiver;
mod response;
mod schedule;
mod sender;
mod suite;

use zeroize::Zeroizing;

pub use binding::Binding;
pub use check_code::{BadCheckCode, CheckCode, WrongCode};
pub use device::{BadDeviceInfo, DeviceInfo, DeviceKey};
pub use error::ChannelError;
pub use invitation::{AwaitingReply, Invitation, OpenedReply};
pub use offer::{AwaitingCode, Offer, OfferSettings, OpenedHello};
pub use proximity::{BadProximity, Proximity};
pub use receiver::{Complete, Received, Receiver};
pub use sender::{Confirmed, Sender};

/// What is handed over: the application's bytes, cleared when dropped.
pub type Credential = Zeroizing<Vec<u8>>;

/// How much of a credential has gone from old to new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that old has sealed, or new has opened.
    pub sent: usize,
    /// Bytes of the whole credential.
    pub total: usize,
}

/// `Debug` for states that hold secrets: their name.
macro_rules! opaque {
    ($($state:ident),*) => {
        $(impl std::fmt::Debug for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($state)).finish_non_exhaustive()
            }
        })*
    };
}
use opaque;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that overflows is a failed test")]
mod tests;
