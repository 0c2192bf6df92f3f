//! Users on file, for whoever administers them.

use zeroize::Zeroizing;

use super::{Service, ServiceError};
use crate::activation::ids::{PhoneNumber, UserId, UserKey};
use crate::activation::registry::{ActivationRow, Actor, App, Entry, Imported, Send, Subject, User, What};

/// Most entries of the audit trail in one answer.
pub const MOST_ENTRIES: u32 = 500;

/// All that is on file of a user.
#[derive(Debug)]
pub struct OnFile {
    /// The user.
    pub user: User,
    /// Active apps, the oldest first.
    pub apps: Vec<App>,
    /// Activations that are not over.
    pub pending: Vec<ActivationRow>,
    /// The last SMS to the number of today, the newest first.
    pub sends: Vec<Send>,
}

/// Longest name of a person, in characters.
const MOST_NAME: usize = 200;

/// A user as the administration knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// What the person types.
    pub id: UserId,
    /// The holder's name.
    pub name: Zeroizing<String>,
    /// Where the temporary PIN goes.
    pub phone: PhoneNumber,
}

impl NewUser {
    /// Whether a person can be called so.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        (1..=MOST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    }
}

impl Service {
    /// Puts users on file, all or none.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn put_users(&self, users: &[NewUser]) -> Result<Vec<Imported>, ServiceError> {
        let now = self.now();
        let mut tx = self.parts.registry.begin().await?;
        let mut done = Vec::with_capacity(users.len());
        for user in users {
            let imported = tx.put_user(self.fresh_user_key(), (&user.id, &user.name, &user.phone), now).await?;
            let what = match imported {
                Imported::Created(_) => Some(What::UserCreated),
                Imported::Changed(_) => Some(What::UserChanged),
                Imported::NumberChanged(_) => Some(What::NumberChanged),
                Imported::Same(_) => None,
            };
            if let Some(what) = what {
                tx.note(what, (Actor::Admin, None), (imported.key(), Subject::User), now).await?;
            }
            done.push(imported);
        }
        tx.commit().await?;
        Ok(done)
    }

    /// Reads all that is on file of a user.
    ///
    /// # Errors
    /// [`ServiceError::UnknownUser`] if there is none.
    pub async fn user_on_file(&self, id: &UserId) -> Result<OnFile, ServiceError> {
        let mut tx = self.parts.registry.begin().await?;
        let user = tx.lock_user_by_id(id).await?.ok_or(ServiceError::UnknownUser)?;
        let apps = tx.active_apps(user.key).await?;
        let pending = tx.running_activations(user.key, self.now()).await?;
        let sends = tx.sends_to(self.parts.registry.sealer().number_tag(&user.phone)).await?;
        tx.commit().await?;
        Ok(OnFile { user, apps, pending, sends })
    }

    /// Reads a user's audit trail, also after the user was erased: at most [`MOST_ENTRIES`] with numbers above `after`.
    ///
    /// # Errors
    /// [`ServiceError::Registry`].
    pub async fn audit(&self, user: UserKey, after: i64, most: u32) -> Result<Vec<Entry>, ServiceError> {
        let mut tx = self.parts.registry.begin().await?;
        let entries = tx.audit_of(user, after, most.clamp(1, MOST_ENTRIES)).await?;
        tx.commit().await?;
        Ok(entries)
    }

    /// Erases a user with all apps and activations; the audit trail stays, under a key that names nobody any more.
    ///
    /// # Errors
    /// [`ServiceError::UnknownUser`] if there is none.
    pub async fn erase_user(&self, id: &UserId) -> Result<(), ServiceError> {
        let mut tx = self.parts.registry.begin().await?;
        let user = tx.lock_user_by_id(id).await?.ok_or(ServiceError::UnknownUser)?;
        tx.note(What::UserErased, (Actor::Admin, None), (user.key, Subject::User), self.now()).await?;
        tx.erase_user(&user).await?;
        Ok(tx.commit().await?)
    }
}
