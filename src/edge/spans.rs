//! A span for each HTTP request, WebSocket handshakes included, by the semantic conventions of OpenTelemetry. Not for
//! health and metrics, which nobody waits for. Says which path was asked for as a pattern: the path itself has ids.

#[cfg(feature = "otlp")]
pub use middleware::trace_request;

use actix_web::HttpRequest;

use crate::telemetry::trace::Parent;

/// The span of a request.
#[cfg(feature = "otlp")]
pub(super) fn of(request: &HttpRequest) -> Parent {
    use actix_web::HttpMessage as _;
    request.extensions().get::<Parent>().cloned().unwrap_or_default()
}

/// The span of a request: none, in this binary.
#[cfg(not(feature = "otlp"))]
#[inline]
pub(super) fn of(_: &HttpRequest) -> Parent {
    Parent::default()
}

#[cfg(feature = "otlp")]
mod middleware {
    use actix_web::body::MessageBody;
    use actix_web::dev::{ServiceRequest, ServiceResponse};
    use actix_web::http::{Method, Version};
    use actix_web::middleware::Next;
    use actix_web::{Error, HttpMessage as _, web};

    use super::super::routes::{Edge, SESSIONS};
    use crate::telemetry::trace::{Kind, Parent, Span, Trail};

    /// What has a span.
    const TRACED: &str = "/v1/";

    /// Makes the span of a request, and of the steps that are taken for it.
    ///
    /// # Errors
    /// Those of the request.
    pub async fn trace_request<B: MessageBody>(
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<B>, Error> {
        if !request.path().starts_with(TRACED) {
            return next.call(request).await;
        }
        let method = known(request.method());
        let mut span = Span::begin(method, Kind::Server, &caller(&request));
        span.set("http.request.method", method);
        let is_secure = edge(&request).is_some_and(|edge| edge.is_secure);
        span.set("url.scheme", if is_secure { "https" } else { "http" });
        span.set("network.protocol.version", if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" });
        request.extensions_mut().insert(span.as_parent());
        let trail = Trail::begin();
        let answer = trail.clone().follow(next.call(request)).await;
        trail.finish(&span.as_parent());
        match &answer {
            Ok(answer) => {
                if let Some(route) = route(answer).filter(|_| span.is_on()) {
                    span.rename(format!("{method} {route}"));
                    span.set("http.route", route);
                }
                note_status(&mut span, answer.status().as_u16());
            }
            Err(error) => note_status(&mut span, error.as_response_error().status_code().as_u16()),
        }
        answer
    }

    fn note_status(span: &mut Span, status: u16) {
        span.set("http.response.status_code", status);
        if status >= 500 {
            span.fail("server_error");
        }
    }

    /// Who called, where that is believed: a trace id that an app chooses would decide what is kept, and mix its
    /// requests with those of others.
    fn caller(request: &ServiceRequest) -> Parent {
        let is_trusted = edge(request).is_some_and(|edge| edge.trust_traceparent);
        let header = request.headers().get("traceparent").filter(|_| is_trusted);
        Parent::remote(header.and_then(|header| header.to_str().ok()?.parse().ok()))
    }

    fn edge(request: &ServiceRequest) -> Option<&web::Data<Edge>> {
        request.app_data()
    }

    fn route<B>(answer: &ServiceResponse<B>) -> Option<String> {
        let is_session = answer.request().path().starts_with(SESSIONS);
        // Those are not split by patterns.
        let handshake = || format!("{SESSIONS}/{{session}}/{{role}}");
        if is_session { Some(handshake()) } else { answer.request().match_pattern() }
    }

    /// The method, if it is one of the standard's: others could be anything.
    fn known(method: &Method) -> &'static str {
        let all = [
            (Method::GET, "GET"),
            (Method::HEAD, "HEAD"),
            (Method::POST, "POST"),
            (Method::PUT, "PUT"),
            (Method::PATCH, "PATCH"),
            (Method::DELETE, "DELETE"),
            (Method::OPTIONS, "OPTIONS"),
        ];
        all.into_iter().find(|(known, _)| known == method).map_or("_OTHER", |(_, name)| name)
    }
}
