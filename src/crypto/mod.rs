//! The end-to-end channel.

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

pub use check_code::{BadCheckCode, CheckCode, WrongCode};
pub use device::{BadDeviceInfo, DeviceInfo, DeviceKey};
pub use error::ChannelError;
pub use invitation::{AwaitingReply, Invitation, OpenedReply};
pub use offer::{AwaitingCode, Offer, OfferSettings, OpenedHello};
pub use proximity::{BadProximity, Proximity};
pub use receiver::{Complete, Received, Receiver};
pub use sender::Sender;

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
