//! `/v1/apps`: what an active app sees and may do to the apps of its user.

use std::time::{Duration, SystemTime};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::activations::{PinMessage, name};
use super::caller::Device;
use super::problem::{Kind, Problem, Problems};
use super::{Http, answer};
use crate::activation::flow::Due;
use crate::activation::ids::AppId;
use crate::activation::service::{AppView, PendingView};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .route("", web::get().to(list))
        .route("/{app}", web::patch().to(rename))
        .route("/{app}", web::delete().to(delete))
        .route("/{app}/unlock", web::post().to(begin_unlock))
        .route("/{app}/unlock", web::put().to(finish_unlock));
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

fn since_epoch(time: SystemTime) -> u64 {
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

fn app_id(path: &Path<String>) -> Result<AppId, Problem> {
    path.parse().map_err(|_| Kind::UnknownApp.into())
}

/// The active apps of the user, and the activations that are under way.
#[utoipa::path(get, path = "/v1/apps",
    params(("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)")),
    responses((status = 200, description = "The user's apps", body = MineBody), Problems))]
pub(super) async fn list(device: Device, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let mine = http.service.apps(&device.0).await?;
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
    http.service.rename_app(&device.0, app_id(&path)?, name(&body.name)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Deletes an app: its key opens nothing any more, and the copies that it granted end.
#[utoipa::path(delete, path = "/v1/apps/{app}",
    params(("app" = String, Path, description = "The app's id"),
           ("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)")),
    responses((status = 204, description = "It is deleted"), Problems))]
pub(super) async fn delete(device: Device, path: Path<String>, http: Data<Http>) -> Result<HttpResponse, Problem> {
    http.service.delete_app(&device.0, app_id(&path)?).await?;
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
    let ke2 = http.service.begin_unlock(&device.0, app_id(&path)?, &body.bytes()?).await?;
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
    let must_renew = http.service.finish_unlock(&device.0, app_id(&path)?, &body.bytes()?).await?;
    Ok(answer(&UnlockedBody { must_renew }))
}
