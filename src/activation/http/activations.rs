//! `/v1/activations`: from a new app to an active one, step by step. Every step may be repeated, and every answer says
//! which step is due.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::caller::Device;
use super::problem::{Kind, Problem, Problems};
use super::{Http, answer};
use crate::activation::flow::{Due, End};
use crate::activation::ids::{ActivationId, UserId};
use crate::activation::service::{NewApp, PinRequest, Service, Start, View};
use crate::activation::sms::text::Language;
use crate::activation::temporary_pin::TemporaryPin;

/// Longest name of an app or a model, in characters.
const MOST_NAME: usize = 64;

/// Longest push token, in bytes.
const MOST_PUSH_TOKEN: usize = 4096;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("", web::post().to(start))
        .route("/{activation}", web::get().to(look))
        .route("/{activation}", web::delete().to(cancel))
        .route("/{activation}/user-id", web::put().to(user_id))
        .route("/{activation}/temporary-pin-sms", web::post().to(send_pin))
        .route("/{activation}/temporary-pin", web::put().to(temporary_pin))
        .route("/{activation}/personal-pin-request", web::post().to(personal_pin_request))
        .route("/{activation}/personal-pin", web::put().to(personal_pin))
        .route("/{activation}/biometrics", web::put().to(biometrics))
        .route("/{activation}/notifications", web::put().to(notifications));
}

/// How an activation starts: with exactly one of an enrolment token, and a copy grant with `th2`.
#[derive(Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct StartBody {
    /// On this phone: the identity-proofing system's token.
    enrolment_token: Option<String>,
    /// On another phone: the grant that came through the handoff.
    copy_grant: Option<String>,
    /// The handoff's transcript hash as the new app knows it, 32 bytes in unpadded base64url.
    th2: Option<String>,
    /// What the person calls the app, at most 64 characters.
    name: String,
    /// What it runs on, at most 64 characters.
    model: String,
}

/// How far an activation is.
#[derive(Serialize, ToSchema)]
#[schema(as = Activation)]
pub(super) struct ViewBody {
    /// Its id.
    id: String,
    /// The step that is due.
    due: Due,
    /// Why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<End>,
    /// Time until it is over, in milliseconds.
    expires_in_ms: u64,
    /// Time until a copy may start, in milliseconds.
    starts_in_ms: u64,
    /// The app's id: its name in OPAQUE, and in the registry once it is active.
    app: String,
    /// The holder's name, masked.
    holder: String,
    /// The last two digits of the number that the SMS goes to.
    number_ends: String,
    /// Whether a temporary PIN is waiting to be typed.
    has_pin: bool,
}

impl From<&View> for ViewBody {
    fn from(view: &View) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: view.id.to_string(),
            due: view.due,
            ended: view.end,
            expires_in_ms: millis(view.expires_in),
            starts_in_ms: millis(view.starts_in),
            app: view.app.to_string(),
            holder: view.holder.to_string(),
            number_ends: view.number_ends.to_string(),
            has_pin: view.has_pin,
        }
    }
}

/// The user ID as typed.
#[derive(Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct UserIdBody {
    /// Upper and lower case are the same.
    user_id: String,
}

/// How the SMS is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SmsBody {
    /// A locale such as `da` or `en-GB`; Danish without.
    language: Option<String>,
    /// The Android app that may read it: 11 characters, one of the configured.
    app_hash: Option<String>,
}

impl SmsBody {
    pub(super) fn request(&self) -> Result<PinRequest, Problem> {
        let app_hash = self.app_hash.as_deref().map(str::parse).transpose().map_err(|_| Kind::UnknownAppHash)?;
        Ok(PinRequest { language: Language::from_locale(self.language.as_deref().unwrap_or_default()), app_hash })
    }
}

/// The temporary PIN as typed.
#[derive(Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct PinBody {
    /// Eight digits; spaces and hyphens do not count.
    pin: String,
}

/// A message of OPAQUE (RFC 9807), in unpadded base64url.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PinMessage {
    /// The message.
    message: String,
}

impl PinBody {
    pub(super) fn typed(&self) -> Result<TemporaryPin, Problem> {
        self.pin.parse().map_err(|_| Kind::BadPin.into())
    }
}

impl PinMessage {
    pub(super) fn new(message: &[u8]) -> Self {
        Self { message: URL_SAFE_NO_PAD.encode(message) }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, Problem> {
        URL_SAFE_NO_PAD.decode(&self.message).map_err(|_| Kind::BadPinMessage.into())
    }
}

/// Fingerprint or face.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BiometricsBody {
    /// Yes or no.
    enabled: bool,
}

/// Where notifications go.
#[derive(Deserialize, ToSchema, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationsBody {
    /// The push service's token, at most 4,096 bytes; nothing for no notifications.
    push_token: Option<String>,
}

/// A name that a person may give: some characters, none of them control characters.
pub(super) fn name(text: &str) -> Result<Zeroizing<String>, Problem> {
    let text = text.trim();
    let is_good = (1..=MOST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_good { Ok(Zeroizing::new(text.to_owned())) } else { Err(Kind::BadBody.into()) }
}

pub(super) fn activation_id(path: &Path<String>) -> Result<ActivationId, Problem> {
    path.parse().map_err(|_| Kind::UnknownActivation.into())
}

fn start_of(body: &StartBody) -> Result<Start, Problem> {
    match (&body.enrolment_token, &body.copy_grant, &body.th2) {
        (Some(token), None, None) => Ok(Start::Enrolment(Zeroizing::new(token.clone()))),
        (None, Some(grant), Some(transcript)) => {
            let transcript = URL_SAFE_NO_PAD.decode(transcript).map_err(|_| Kind::BadBody)?;
            let transcript = transcript.try_into().map_err(|_| Kind::BadBody)?;
            Ok(Start::Copy { grant: Zeroizing::new(grant.clone()), transcript })
        }
        _ => Err(Kind::BadBody.into()),
    }
}

/// Starts an activation; the same request of the same device again gives the same one.
#[utoipa::path(post, path = "/v1/activations", request_body = StartBody,
    params(("DPoP" = String, Header, description = "The proof of the new app's device key (RFC 9449)")),
    responses(
        (status = 201, description = "It has started", body = ViewBody),
        Problems))]
