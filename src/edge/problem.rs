//! Every error that the edge answers over HTTP, as one table (RFC 9457, `application/problem+json`).
//!
//! Not for what happens after the WebSocket handshake: that is `protocol::close`. To add a problem, add a row; its type
//! URN and code are stable once released.

use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::admission::{Limit, Refused};

/// The prefix of every problem's type.
pub const TYPE_PREFIX: &str = "urn:handoff-relay:problem:";

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal, $title:literal, $detail:literal;)*) => {
        /// What went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every problem, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// The stable name, also used in metrics and logs.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// What it is, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do about it.
            #[must_use]
            pub fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail),* }
            }
        }
    };
}

problems! {
    /// The id in the path is not a session id.
    BadSessionId = BAD_REQUEST, "bad-session-id", "Bad session id",
        "The session id in the path must be a version 4 UUID in its lower-case, 36-character form.";
    /// A WebSocket handshake that breaks RFC 6455.
    BadHandshake = BAD_REQUEST, "bad-handshake", "Bad WebSocket handshake",
        "The request has an Upgrade header and is not a valid WebSocket handshake (RFC 6455 section 4.2.1).";
    /// The client does not offer our subprotocol.
    SubprotocolMissing = BAD_REQUEST, "subprotocol-missing", "Subprotocol missing",
        "The handshake must offer the subprotocol handoff.v1. An app that offers another version needs an update.";
    /// Any other request that cannot be understood.
    BadRequest = BAD_REQUEST, "bad-request", "Bad request", "The request is not valid.";
    /// A browser page from elsewhere.
    OriginNotAllowed = FORBIDDEN, "origin-not-allowed", "Origin not allowed",
        "Web pages of this origin may not use the relay. Apps send no Origin header.";
    /// No such path.
    NotFound = NOT_FOUND, "not-found", "Not found",
        "There is nothing at this path. Sessions are at /v1/sessions/{id}/old and /v1/sessions/{id}/new.";
    /// The path knows GET only.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", "Only GET is allowed here.";
    /// More bytes than any valid request has.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "Request too large", "The request is larger than any valid one.";
    /// A plain request to a WebSocket path.
    UpgradeRequired = UPGRADE_REQUIRED, "upgrade-required", "Upgrade required",
        "This path speaks WebSocket only: send a WebSocket handshake (RFC 6455).";
    /// One address holds too many connections.
    TooManyConnections = TOO_MANY_REQUESTS, "too-many-connections", "Too many connections",
        "This network address has as many connections as it may have. Close some, or try again later.";
    /// One address connects too often.
    TooManyHandshakes = TOO_MANY_REQUESTS, "too-many-handshakes", "Too many handshakes",
        "This network address connects too often. Try again after the time given.";
    /// One address opens too many sessions.
    TooManyOpens = TOO_MANY_REQUESTS, "too-many-opens", "Too many sessions opened",
        "This network address opens sessions too often. Try again after the time given.";
    /// A defect of the relay.
    InternalError = INTERNAL_SERVER_ERROR, "internal-error", "Internal error", "The relay failed. Try again.";
    /// The node is at a limit of its own.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Overloaded",
        "The relay is at its limit. Try again after the time given.";
    /// The node is shutting down.
    GoingAway = SERVICE_UNAVAILABLE, "going-away", "Going away",
        "This node is shutting down and takes no new connections. Try again: another node will answer.";
    /// The node, or something that it needs, is not up.
    NotReady = SERVICE_UNAVAILABLE, "not-ready", "Not ready", "This node cannot serve sessions now. Try again.";
}

/// An HTTP error of the edge, ready to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub kind: Kind,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

