//! Users on file, for whoever administers them.

use zeroize::Zeroizing;

use super::{Service, ServiceError};
use crate::activation::ids::{PhoneNumber, UserId};
use crate::activation::registry::{Actor, Imported, Subject, What};

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
