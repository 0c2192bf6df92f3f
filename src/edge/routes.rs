//! The paths and their handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, Version as HttpVersion};
use actix_web::{HttpRequest, HttpResponse, web};
use ipnet::IpNet;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tracing::debug;
use utoipa::{OpenApi, ToSchema};

use super::admission::{Admission, ConnectionGuard};
use super::client_addr::{ClientAddress, ForwardingHeader, from_headers};
use super::network::NetworkTagger;
use super::problem::{Kind, Problem};
use super::socket::{self, Party};
use super::spans;
use crate::protocol::ids::SessionId;
use crate::protocol::{Role, SUBPROTOCOL};
use crate::relay::link::Cord;
use crate::relay::{BUSY_RETRY_AFTER, Relay};
use crate::telemetry;

/// The prefix of the paths that apps connect to; below it are a session's id and a role.
pub(super) const SESSIONS: &str = "/v1/sessions";

/// What the handlers share.
#[derive(Debug)]
pub struct Edge {
    /// The node.
    pub relay: Arc<Relay>,
    /// Its limits.
    pub admission: Arc<Admission>,
    /// Makes network tags of addresses.
    pub tagger: NetworkTagger,
    /// The header that the trusted proxies write.
    pub forwarding_header: ForwardingHeader,
    /// Proxies whose word about the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Web pages that may connect.
    pub allowed_origins: Vec<String>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Whether connections are encrypted here, and not by a proxy.
    pub is_secure: bool,
    /// Whether the `traceparent` of requests says which trace they belong to.
    pub trust_traceparent: bool,
    /// Whether new connections are taken.
    pub ready: AtomicBool,
}

/// The paths of the public listener.
pub fn public(config: &mut web::ServiceConfig) {
    config
        // A fixed prefix, and the rest is split in `connect`: a pattern is a regular expression, which costs more than
        // all else that is done for a request.
        .service(web::scope(SESSIONS).default_service(web::to(connect)))
        .configure(health)
        .default_service(web::to(nothing_here));
}

/// The paths for whoever decides whether this node gets traffic.
pub fn health(config: &mut web::ServiceConfig) {
    config.route("/healthz", web::get().to(healthz)).route("/readyz", web::get().to(readyz));
}

/// The paths for operators: on a listener of their own, or beside the public ones.
pub fn operators(config: &mut web::ServiceConfig) {
    config
        .route("/metrics", web::get().to(metrics))
        .route("/version", web::get().to(version))
        .route("/openapi.json", web::get().to(openapi));
}

/// The OpenAPI document of the HTTP side.
#[derive(OpenApi, Debug)]
#[openapi(
    info(
        title = "handoff-relay",
        description = "Hands an app's credential over to a new phone; see docs/protocol.md."
    ),
    paths(connect, healthz, readyz, metrics, version, openapi),
    components(schemas(super::problem::Body))
)]
pub struct ApiDoc;

/// What this binary is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// The package's name.
    pub name: &'static str,
    /// The package's version.
    #[serde(rename = "version")]
    pub release: &'static str,
    /// The WebSocket subprotocol.
    pub protocol: &'static str,
}

impl Version {
    /// The running binary's.
    #[must_use]
    pub fn of_this_binary() -> Self {
        Self { name: env!("CARGO_PKG_NAME"), release: env!("CARGO_PKG_VERSION"), protocol: SUBPROTOCOL }
    }
}

/// Opens the WebSocket of one app; see docs/asyncapi.json for what travels on it.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/{role}",
    params(
        ("session" = uuid::Uuid, Path, description = "The session's id, a random (version 4) UUID made by the old app"),
        ("role" = String, Path, description = "`old` for the app that shows the QR code, `new` for the one that scans"),
        ("Sec-WebSocket-Protocol" = String, Header, description = "Must offer `handoff.v1`"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open; the first message is due within 5 s"),
        (status = 400, description = "Bad session id, handshake or subprotocol", body = super::problem::Body, content_type = "application/problem+json"),
        (status = 403, description = "Web pages of this origin may not connect", body = super::problem::Body, content_type = "application/problem+json"),
        (status = 404, description = "No such path", body = super::problem::Body, content_type = "application/problem+json"),
        (status = 426, description = "Not a WebSocket handshake", body = super::problem::Body, content_type = "application/problem+json"),
        (status = 429, description = "This address is over a limit; Retry-After says when to try again", body = super::problem::Body, content_type = "application/problem+json"),
        (status = 503, description = "The node is over a limit or shutting down; Retry-After says when to try again", body = super::problem::Body, content_type = "application/problem+json"),
    )
)]
async fn connect(request: HttpRequest, edge: web::Data<Edge>) -> Result<HttpResponse, Problem> {
    let below = request.path().strip_prefix(SESSIONS).and_then(|rest| rest.strip_prefix('/'));
    match below.and_then(|rest| rest.split_once('/')).filter(|_| request.method() == Method::GET) {
        Some(names) => shake_hands(&request, names, &edge).inspect_err(count_refusal),
        None => nothing_here(request).await,
    }
}

