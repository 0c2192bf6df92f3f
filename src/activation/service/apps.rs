//! A user's active apps, for one another: list, rename, delete; and the copies that are under way, to be cancelled.

use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::{Caller, Service, ServiceError};
use crate::activation::flow::{Due, End, Refused, Step};
use crate::activation::ids::{ActivationId, AppId};
use crate::activation::notify::EventKind;
use crate::activation::registry::{Actor, App, AppState, Subject, Tx, What};

/// An app as the user's apps see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppView {
    /// Its id.
    pub id: AppId,
    /// What the person calls it.
    pub name: Zeroizing<String>,
    /// What it runs on.
    pub model: Zeroizing<String>,
    /// When it became active.
    pub created: SystemTime,
    /// When it last did something.
    pub last_used: SystemTime,
    /// Fingerprint or face.
    pub biometrics: bool,
    /// Whether notifications go there.
    pub notifications: bool,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

/// A copy that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingView {
    /// Its id.
    pub id: ActivationId,
    /// What the new app calls itself.
    pub name: Zeroizing<String>,
    /// What it runs on.
    pub model: Zeroizing<String>,
    /// The step that is due.
    pub due: Due,
    /// Time until it may start.
    pub starts_in: Duration,
}

/// What belongs to the user of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mine {
    /// Active apps, the oldest first.
    pub apps: Vec<AppView>,
    /// Activations that are not over.
    pub pending: Vec<PendingView>,
}

impl Service {
    /// The user's apps and activations.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn apps(&self, caller: &Caller) -> Result<Mine, ServiceError> {
        let now = self.now();
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        let apps = tx.active_apps(me.user).await?;
        let pending = tx.running_activations(me.user, now).await?;
        tx.commit().await?;
        let app = |app: &App| AppView {
            id: app.id,
            name: app.name.clone(),
            model: app.model.clone(),
            created: app.created,
            last_used: app.last_used,
            biometrics: app.biometrics,
            notifications: app.push_token.is_some(),
            is_this: app.id == me.id,
        };
        let pending = pending.into_iter().map(|row| PendingView {
            id: row.id,
            due: row.flow.due(now),
            starts_in: row.flow.starts().duration_since(now).unwrap_or_default(),
            name: row.name,
            model: row.model,
        });
        Ok(Mine { apps: apps.iter().map(app).collect(), pending: pending.collect() })
    }

    /// Gives an app another name.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn rename_app(&self, caller: &Caller, id: AppId, name: Zeroizing<String>) -> Result<(), ServiceError> {
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        let mut app = Self::mine(&mut tx, &me, id).await?;
        if app.name != name {
            app.name = name;
            tx.update_app(&app).await?;
            let who = (Actor::App(me.id), caller.address);
            tx.note(What::AppRenamed, who, (me.user, Subject::App(id)), self.now()).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Deletes an app: its key opens nothing any more, and the copies that it granted end. An app may delete itself.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn delete_app(&self, caller: &Caller, id: AppId) -> Result<(), ServiceError> {
        let mut tx = self.begin(caller).await?;
        let me = self.me(&mut tx, caller).await?;
        let others = tx.active_apps(me.user).await?;
        let mut app = Self::mine(&mut tx, &me, id).await?;
        app.state = AppState::Deleted;
        app.push_token = None;
        app.pin_record = Zeroizing::default();
        app.pin_state = Zeroizing::default();
        tx.update_app(&app).await?;
        let who = (Actor::App(me.id), caller.address);
        tx.note(What::AppDeleted, who, (me.user, Subject::App(id)), self.now()).await?;
        self.leave(&mut tx, EventKind::AppDeleted, &others, &[id, me.id]).await?;
        if id != me.id {
            self.leave(&mut tx, EventKind::ThisAppDeleted, &[app], &[]).await?;
        }
        tx.commit().await?;
        self.wake();
        Ok(())
    }

    /// Ends an activation: the new app its own, or an active app one of the same user.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn cancel(&self, caller: &Caller, id: ActivationId) -> Result<(), ServiceError> {
        let now = self.now();
        let mut tx = self.begin(caller).await?;
        let mut row = tx.lock_activation(id).await?.ok_or(ServiceError::UnknownActivation)?;
        let actor = if row.device == caller.proof.key {
            Actor::NewApp
        } else {
            let me = tx.app_of_device(caller.proof.device).await?;
            let me = me.filter(|app| app.state == AppState::Active && app.user == row.user);
            Actor::App(me.ok_or(ServiceError::UnknownActivation)?.id)
        };
        match row.flow.handle(Step::Cancel, now) {
            // What is over need not be ended.
            Ok(crate::activation::flow::Done::Repeated) | Err(Refused::Ended(_)) => {}
            Ok(_) => {
                tx.update_activation(&row, now).await?;
                let on = (row.user, Subject::Activation(id));
                tx.note(What::ActivationEnded, (actor, caller.address), on, now).await?;
                tx.commit().await?;
                super::count_end(End::Cancelled);
                return Ok(());
            }
            Err(refused) => return Err(refused.into()),
        }
        Ok(tx.commit().await?)
    }

    /// The active app that asks, with its user locked.
    pub(super) async fn me(&self, tx: &mut Tx, caller: &Caller) -> Result<App, ServiceError> {
        let found = tx.app_of_device(caller.proof.device).await?.ok_or(ServiceError::UnknownDevice)?;
        self.user_of(tx, found.user).await?;
        // Again, now that nobody else can delete it.
        let mut me = tx.lock_app(found.id).await?.ok_or(ServiceError::UnknownDevice)?;
        if me.state != AppState::Active {
            return Err(ServiceError::UnknownDevice);
        }
        me.last_used = self.now().max(me.last_used);
        tx.update_app(&me).await?;
        Ok(me)
    }

    async fn mine(tx: &mut Tx, me: &App, id: AppId) -> Result<App, ServiceError> {
        let app = tx.lock_app(id).await?.filter(|app| app.user == me.user && app.state == AppState::Active);
        app.ok_or(ServiceError::UnknownApp)
    }
}