pub(super) async fn start(device: Device, body: Json<StartBody>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let app = NewApp { name: name(&body.name)?, model: name(&body.model)? };
    let start = start_of(&body)?;
    let work = move |service: Arc<Service>, caller| async move { service.start(&caller, &start, &app).await };
    let view = http.run(device, work).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header((LOCATION, format!("/v1/activations/{}", view.id)));
    Ok(response.json(ViewBody::from(&view)))
}

/// Says how far an activation is.
#[utoipa::path(get, path = "/v1/activations/{activation}",
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses(
        (status = 200, description = "How far it is", body = ViewBody),
        Problems))]
pub(super) async fn look(device: Device, path: Path<String>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let view = http.run(device, move |service, caller| async move { service.look(&caller, id).await }).await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// Ends an activation: the new app its own, an active app one of the same user.
#[utoipa::path(delete, path = "/v1/activations/{activation}",
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses(
        (status = 204, description = "It is over"),
        Problems))]
pub(super) async fn cancel(device: Device, path: Path<String>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    http.run(device, move |service, caller| async move { service.cancel(&caller, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The person typed the user ID; only for copies.
#[utoipa::path(put, path = "/v1/activations/{activation}/user-id", request_body = UserIdBody,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "How far it is", body = ViewBody), Problems))]
pub(super) async fn user_id(
    device: Device,
    path: Path<String>,
    body: Json<UserIdBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let typed: UserId = body.user_id.parse().map_err(|_| Kind::BadBody)?;
    let view =
        http.run(device, move |service, caller| async move { service.user_id(&caller, id, &typed).await }).await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// Asks for an SMS with a temporary PIN; a new one replaces the one before.
#[utoipa::path(post, path = "/v1/activations/{activation}/temporary-pin-sms", request_body = SmsBody,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "The SMS goes out", body = ViewBody), Problems))]
pub(super) async fn send_pin(
    device: Device,
    path: Path<String>,
    body: Json<SmsBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, request) = (activation_id(&path)?, body.request()?);
    let view =
        http.run(device, move |service, caller| async move { service.send_pin(&caller, id, &request).await }).await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// The person typed the temporary PIN, or the phone filled it in.
#[utoipa::path(put, path = "/v1/activations/{activation}/temporary-pin", request_body = PinBody,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "How far it is", body = ViewBody), Problems))]
pub(super) async fn temporary_pin(
    device: Device,
    path: Path<String>,
    body: Json<PinBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let typed = body.typed()?;
    let view = http
        .run(device, move |service, caller| async move { service.temporary_pin(&caller, id, &typed).await })
        .await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// Answers OPAQUE's registration request for the personal PIN.
#[utoipa::path(post, path = "/v1/activations/{activation}/personal-pin-request", request_body = PinMessage,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "The registration response", body = PinMessage), Problems))]
pub(super) async fn personal_pin_request(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let request = body.bytes()?;
    let work =
        move |service: Arc<Service>, caller| async move { service.personal_pin_request(&caller, id, &request).await };
    let message = http.run(device, work).await?;
    Ok(answer(&PinMessage::new(&message)))
}

/// Takes OPAQUE's registration upload for the personal PIN.
#[utoipa::path(put, path = "/v1/activations/{activation}/personal-pin", request_body = PinMessage,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "How far it is", body = ViewBody), Problems))]
pub(super) async fn personal_pin(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let upload = body.bytes()?;
    let view = http
        .run(device, move |service, caller| async move { service.personal_pin(&caller, id, &upload).await })
        .await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// Fingerprint or face: yes or no.
#[utoipa::path(put, path = "/v1/activations/{activation}/biometrics", request_body = BiometricsBody,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "How far it is", body = ViewBody), Problems))]
pub(super) async fn biometrics(
    device: Device,
    path: Path<String>,
    body: Json<BiometricsBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let wanted = body.enabled;
    let view =
        http.run(device, move |service, caller| async move { service.biometrics(&caller, id, wanted).await }).await?;
    Ok(answer(&ViewBody::from(&view)))
}

/// Notifications: where to, or not at all. Afterwards the app is active.
#[utoipa::path(put, path = "/v1/activations/{activation}/notifications", request_body = NotificationsBody,
    params(("activation" = String, Path, description = "Its id"),
           ("DPoP" = String, Header, description = "The proof of the device key (RFC 9449)")),
    responses((status = 200, description = "How far it is", body = ViewBody), Problems))]
pub(super) async fn notifications(
    device: Device,
    path: Path<String>,
    body: Json<NotificationsBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let id = activation_id(&path)?;
    let token = body.push_token.clone().map(Zeroizing::new);
    if token.as_ref().is_some_and(|token| token.is_empty() || token.len() > MOST_PUSH_TOKEN) {
        return Err(Kind::BadBody.into());
    }
    let work = move |service: Arc<Service>, caller| async move {
        service.notifications(&caller, id, token.as_ref().map(|token| token.as_str())).await
    };
    let view = http.run(device, work).await?;
    Ok(answer(&ViewBody::from(&view)))
}
