//! The steps of an activation, each a method; what they lead to is [`Progress`]'s to decide.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::problem::ActivationError;
use super::progress::{Due, Overview, Progress, Question, View};
use super::saved::SavedApp;
use super::server::{Request, Server};
use crate::client::personal_pin::{PersonalPin, PinExchangeError, PinRegistration};
use crate::crypto::DeviceKey;

/// A message of the personal PIN's protocol.
#[derive(Deserialize)]
struct Message {
    message: String,
}

/// How the SMS is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SmsWish {
    /// A locale such as `da` or `en-GB`; Danish without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The Android app that may read it: 11 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_hash: Option<String>,
}

/// An app that is being activated. Save [`Self::saved`] before the first step and after each.
#[derive(Debug)]
pub struct Activation {
    server: Server,
    progress: Progress,
}

impl Activation {
    /// Begins, or goes on where the app was. Sends nothing yet.
    #[must_use]
    pub fn new(server: Server, saved: SavedApp) -> Self {
        Self { server, progress: Progress::new(saved) }
    }

    /// What is to be kept now.
    #[must_use]
    pub fn saved(&self) -> &SavedApp {
        self.progress.saved()
    }

    /// What may be shown to the person, once [`Self::due`] has succeeded and the app is not active yet.
    #[must_use]
    pub fn overview(&self) -> Option<Overview> {
        self.progress.overview()
    }

    /// What is to be done next. Asks the server where only it knows: in the beginning, while a copy waits, and when it is
    /// not known whether a step went through.
    ///
    /// # Errors
    /// [`ActivationError`]; it may be tried again.
    pub async fn due(&mut self) -> Result<Due, ActivationError> {
        if let Some(Due::Wait(_)) = self.progress.due() {
            self.progress.forget();
        }
        if let Some(due) = self.progress.due() {
            return Ok(due);
        }
        let request = match self.progress.question() {
            Some(Question::Start(body)) => Request::with_body(Method::POST, "/v1/activations", body),
            Some(Question::Look(activation)) => Request::get(path(activation, "")),
            None => return Err(ActivationError::NotDue),
        };
        let view = self.server.ask(self.key(), &request).await?;
        self.progress.handle_view(view);
        self.progress.due().ok_or(ActivationError::NotUnderstood)
    }

    /// The person typed the user ID. There are five tries.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn user_id(&mut self, typed: &str) -> Result<(), ActivationError> {
        self.put("user-id", &json!({"user_id": typed.trim()}), true).await
    }

    /// Asks for an SMS with a temporary PIN; the one before is of no use from then on.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn send_temporary_pin(&mut self, wish: &SmsWish) -> Result<(), ActivationError> {
        let (activation, _) = self.ids()?;
        let body = Zeroizing::new(serde_json::to_string(wish).unwrap_or_default());
        let request = Request::with_body(Method::POST, path(activation, "/temporary-pin-sms"), body).once();
        let answer = self.server.ask(self.key(), &request).await;
        let view = self.learn(answer)?;
        self.progress.handle_sms(view);
        Ok(())
    }

    /// The person typed the temporary PIN, or the phone filled it in. Spaces do not count; there are five tries.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn temporary_pin(&mut self, typed: &str) -> Result<(), ActivationError> {
        self.put("temporary-pin", &json!({"pin": typed}), true).await
    }

    /// Registers the personal PIN; the server never sees it. Tens of milliseconds of work on this thread.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn personal_pin(&mut self, pin: &PersonalPin) -> Result<(), ActivationError> {
        let (activation, app) = self.ids()?;
        let paths = (path(activation, "/personal-pin-request"), path(activation, "/personal-pin"));
        let answer = register_pin(&self.server, self.key(), (app, pin), paths).await;
        let answer =
            answer.and_then(|body| serde_json::from_slice::<View>(&body).map_err(|_| ActivationError::NotUnderstood));
        let view = self.learn(answer)?;
        self.progress.handle_view(view);
        Ok(())
    }

    /// Fingerprint or face: yes or no.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn biometrics(&mut self, enabled: bool) -> Result<(), ActivationError> {
        self.put("biometrics", &json!({"enabled": enabled}), false).await
    }

    /// Where notifications go: the push service's token, or nowhere. The last step: then the app is active.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn notifications(&mut self, push_token: Option<&str>) -> Result<(), ActivationError> {
        self.put("notifications", &json!({"push_token": push_token}), false).await
    }

    /// The person does not want it.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub async fn cancel(&mut self) -> Result<(), ActivationError> {
        let (activation, _) = self.ids()?;
        self.server.tell(self.key(), &Request::delete(path(activation, ""))).await?;
        self.progress.forget();
        Ok(())
    }

    async fn put(&mut self, step: &str, body: &serde_json::Value, is_guess: bool) -> Result<(), ActivationError> {
        let (activation, _) = self.ids()?;
        let body = Zeroizing::new(body.to_string());
        let request = Request::with_body(Method::PUT, path(activation, &format!("/{step}")), body);
        let request = if is_guess { request.once() } else { request };
        let answer = self.server.ask(self.key(), &request).await;
        let view = self.learn(answer)?;
        self.progress.handle_view(view);
        Ok(())
    }

    /// Keeps in mind what a failure says about how far the activation is.
    fn learn<T>(&mut self, answer: Result<T, ActivationError>) -> Result<T, ActivationError> {
        match &answer {
            Ok(_) => {}
            Err(ActivationError::Refused(refusal)) => self.progress.handle_refusal(refusal),
            Err(_) => self.progress.forget(),
        }
        answer
    }

    fn key(&self) -> &DeviceKey {
        &self.progress.saved().key
    }

    fn ids(&self) -> Result<(Uuid, Uuid), ActivationError> {
        self.progress.ids().ok_or(ActivationError::NotDue)
    }
}

fn path(activation: Uuid, step: &str) -> String {
    format!("/v1/activations/{activation}{step}")
}

pub(super) fn message(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(json!({"message": URL_SAFE_NO_PAD.encode(bytes)}).to_string())
}

/// Sends a message of the PIN's protocol, and returns the one that is answered.
pub(super) async fn exchange(server: &Server, key: &DeviceKey, request: &Request) -> Result<Vec<u8>, ActivationError> {
    let Message { message } = server.ask(key, request).await?;
    Ok(URL_SAFE_NO_PAD.decode(message).map_err(|_| PinExchangeError::Malformed)?)
}

/// Registers a PIN in two requests, by the paths of an activation or of an app.
pub(super) async fn register_pin(
    server: &Server,
    key: &DeviceKey,
    (app, pin): (Uuid, &PersonalPin),
    (first, second): (String, String),
) -> Result<Zeroizing<Vec<u8>>, ActivationError> {
    let (registration, request) = PinRegistration::start(pin, *app.as_bytes(), &mut rand::rng())?;
    let response = exchange(server, key, &Request::with_body(Method::POST, first, message(&request))).await?;
    let upload = registration.finish(&response, &mut rand::rng())?;
    server.tell(key, &Request::with_body(Method::PUT, second, message(&upload))).await
}
