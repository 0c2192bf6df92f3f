//! The audit trail: what changed, by whom, when and from which network; written in the transaction of the change.
//!
//! It holds no names and no numbers: users and apps appear under their keys. The database refuses to change or delete an
//! entry.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use sqlx::Row as _;

use super::{RegistryError, Tx};
use crate::activation::flow::{from_millis, to_millis};
use crate::activation::ids::{ActivationId, AppId, UserKey};

macro_rules! whats {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum What {
            $($(#[$doc])* $name,)*
        }

        impl What {
            /// Everything that can happen.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the trail, and in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

whats! {
    /// A user was put on file.
    UserCreated = "user_created";
    /// A user's name or number was changed.
    UserChanged = "user_changed";
    /// A user's number was changed; perhaps the name, too.
    NumberChanged = "number_changed";
    /// A user was erased.
    UserErased = "user_erased";
    /// An activation began.
    ActivationStarted = "activation_started";
    /// The right user ID was typed.
    UserIdRight = "user_id_right";
    /// A wrong user ID was typed.
    UserIdWrong = "user_id_wrong";
    /// An SMS with a temporary PIN goes out.
    PinSent = "pin_sent";
    /// No SMS goes out, because the number was changed a short time ago.
    PinWithheld = "pin_withheld";
    /// The right temporary PIN was typed.
    PinRight = "pin_right";
    /// A wrong temporary PIN was typed.
    PinWrong = "pin_wrong";
    /// A personal PIN was registered.
    PersonalPinSet = "personal_pin_set";
    /// The personal PIN of an active app was replaced.
    PersonalPinReplaced = "personal_pin_replaced";
    /// Biometrics were chosen or declined.
    BiometricsChosen = "biometrics_chosen";
    /// An app is active.
    AppActivated = "app_activated";
    /// An activation is over without an app.
    ActivationEnded = "activation_ended";
    /// An app has another name.
    AppRenamed = "app_renamed";
    /// An app was deleted.
    AppDeleted = "app_deleted";
    /// An app was opened with its PIN.
    AppUnlocked = "app_unlocked";
    /// A PIN of an app was tried and is wrong until the contrary is proved.
    UnlockTried = "unlock_tried";
    /// An app is locked after too many tries.
    AppLocked = "app_locked";
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The app that is to become active.
    NewApp,
    /// An active app.
    App(AppId),
    /// Whoever has the admin token, or the command line.
    Admin,
    /// The service itself, when a time is over.
    Service,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewApp => f.write_str("new app"),
            Self::App(id) => write!(f, "app {id}"),
            Self::Admin => f.write_str("admin"),
            Self::Service => f.write_str("service"),
        }
    }
}

/// What it was done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The user.
    User,
    /// An activation.
    Activation(ActivationId),
    /// An app.
    App(AppId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Activation(id) => write!(f, "activation {id}"),
            Self::App(id) => write!(f, "app {id}"),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number; later entries have higher ones.
    pub number: i64,
    /// When.
    pub at: SystemTime,
    /// What: a [`What`]'s text.
    pub what: String,
    /// Who: an [`Actor`]'s text.
    pub actor: String,
    /// Whose it is.
    pub user: UserKey,
    /// A [`Subject`]'s text.
    pub subject: String,
    /// From where: an IPv4 /24 or IPv6 /48, or nothing.
    pub network: String,
}

impl Tx {
    /// Writes an entry.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn note(
        &mut self,
        what: What,
        (actor, address): (Actor, Option<IpAddr>),
        (user, subject): (UserKey, Subject),
        now: SystemTime,
    ) -> Result<(), RegistryError> {
        let query = sqlx::query(
            "INSERT INTO audit (at, what, actor, user_key, subject, network) VALUES ($1, $2, $3, $4, $5, $6)",
        );
        let query = query.bind(to_millis(now)).bind(what.as_str()).bind(actor.to_string()).bind(user.to_string());
        let query = query.bind(subject.to_string()).bind(address.map(coarse).unwrap_or_default());
        query.execute(&mut *self.inner).await?;
        Ok(())
    }

    /// A user's entries with higher numbers than `after`, the oldest first, at most `most` of them.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn audit_of(&mut self, user: UserKey, after: i64, most: u32) -> Result<Vec<Entry>, RegistryError> {
        let query = sqlx::query(
            "SELECT entry, at, what, actor, user_key, subject, network FROM audit \
             WHERE user_key = $1 AND entry > $2 ORDER BY entry LIMIT $3",
        );
        let query = query.bind(user.to_string()).bind(after).bind(i64::from(most));
        let rows = query.fetch_all(&mut *self.inner).await?;
        let entry = |row: &sqlx::any::AnyRow| {
            Ok(Entry {
                number: row.try_get("entry")?,
                at: from_millis(row.try_get("at")?),
                what: row.try_get("what")?,
                actor: row.try_get("actor")?,
                user: super::parsed(row, "user_key")?,
                subject: row.try_get("subject")?,
                network: row.try_get("network")?,
            })
        };
        rows.iter().map(entry).collect()
    }
}

/// The network that an address is in, wide enough to name no household.
fn coarse(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_address_appears_as_its_network() {
        assert_eq!(coarse("192.0.2.77".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(coarse("::ffff:192.0.2.77".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(coarse("2001:db8:1:2::3".parse().unwrap()), "2001:db8:1::/48");
    }
}
