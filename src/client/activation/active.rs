//! An app that is active: its user's apps, its PIN, and the copies that it grants.

use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::events::Events;
use super::flow::{SmsWish, exchange, message, register_pin};
use super::grant;
use super::problem::ActivationError;
use super::saved::SavedApp;
use super::server::{Request, Server, wall};
use crate::client::payload::Payload;
use crate::client::personal_pin::{PersonalPin, PinLogin};
use crate::crypto::{Binding, Credential};

/// An active app. The server may have deleted it meanwhile: then everything is refused as `UnknownDevice`.
#[derive(Clone, Debug)]
pub struct ActiveApp {
    server: Server,
    saved: SavedApp,
    app: Uuid,
}

/// What belongs to the user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Apps {
    /// Active apps, the oldest first.
    pub apps: Vec<AppEntry>,
    /// Copies that are under way.
    pub pending: Vec<PendingCopy>,
}

/// An active app of the user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AppEntry {
    /// Its id.
    pub id: Uuid,
    /// What the person calls it.
    pub name: String,
    /// What it runs on.
    pub model: String,
    created_ms: u64,
    last_used_ms: u64,
    /// Fingerprint or face.
    pub biometrics: bool,
    /// Whether notifications go there.
    pub notifications: bool,
    /// Whether it is this one.
    pub is_this: bool,
}

impl AppEntry {
    /// When it became active.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        since_epoch(self.created_ms)
    }

    /// When it last did something.
    #[must_use]
    pub fn last_used(&self) -> SystemTime {
        since_epoch(self.last_used_ms)
    }
}

/// A copy that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PendingCopy {
    /// Its id: with it any active app of the user cancels it.
    pub id: Uuid,
    /// What the new app calls itself.
    pub name: String,
    /// What it runs on.
    pub model: String,
    /// The server's name of the step that is due.
    pub due: String,
    starts_in_ms: u64,
}

impl PendingCopy {
    /// Time until it may start.
    #[must_use]
    pub fn starts_in(&self) -> Duration {
        Duration::from_millis(self.starts_in_ms)
    }
}

/// The app was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Unlocked {
    /// Whether the PIN must be registered anew, with [`ActiveApp::replace_pin`]; the same one will do.
    pub must_renew: bool,
}

impl ActiveApp {
    /// An app whose activation has succeeded; `None` for any other.
    #[must_use]
    pub fn new(server: Server, saved: SavedApp) -> Option<Self> {
        let app = saved.app().filter(|_| saved.is_active())?;
        Some(Self { server, saved, app })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.app
    }

    /// The active apps of the user, and the copies that are under way.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn apps(&self) -> Result<Apps, ActivationError> {
        self.server.ask(&self.saved.key, &Request::get("/v1/apps")).await
    }

    /// Gives an app of the user another name: 1 to 64 characters.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn rename(&self, app: Uuid, name: &str) -> Result<(), ActivationError> {
        let body = Zeroizing::new(json!({"name": name}).to_string());
        self.send(Request::with_body(Method::PATCH, path(app, ""), body)).await
    }

    /// Deletes an app of the user, this one or another: its key opens nothing any more.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn delete(&self, app: Uuid) -> Result<(), ActivationError> {
        self.send(Request::delete(path(app, ""))).await
    }

    /// Ends a copy that is under way.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn cancel_copy(&self, activation: Uuid) -> Result<(), ActivationError> {
        self.send(Request::delete(format!("/v1/activations/{activation}"))).await
    }

    /// Opens the app with its personal PIN. A wrong one ([`PinExchangeError::WrongPin`]) costs a try; a right one gives
    /// all tries back. Tens of milliseconds of work on this thread.
    ///
    /// [`PinExchangeError::WrongPin`]: crate::client::personal_pin::PinExchangeError::WrongPin
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn unlock(&self, pin: &PersonalPin) -> Result<Unlocked, ActivationError> {
        let key = &self.saved.key;
        let (login, ke1) = PinLogin::start(pin, *self.app.as_bytes(), &mut rand::rng())?;
        let first = Request::with_body(Method::POST, path(self.app, "/unlock"), message(&ke1)).once();
        let ke2 = exchange(&self.server, key, &first).await?;
        let (ke3, _) = login.finish(&ke2, &mut rand::rng())?;
        let second = Request::with_body(Method::PUT, path(self.app, "/unlock"), message(&ke3)).once();
        self.server.ask(key, &second).await
    }

    /// Replaces the personal PIN, within five minutes after [`Self::unlock`] or [`Self::prove_temporary_pin`].
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn replace_pin(&self, pin: &PersonalPin) -> Result<(), ActivationError> {
        let paths = (path(self.app, "/personal-pin-request"), path(self.app, "/personal-pin"));
        register_pin(&self.server, &self.saved.key, (self.app, pin), paths).await?;
        Ok(())
    }

    /// Asks for an SMS with a temporary PIN, in place of a personal PIN that was forgotten.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn send_temporary_pin(&self, wish: &SmsWish) -> Result<(), ActivationError> {
        let body = Zeroizing::new(serde_json::to_string(wish).unwrap_or_default());
        self.send(Request::with_body(Method::POST, path(self.app, "/temporary-pin-sms"), body).once()).await
    }

    /// The person typed that temporary PIN: for five minutes the personal one may be replaced.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn prove_temporary_pin(&self, typed: &str) -> Result<(), ActivationError> {
        let body = Zeroizing::new(json!({"pin": typed}).to_string());
        self.send(Request::with_body(Method::PUT, path(self.app, "/temporary-pin"), body).once()).await
    }

    /// What this app hands over so that the other phone may become an app of the same user: a grant that is made, and
    /// dated, when the check code was right.
    #[must_use]
    pub fn grant_copy(&self) -> Payload {
        let (app, key) = (self.app.to_string(), self.saved.key.clone());
        Payload::bound(move |binding: &Binding| {
            Credential::new(grant::sign(&app, &key, binding, wall(), rand::random()).into_bytes())
        })
    }

    /// What happens to the user's apps, as it happens, after what this app has heard before.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.server.clone(), self.saved.key.clone(), self.saved.last_event.clone())
    }

    async fn send(&self, request: Request) -> Result<(), ActivationError> {
        self.server.tell(&self.saved.key, &request).await?;
        Ok(())
    }
}

fn path(app: Uuid, rest: &str) -> String {
    format!("/v1/apps/{app}{rest}")
}

pub(super) fn since_epoch(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}