/// The body of the answer: `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body {
    /// A URN for each kind of problem.
    r#type: String,
    /// The kind, in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and what to do.
    detail: &'static str,
    /// The kind, for programs.
    code: &'static str,
    /// When trying again makes sense, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem that may be tried again after this time.
    #[must_use]
    pub fn retry_after(kind: Kind, delay: Duration) -> Self {
        Self { kind, retry_after: Some(delay) }
    }

    fn body(&self) -> Body {
        Body {
            r#type: format!("{TYPE_PREFIX}{}", self.kind.code()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.kind.detail(),
            code: self.kind.code(),
            retry_after_ms: self.retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self { kind, retry_after: None }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let kind = match refused.limit {
            Limit::ConnectionsPerAddress => Kind::TooManyConnections,
            Limit::HandshakesPerAddress => Kind::TooManyHandshakes,
            Limit::OpensPerAddress => Kind::TooManyOpens,
            Limit::Connections | Limit::Opens | Limit::Addresses => Kind::Overloaded,
        };
        Self::retry_after(kind, refused.retry_after)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.code())
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, MEDIA_TYPE)).insert_header((CACHE_CONTROL, "no-store"));
        if let Some(delay) = self.retry_after {
            // Whole seconds only (RFC 9110 section 10.2.3): rounded up, so that nobody comes back too early.
            let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0)).max(1);
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.kind == Kind::UpgradeRequired {
            response.insert_header((UPGRADE, "websocket"));
        }
        if self.kind == Kind::MethodNotAllowed {
            response.insert_header((ALLOW, "GET"));
        }
        response.body(serde_json::to_string(&self.body()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use actix_web::body::to_bytes;

    use super::*;

    async fn answered(problem: Problem) -> (HttpResponse<()>, serde_json::Value) {
        let (head, body) = problem.error_response().into_parts();
        (head, serde_json::from_slice(&to_bytes(body).await.unwrap()).unwrap())
    }

    fn header<'a>(response: &'a HttpResponse<()>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[actix_web::test]
    async fn a_problem_is_a_json_object_of_rfc_9457_with_a_code() {
        let (head, body) = answered(Kind::OriginNotAllowed.into()).await;
        assert_eq!(head.status(), StatusCode::FORBIDDEN);
        assert_eq!(header(&head, "content-type"), Some("application/problem+json"));
        assert_eq!(header(&head, "cache-control"), Some("no-store"));
        assert_eq!(header(&head, "retry-after"), None);
        let expected = serde_json::json!({
            "type": "urn:handoff-relay:problem:origin-not-allowed",
            "title": "Origin not allowed",
            "status": 403,
            "detail": Kind::OriginNotAllowed.detail(),
            "code": "origin-not-allowed",
        });
        assert_eq!(body, expected);
    }

    #[actix_web::test]
    async fn the_time_to_try_again_is_exact_in_the_body_and_rounded_up_in_the_header() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            let problem = Problem::retry_after(Kind::Overloaded, Duration::from_millis(millis));
            let (head, body) = answered(problem).await;
            assert_eq!(header(&head, "retry-after"), Some(seconds));
            assert_eq!(body["retry_after_ms"], millis);
        }
    }

    #[actix_web::test]
    async fn an_upgrade_or_another_method_is_named_where_the_standard_asks_for_it() {
        assert_eq!(header(&answered(Kind::UpgradeRequired.into()).await.0, "upgrade"), Some("websocket"));
        assert_eq!(header(&answered(Kind::MethodNotAllowed.into()).await.0, "allow"), Some("GET"));
    }

    #[test]
    fn codes_are_unique_and_fit_a_urn_and_a_metric_label() {
        let codes: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{kind:?}");
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.detail().ends_with('.') && !kind.title().ends_with('.'), "{kind:?}");
        }
    }

    #[test]
    fn the_refusals_of_the_metric_are_problems() {
        let codes: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(crate::telemetry::HANDSHAKE_REFUSALS.iter().all(|code| codes.contains(code)));
    }

    #[test]
    fn a_limit_of_one_address_answers_429_and_one_of_the_node_503() {
        for limit in Limit::ALL {
            let problem = Problem::from(Refused { limit: *limit, retry_after: Duration::from_secs(3) });
            let status = if limit.is_node_wide() { 503 } else { 429 };
            assert_eq!(problem.kind.status().as_u16(), status, "{limit:?}");
            assert_eq!(problem.retry_after, Some(Duration::from_secs(3)));
        }
    }
}
