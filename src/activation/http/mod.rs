//! The activation over HTTP: paths, bodies, problems. Decides nothing: every handler reads a request, asks the service
//! and writes the answer.
//!
//! A request of a device carries a `DPoP` header; one of the administration a bearer token. Bodies are JSON objects of at
//! most 16 KiB. No answer may be stored.

mod activations;
mod admin;
mod apps;
mod caller;
mod events;
pub mod problem;
mod reports;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use actix_web::web::{self, JsonConfig, PathConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tokio::time::timeout;
use url::Url;
use utoipa::OpenApi;
use zeroize::Zeroizing;

use self::caller::Device;
use self::problem::{Kind, Problem};
use super::registry::RegistryError;
use super::service::{Caller, Service, ServiceError};
use super::sms::delivery::Scheme;
use super::sms::outbox::Outbox;

/// When a phone is told that the registry does not answer. The work goes on: its end is the repeated request's to find.
const PATIENCE: Duration = Duration::from_secs(20);

/// Largest body in bytes: four times what the longest tokens make.
const MOST_BODY_BYTES: usize = 16 * 1024;

/// Largest body of the administration: some ten thousand users.
const MOST_ADMIN_BYTES: usize = 4 * 1024 * 1024;

/// Tells the address that a request comes from, behind the proxies that are trusted.
pub type ClientAddress = Arc<dyn Fn(&HttpRequest) -> Option<IpAddr> + Send + Sync>;

/// What the handlers share.
pub struct Http {
    /// The service.
    pub service: Arc<Service>,
    /// What the administration shows.
    pub admin_token: Zeroizing<String>,
    /// Where a request comes from.
    pub client_address: ClientAddress,
    /// How devices see this service, if that is known; else the `Host` header counts.
    pub public_url: Option<Url>,
    /// The threads that the service's work is done on: signatures and the protocol of the PIN cost too much for the
    /// thread on which the relay forwards frames.
    pub threads: tokio::runtime::Handle,
    /// How each gateway, in the order of preference, signs its delivery reports, if it sends any.
    pub reports: Vec<Option<Scheme>>,
    /// The development outbox, if SMS go there.
    pub outbox: Option<Arc<Outbox>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Http {
    /// Checks the device's proof and does the work, on the activation's own threads. It is done even if nobody waits any
    /// more.
    async fn run<T, Work, End>(&self, device: Device, work: Work) -> Result<T, Problem>
    where
        T: Send + 'static,
        Work: FnOnce(Arc<Service>, Caller) -> End + Send + 'static,
        End: Future<Output = Result<T, ServiceError>> + Send + 'static,
    {
        self.run_for_anyone(move |service| async move {
            let caller = device.check()?;
            work(service, caller).await
        })
        .await
    }

    /// Does the work on the activation's own threads.
    async fn run_for_anyone<T, Work, End>(&self, work: Work) -> Result<T, Problem>
    where
        T: Send + 'static,
        Work: FnOnce(Arc<Service>) -> End,
        End: Future<Output = Result<T, ServiceError>> + Send + 'static,
    {
        match timeout(PATIENCE, self.threads.spawn(work(Arc::clone(&self.service)))).await {
            Ok(Ok(end)) => Ok(end?),
            Ok(Err(_)) => Err(Kind::InternalError.into()),
            Err(_) => Err(ServiceError::from(RegistryError::Silent).into()),
        }
    }
}

/// The OpenAPI document of the activation.
#[derive(OpenApi, Debug)]
#[openapi(
    info(title = "handoff-relay activation", description = "From a new app to an active one."),
    paths(
        openapi,
        activations::start,
        activations::look,
        activations::cancel,
        activations::user_id,
        activations::send_pin,
        activations::temporary_pin,
        activations::personal_pin_request,
        activations::personal_pin,
        activations::biometrics,
        activations::notifications,
        apps::list,
        apps::rename,
        apps::delete,
        apps::begin_unlock,
        apps::finish_unlock,
        apps::send_reset_pin,
        apps::prove_reset_pin,
        apps::new_pin_request,
        apps::replace_pin,
        events::stream,
        admin::put_users,
        admin::look,
        admin::audit,
        admin::erase_user,
    ),
    components(schemas(problem::Body))
)]
pub struct ApiDoc;

/// The paths.
pub fn routes(http: &web::Data<Http>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let http = http.clone();
    move |config| {
        let has_outbox = http.outbox.is_some();
        config
            .app_data(http)
            .service(guarded("/v1/activations", MOST_BODY_BYTES).configure(activations::routes))
            .service(guarded("/v1/apps", MOST_BODY_BYTES).configure(events::routes).configure(apps::routes))
            .service(guarded("/v1/sms/reports", MOST_BODY_BYTES).configure(reports::routes))
            .service(guarded("/v1/admin", MOST_ADMIN_BYTES).configure(admin::routes));
        config.route("/v1/openapi.json", web::get().to(openapi));
        if has_outbox {
            config.route("/dev/outbox", web::get().to(outbox));
            config.route("/dev/outbox.json", web::get().to(outbox_json));
        }
    }
}

fn guarded(path: &str, most_bytes: usize) -> actix_web::Scope {
    let bad_body = |_, _: &HttpRequest| Problem::from(Kind::BadBody).into();
    let bad_path = |_, _: &HttpRequest| Problem::from(Kind::NotFound).into();
    web::scope(path)
        .app_data(JsonConfig::default().limit(most_bytes).error_handler(bad_body))
        .app_data(PathConfig::default().error_handler(bad_path))
        .default_service(web::to(|| async { Err::<HttpResponse, Problem>(Kind::NotFound.into()) }))
}

/// An answer that nobody keeps.
fn answer(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(value)
}

/// The outbox; for a developer at this machine, never through a proxy.
fn near_outbox<'a>(request: &HttpRequest, http: &'a Http) -> Result<&'a Outbox, Problem> {
    let is_near = request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let is_forwarded = ["forwarded", "x-forwarded-for"].iter().any(|name| request.headers().contains_key(*name));
    Ok(http.outbox.as_ref().filter(|_| is_near && !is_forwarded).ok_or(Kind::NotFound)?)
}

/// What would have been sent, for a program.
async fn outbox_json(request: HttpRequest, http: web::Data<Http>) -> Result<HttpResponse, Problem> {
    Ok(answer(&near_outbox(&request, &http)?.listing()))
}

/// What would have been sent.
async fn outbox(request: HttpRequest, http: web::Data<Http>) -> Result<HttpResponse, Problem> {
    let outbox = near_outbox(&request, &http)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "no-store")).insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'"));
    Ok(response.content_type("text/html; charset=utf-8").body(outbox.page()))
}

/// The time as the handlers see it.
#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The description of these paths.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "The OpenAPI document")))]
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().json(ApiDoc::openapi())
}
