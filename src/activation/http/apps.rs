//! `/v1/apps`: what an active app sees and may do to the apps of its user.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::activations::{PinBody, PinMessage, SmsBody, name};
use super::caller::Device;
use super::problem::{Kind, Problem, Problems};
use super::{Http, answer};
use crate::activation::flow::Due;
use crate::activation::ids::AppId;
use crate::activation::service::{AppView, PendingView, Service};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("", web::get().to(list))
        .route("/{app}", web::patch().to(rename))
        .route("/{app}", web::delete().to(delete))
        .route("/{app}/unlock", web::post().to(begin_unlock))
        .route("/{app}/unlock", web::put().to(finish_unlock))
        .route("/{app}/temporary-pin-sms", web::post().to(send_reset_pin))
        .route("/{app}/temporary-pin", web::put().to(prove_reset_pin))
        .route("/{app}/personal-pin-request", web::post().to(new_pin_request))
        .route("/{app}/personal-pin", web::put().to(replace_pin));
}

/// An active app.
#[derive(Serialize, ToSchema)]
#[schema(as = App)]
pub(super) struct AppBody {
    /// Its id.
    id: String,
    /// What the person calls it.
    name: String,
    /// What it runs on.
    model: String,
    /// When it became active, in milliseconds since 1970.
    created_ms: u64,
    /// When it last did something, in milliseconds since 1970.
    last_used_ms: u64,
    /// Fingerprint or face.
    biometrics: bool,
    /// Whether notifications go there.
    notifications: bool,
    /// Whether it is the one that asks.
    is_this: bool,
}

/// A copy that is under way.
#[derive(Serialize, ToSchema)]
#[schema(as = PendingActivation)]
pub(super) struct PendingBody {
    /// The activation's id: with it any active app of the user can cancel it.
    id: String,
    /// What the new app calls itself.
    name: String,
    /// What it runs on.
    model: String,
    /// The step that is due.
    due: Due,
    /// Time until it may start, in milliseconds.
    starts_in_ms: u64,
}

/// What belongs to the user.
#[derive(Serialize, ToSchema)]
#[schema(as = Apps)]
pub(super) struct MineBody {
    /// Active apps, the oldest first.
    apps: Vec<AppBody>,
    /// Activations that are not over.
    pending: Vec<PendingBody>,
}

/// Another name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NameBody {
    /// At most 64 characters.
    name: String,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn since_epoch(time: SystemTime) -> u64 {
    millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

impl From<&AppView> for AppBody {
    fn from(app: &AppView) -> Self {
        Self {
            id: app.id.to_string(),
            name: app.name.to_string(),
            model: app.model.to_string(),
            created_ms: since_epoch(app.created),
            last_used_ms: since_epoch(app.last_used),
            biometrics: app.biometrics,
            notifications: app.notifications,
            is_this: app.is_this,
        }
    }
}

impl From<&PendingView> for PendingBody {
    fn from(pending: &PendingView) -> Self {
        Self {
            id: pending.id.to_string(),
            name: pending.name.to_string(),
            model: pending.model.to_string(),
            due: pending.due,
            starts_in_ms: millis(pending.starts_in),
        }
    }
}

pub(super) fn app_id(path: &Path<String>) -> Result<AppId, Problem> {
    path.parse().map_err(|_| Kind::UnknownApp.into())
}

/// The active apps of the user, and the activations that are under way.
#[utoipa::path(get, path = "/v1/apps",
    params(("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)")),
    responses((status = 200, description = "The user's apps", body = MineBody), Problems))]
pub(super) async fn list(device: Device, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let mine = http.run(device, |service, caller| async move { service.apps(&caller).await }).await?;
    let apps = mine.apps.iter().map(AppBody::from).collect();
    Ok(answer(&MineBody { apps, pending: mine.pending.iter().map(PendingBody::from).collect() }))
}

/// Gives an app another name.
#[utoipa::path(patch, path = "/v1/apps/{app}", request_body = NameBody,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)")),
    responses((status = 204, description = "It has the name"), Problems))]
