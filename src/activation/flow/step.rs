//! The words of an activation: ways, steps, what is due, and how a step ends. No behaviour but names.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::activation::ids::AppId;
use crate::activation::temporary_pin::{Binding, Purpose, SentPin, TemporaryPin};
use crate::keyed_hash::HashKey;

/// Which way the app becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// On the phone where the identity was just proved.
    ThisPhone,
    /// On another phone or tablet, with a grant of this active app; of none if the enrolling phone granted it.
    OtherPhone {
        /// The app that granted it.
        granted_by: Option<AppId>,
    },
}

impl Way {
    /// The name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ThisPhone => "this_phone",
            Self::OtherPhone { .. } => "other_phone",
        }
    }

    /// What the temporary PIN is for.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::ThisPhone => Purpose::ThisPhone,
            Self::OtherPhone { .. } => Purpose::OtherPhone,
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Wait until the copy may start; the person can cancel it from the old app.
    Waiting,
    /// The person types the user ID.
    UserId,
    /// A temporary PIN is sent and typed.
    TemporaryPin,
    /// A personal PIN is chosen.
    PersonalPin,
    /// Fingerprint or face: yes or no.
    Biometrics,
    /// Notifications: yes or no.
    Notifications,
    /// Nothing: the app is active.
    Active,
    /// Nothing: this activation is over, and a new one can be started.
    Ended,
}

impl Due {
    /// Every value, in order.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::UserId,
        Self::TemporaryPin,
        Self::PersonalPin,
        Self::Biometrics,
        Self::Notifications,
        Self::Active,
        Self::Ended,
    ];

    /// The name in JSON, in metrics and in the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::UserId => "user_id",
            Self::TemporaryPin => "temporary_pin",
            Self::PersonalPin => "personal_pin",
            Self::Biometrics => "biometrics",
            Self::Notifications => "notifications",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }
}

/// Why an activation is over without an active app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It took too long.
    Expired,
    /// The person cancelled it, on this phone or from another app.
    Cancelled,
    /// The user ID was wrong too often.
    UserIdWrong,
    /// All temporary PINs that this activation may ask for are used up.
    PinsUsedUp,
    /// The app that granted it is not active any more.
    GrantorGone,
}

impl End {
    /// The name in JSON, in metrics and in the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::UserIdWrong => "user_id_wrong",
            Self::PinsUsedUp => "pins_used_up",
            Self::GrantorGone => "grantor_gone",
        }
    }
}

/// Something that is done in an activation.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// A user ID was typed; whether it is the right one was compared in constant time.
    UserId {
        /// Whether it is the user's.
        matches: bool,
    },
    /// A temporary PIN goes out, or only seems to.
    SendPin(&'a SentPin),
    /// A temporary PIN was typed.
    TemporaryPin {
        /// As typed.
        typed: &'a TemporaryPin,
        /// To what it is bound.
        binding: Binding<'a>,
        /// The server's key for PINs.
        key: &'a HashKey,
    },
    /// The personal PIN's record, which the server cannot read the PIN from.
    PersonalPin(&'a [u8]),
    /// Whether fingerprint or face are used.
    Biometrics(bool),
    /// Where notifications go, or nowhere.
    Notifications(Option<&'a str>),
    /// The person does not want it.
    Cancel,
    /// The app that granted it is not active any more.
    GrantorGone,
}

impl Step<'_> {
    /// The name in metrics, of those that bring an activation further.
    #[must_use]
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::UserId { .. } => Some("user_id"),
            Self::SendPin(_) => Some("send_pin"),
            Self::TemporaryPin { .. } => Some("temporary_pin"),
            Self::PersonalPin(_) => Some("personal_pin"),
            Self::Biometrics(_) => Some("biometrics"),
            Self::Notifications(_) => Some("notifications"),
            Self::Cancel | Self::GrantorGone => None,
        }
    }
}

/// What an accepted step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Something has changed, and is to be written down.
    Changed,
    /// It was done before, with the same content.
    Repeated,
    /// It was the last step: the app is to be put into the registry in the same transaction.
    Activated,
}

/// Why a step is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another step is due.
    #[error("the step {} is due", .0.as_str())]
    NotDue(Due),
    /// The step was done before, with another content.
    #[error("this step is done, with another content; the step {} is due", .0.as_str())]
    DoneOtherwise(Due),
    /// The copy may not start yet.
    #[error("the copy may start in {} s", .0.as_secs())]
    Waiting(Duration),
    /// It is over.
    #[error("this activation is over: {}", .0.as_str())]
    Ended(End),
    /// Not this user's ID.
    #[error("the user ID is not the right one; {left} tries are left")]
    WrongUserId {
        /// Tries that are left.
        left: u8,
    },
    /// None was sent.
    #[error("no temporary PIN was asked for")]
    NoPin,
    /// Not the PIN.
    #[error("the temporary PIN is not the right one; {left} tries are left")]
    WrongPin {
        /// Tries that are left for this PIN.
        left: u8,
    },
    /// The PIN is too old.
    #[error("the temporary PIN is too old; ask for another")]
    PinExpired,
    /// The PIN was wrong too often.
    #[error("the temporary PIN was wrong too often; ask for another")]
    PinUsedUp,
}

/// What the new app becomes, once all steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices<'a> {
    /// The personal PIN's record.
    pub record: &'a [u8],
    /// Fingerprint or face.
    pub biometrics: bool,
    /// Where notifications go.
    pub notifications: Option<&'a str>,
}

/// Which step it is, without its content.
impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserId { .. } => "UserId",
            Self::SendPin(_) => "SendPin",
            Self::TemporaryPin { .. } => "TemporaryPin",
            Self::PersonalPin(_) => "PersonalPin",
            Self::Biometrics(_) => "Biometrics",
            Self::Notifications(_) => "Notifications",
            Self::Cancel => "Cancel",
            Self::GrantorGone => "GrantorGone",
        })
    }
}
