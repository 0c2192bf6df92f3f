//! What an app keeps between runs: its device key, how far its activation was, and which app it has become. Where it is
//! kept is the app's business.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::grant::CopyGrant;
use super::url::{BadServerUrl, ServerUrl};
use crate::crypto::DeviceKey;

/// The version of the format.
const VERSION: u32 = 1;

/// What lets an activation begin.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Beginning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enrolment_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) copy_grant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) th2: Option<String>,
}

impl Beginning {
    /// On this phone: the identity-proofing system's token.
    #[must_use]
    pub fn enrolment(token: String) -> Self {
        Self { enrolment_token: Some(token), copy_grant: None, th2: None }
    }

    /// On another phone: what the handoff brought.
    #[must_use]
    pub fn copy(grant: &CopyGrant) -> Self {
        let (copy_grant, th2) = (Some(grant.grant.to_string()), Some(grant.th2.clone()));
        Self { enrolment_token: None, copy_grant, th2 }
    }
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.copy_grant.is_some() { "Copy([redacted])" } else { "Enrolment([redacted])" })
    }
}

/// How far it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// The server may not have heard of it.
    Beginning(Beginning),
    /// It has, and knows which step is due.
    Activating { activation: Uuid, app: Uuid },
    /// The app is active.
    Active { app: Uuid },
}

/// An app on its way to be active, or active. As JSON it holds the secret of the device key: readable by the app alone.
#[derive(Clone, Debug)]
pub struct SavedApp {
    pub(super) server: ServerUrl,
    pub(super) key: DeviceKey,
    pub(super) name: String,
    pub(super) model: String,
    pub(super) stage: Stage,
    pub(super) last_event: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    handoff_app: u32,
    server: String,
    name: String,
    model: String,
    device_key: Secret,
    stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_event: Option<String>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Secret(String);

/// Bytes that are no saved app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSavedApp {
    /// Something else.
    #[error("this is not the state of an app")]
    Malformed,
    /// Of a later version of this library.
    #[error("the state is of a newer version: update this app")]
    Newer,
    /// The key in it is none.
    #[error("the device key in the state is damaged")]
    Key,
    /// The server in it is none.
    #[error("{0}")]
    Server(BadServerUrl),
}

impl SavedApp {
    /// A new app with a new key, before it has said anything. `name` is what the person calls it, `model` what it runs on;
    /// both have 1 to 64 characters.
    #[must_use]
    pub fn new(server: ServerUrl, key: DeviceKey, (name, model): (&str, &str), beginning: Beginning) -> Self {
        let (name, model) = (name.to_owned(), model.to_owned());
        Self { server, key, name, model, stage: Stage::Beginning(beginning), last_event: None }
    }

    /// What [`Self::to_json`] gave.
    ///
    /// # Errors
    /// [`BadSavedApp`].
    pub fn from_json(json: &[u8]) -> Result<Self, BadSavedApp> {
        #[derive(Deserialize)]
        struct Version {
            handoff_app: u32,
        }
        let Version { handoff_app } = serde_json::from_slice(json).map_err(|_| BadSavedApp::Malformed)?;
        if handoff_app != VERSION {
            return Err(BadSavedApp::Newer);
        }
        let stored: Stored = serde_json::from_slice(json).map_err(|_| BadSavedApp::Malformed)?;
        let key = Zeroizing::new(URL_SAFE_NO_PAD.decode(&stored.device_key.0).map_err(|_| BadSavedApp::Key)?);
        let key = <&[u8; 32]>::try_from(key.as_slice()).ok().and_then(DeviceKey::from_bytes);
        Ok(Self {
            server: ServerUrl::parse(&stored.server).map_err(BadSavedApp::Server)?,
            key: key.ok_or(BadSavedApp::Key)?,
            name: stored.name,
            model: stored.model,
            stage: stored.stage,
            last_event: stored.last_event,
        })
    }

    /// All of it as JSON, the secrets included.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            handoff_app: VERSION,
            server: self.server.to_string(),
            name: self.name.clone(),
            model: self.model.clone(),
            device_key: Secret(URL_SAFE_NO_PAD.encode(*self.key.to_bytes())),
            stage: self.stage.clone(),
            last_event: self.last_event.clone(),
        };
        // Texts, numbers and two levels of objects: nothing that JSON cannot say.
        Zeroizing::new(serde_json::to_vec_pretty(&stored).unwrap_or_default())
    }

    /// Its server.
    #[must_use]
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// What the person called it when it was activated.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The app's id, once the server has given it one.
    #[must_use]
    pub fn app(&self) -> Option<Uuid> {
        match self.stage {
            Stage::Beginning(_) => None,
            Stage::Activating { app, .. } | Stage::Active { app } => Some(app),
        }
    }

    /// Whether the activation has succeeded. The app may have been deleted since.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Active { .. })
    }

    /// Keeps up to where the app has heard of events: [`super::Events::last`].
    pub fn set_last_event(&mut self, id: Option<&str>) {
        self.last_event = id.map(str::to_owned);
    }
}