pub(super) async fn rename(
    device: Device,
    path: Path<String>,
    body: Json<NameBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, name) = (app_id(&path)?, name(&body.name)?);
    http.run(device, move |service, caller| async move { service.rename_app(&caller, id, name).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes an app: its key opens nothing any more, and the copies that it granted end.
#[utoipa::path(delete, path = "/v1/apps/{app}",
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(device: Device, path: Path<String>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let id = app_id(&path)?;
    http.run(device, move |service, caller| async move { service.delete_app(&caller, id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What came of opening an app.
#[derive(Serialize, ToSchema)]
#[schema(as = Unlocked)]
pub(super) struct UnlockedBody {
    /// Whether the PIN was registered under a setup that is being replaced.
    must_renew: bool,
}

/// Opens an app with its personal PIN, the first step: KE1 of OPAQUE in, KE2 out. Counts as a try.
#[utoipa::path(post, path = "/v1/apps/{app}/unlock", request_body = PinMessage,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 200, description = "KE2", body = PinMessage), Problems))]
pub(super) async fn begin_unlock(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, ke1) = (app_id(&path)?, body.bytes()?);
    let ke2 =
        http.run(device, move |service, caller| async move { service.begin_unlock(&caller, id, &ke1).await }).await?;
    Ok(answer(&PinMessage::new(&ke2)))
}

/// The second step: KE3 of OPAQUE. A valid one gives all tries back.
#[utoipa::path(put, path = "/v1/apps/{app}/unlock", request_body = PinMessage,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 200, description = "The app may be opened", body = UnlockedBody), Problems))]
pub(super) async fn finish_unlock(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, ke3) = (app_id(&path)?, body.bytes()?);
    let work = move |service: Arc<Service>, caller| async move { service.finish_unlock(&caller, id, &ke3).await };
    let must_renew = http.run(device, work).await?;
    Ok(answer(&UnlockedBody { must_renew }))
}

/// Sends a temporary PIN in place of a forgotten personal one.
#[utoipa::path(post, path = "/v1/apps/{app}/temporary-pin-sms", request_body = SmsBody,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 204, description = "The SMS goes out"), Problems))]
pub(super) async fn send_reset_pin(
    device: Device,
    path: Path<String>,
    body: Json<SmsBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, request) = (app_id(&path)?, body.request()?);
    let work = move |service: Arc<Service>, caller| async move { service.send_reset_pin(&caller, id, &request).await };
    http.run(device, work).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The person typed that temporary PIN: for five minutes the personal one may be replaced.
#[utoipa::path(put, path = "/v1/apps/{app}/temporary-pin", request_body = PinBody,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 204, description = "It is the one"), Problems))]
pub(super) async fn prove_reset_pin(
    device: Device,
    path: Path<String>,
    body: Json<PinBody>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, typed) = (app_id(&path)?, body.typed()?);
    let work = move |service: Arc<Service>, caller| async move { service.prove_reset_pin(&caller, id, &typed).await };
    http.run(device, work).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Answers OPAQUE's registration request for another personal PIN, within five minutes after the app was opened.
#[utoipa::path(post, path = "/v1/apps/{app}/personal-pin-request", request_body = PinMessage,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 200, description = "The registration response", body = PinMessage), Problems))]
pub(super) async fn new_pin_request(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, request) = (app_id(&path)?, body.bytes()?);
    let work = move |service: Arc<Service>, caller| async move { service.new_pin_request(&caller, id, &request).await };
    Ok(answer(&PinMessage::new(&http.run(device, work).await?)))
}

/// Takes OPAQUE's registration upload: from now on the new personal PIN opens the app, and the old one does not.
#[utoipa::path(put, path = "/v1/apps/{app}/personal-pin", request_body = PinMessage,
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of this app's device key (RFC 9449)")),
    responses((status = 204, description = "The PIN is replaced"), Problems))]
pub(super) async fn replace_pin(
    device: Device,
    path: Path<String>,
    body: Json<PinMessage>,
    http: Data<Http>,
) -> Result<HttpResponse, Problem> {
    let (id, upload) = (app_id(&path)?, body.bytes()?);
    http.run(device, move |service, caller| async move { service.replace_pin(&caller, id, &upload).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
