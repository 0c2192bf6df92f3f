//! `/v1/apps/events`: an app hears of events as they happen.
//!
//! Server-Sent Events, because they go one way, pass every proxy, and an app that comes back says in `Last-Event-ID` where
//! it was; a WebSocket would need all that made by hand.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::Http;
use super::apps::since_epoch;
use super::caller::Device;
use super::problem::{Problem, Problems};
use crate::activation::notify::EventKind;
use crate::activation::registry::StoredEvent;
use crate::activation::streams::Stream;

/// Between two signs of life: shorter than what proxies on the way close at.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Then the app shows another proof: a key that was deleted meanwhile hears no more.
const LIFETIME: Duration = Duration::from_hours(1);

pub(super) fn routes(config: &mut ServiceConfig) {
    config.route("/events", web::get().to(stream));
}

#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    r#type: &'a str,
    at_ms: u64,
}

/// Tells an app of events as they happen, and first of those that wait: at least once, each with an id that stays the same.
#[utoipa::path(get, path = "/v1/apps/events",
    params(("DPoP" = String, Header, description = "The proof of an active app's device key (RFC 9449)"),
           ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the app heard")),
    responses(
        (status = 200, content_type = "text/event-stream", description = "`id`, `event` with the type, and `data`: \
         a JSON object with `id`, `type` and `at_ms`", body = String),
        Problems))]
pub(super) async fn stream(request: HttpRequest, device: Device, http: Data<Http>) -> Result<HttpResponse, Problem> {
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let work = move |service: std::sync::Arc<crate::activation::service::Service>, caller| async move {
        service.stream(&caller, last.as_deref()).await
    };
    let events = http.run(device, work).await?;
    let until = Instant::now().checked_add(LIFETIME).unwrap_or_else(Instant::now);
    // At once a line, so that the app and every proxy see that it is open.
    let parts = stream::unfold(Some((events, true)), move |open| async move {
        let (events, is_first) = open?;
        if is_first {
            return Some((Ok::<_, Infallible>(Bytes::from_static(b": open\n\n")), Some((events, false))));
        }
        let (part, next) = part(events, until).await?;
        Some((Ok(part), next.map(|events| (events, false))))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would keep events back.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(parts))
}

/// The next part of the answer, and the stream if it goes on.
async fn part(mut events: Stream, until: Instant) -> Option<(Bytes, Option<Stream>)> {
    let next = timeout_at(until, timeout(HEARTBEAT, events.next())).await;
    match next {
        Ok(Ok(Some(event))) => {
            let is_last = event.kind == EventKind::ThisAppDeleted.as_str();
            Some((written(&event), (!is_last).then_some(events)))
        }
        Ok(Err(_)) => Some((Bytes::from_static(b":\n\n"), Some(events))),
        Ok(Ok(None)) | Err(_) => None,
    }
}

fn written(event: &StoredEvent) -> Bytes {
    let data = Told { id: &event.id, r#type: &event.kind, at_ms: since_epoch(event.at) };
    let data = serde_json::to_string(&data).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind).into()
}