fn shake_hands(request: &HttpRequest, (session, role): (&str, &str), edge: &Edge) -> Result<HttpResponse, Problem> {
    let role = Role::BOTH.into_iter().find(|known| known.as_str() == role).ok_or(Kind::NotFound)?;
    let session: SessionId = session.parse().map_err(|_| Kind::BadSessionId)?;
    check_handshake(request, &edge.allowed_origins)?;
    let client = client(request, edge)?;
    let guard = admit(edge, client, session, role)?;
    // Without a file descriptor to spare, a connection could not be ended for certain.
    let cord = request.conn_data::<Cord>().ok_or(Problem::retry_after(Kind::Overloaded, BUSY_RETRY_AFTER))?.clone();
    let party = Party { session, role, tag: edge.tagger.tag_client(client), trace: spans::of(request) };
    socket::accept(request, party, Arc::clone(&edge.relay), cord, guard).map_err(|_| Kind::BadHandshake.into())
}

fn check_handshake(request: &HttpRequest, allowed_origins: &[String]) -> Result<(), Problem> {
    let headers = request.headers();
    if !tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(Kind::UpgradeRequired.into());
    }
    // RFC 6455 section 4.2.1: HTTP/1.1 or higher.
    if request.version() < HttpVersion::HTTP_11 {
        return Err(Kind::BadHandshake.into());
    }
    // Apps send no Origin; a browser always does, and cannot be made to lie about it (RFC 6455 section 10.2).
    let mut origins = headers.get_all(header::ORIGIN);
    if !origins.all(|origin| allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())) {
        return Err(Kind::OriginNotAllowed.into());
    }
    // Subprotocols are compared byte by byte: one that is merely spelt alike could not be selected.
    if !tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|token| token == SUBPROTOCOL) {
        return Err(Kind::SubprotocolMissing.into());
    }
    Ok(())
}

/// What a header lists, separated by commas, on any number of lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn client(request: &HttpRequest, edge: &Edge) -> Result<ClientAddress, Problem> {
    let peer = request.peer_addr().ok_or(Kind::InternalError)?.ip();
    Ok(from_headers(peer, edge.forwarding_header, request.headers(), &edge.trusted_proxies))
}

/// The address that a request comes from, behind the proxies that are trusted; `None` if nobody knows.
#[must_use]
pub fn client_address(request: &HttpRequest, edge: &Edge) -> Option<std::net::IpAddr> {
    client(request, edge).ok().map(ClientAddress::for_limits)
}

/// Whether one more connection is let in; one that may open a session needs room for it, too.
fn admit(edge: &Edge, client: ClientAddress, session: SessionId, role: Role) -> Result<ConnectionGuard, Problem> {
    if !edge.ready.load(Ordering::Relaxed) {
        return Err(Problem::retry_after(Kind::GoingAway, BUSY_RETRY_AFTER));
    }
    let guard = edge.admission.connect(client.for_limits())?;
    if role == Role::Old && !edge.relay.registry().has_open(session) {
        if !edge.relay.is_ready() {
            return Err(Problem::retry_after(Kind::NotReady, BUSY_RETRY_AFTER));
        }
        if !edge.relay.registry().has_room() {
            return Err(Problem::retry_after(Kind::Overloaded, BUSY_RETRY_AFTER));
        }
        guard.open()?;
    }
    Ok(guard)
}

fn count_refusal(problem: &Problem) {
    debug!(reason = problem.kind.code(), "handshake refused");
    metrics::counter!(telemetry::HANDSHAKES_REFUSED, "reason" => problem.kind.code()).increment(1);
}

/// Answers as long as the process can.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "The process is alive")))]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// Whether this node takes new connections.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "The node takes connections"),
        (status = 503, description = "It does not, and says why", body = super::problem::Body, content_type = "application/problem+json"),
    )
)]
async fn readyz(edge: web::Data<Edge>) -> Result<HttpResponse, Problem> {
    if !edge.ready.load(Ordering::Relaxed) {
        Err(Kind::GoingAway.into())
    } else if edge.relay.is_ready() {
        Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"))
    } else {
        Err(Problem::retry_after(Kind::NotReady, BUSY_RETRY_AFTER))
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Metrics", content_type = "text/plain")))]
async fn metrics(edge: web::Data<Edge>) -> HttpResponse {
    let takes_connections = edge.ready.load(Ordering::Relaxed);
    let is_ready = takes_connections && edge.relay.is_ready();
    gauge!(telemetry::READY).set(if is_ready { 1.0 } else { 0.0 });
    gauge!(telemetry::DRAINING).set(if takes_connections { 0.0 } else { 1.0 });
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(telemetry::render(&edge.metrics))
}

/// Which version runs.
#[utoipa::path(get, path = "/version", responses((status = 200, description = "The version", body = Version)))]
async fn version() -> HttpResponse {
    HttpResponse::Ok().json(Version::of_this_binary())
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "The OpenAPI document")))]
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().json(ApiDoc::openapi())
}

/// Everything else: a known path with another method, or no path of ours.
async fn nothing_here(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let is_get = request.method() == Method::GET || request.method() == Method::HEAD;
    Err(if is_get { Kind::NotFound.into() } else { Kind::MethodNotAllowed.into() })
}
