//! Short, stable names for what goes wrong, for reports and JSON. Decides nothing.

use handoff_relay::client::{ConnectFailure, EndReason, HttpRefusal, OfflineCause};

/// Why a session failed.
pub(crate) fn end_reason(reason: EndReason) -> String {
    match reason {
        EndReason::Closed(reason) => reason.label().to_owned(),
        EndReason::Cancelled => "cancelled".to_owned(),
        EndReason::VerdictRefused(_) => "verdict_refused".to_owned(),
        EndReason::KeyReplaced => "key_replaced".to_owned(),
        EndReason::SessionLost => "session_lost".to_owned(),
        EndReason::ProtocolViolated => "protocol_violated".to_owned(),
        EndReason::UnknownClose(code) => format!("close_code_{code}"),
        EndReason::Refused(refusal) => http(refusal).to_owned(),
        EndReason::Unreachable(failure) => format!("unreachable_{}", connect(failure)),
        EndReason::Internal => "internal".to_owned(),
    }
}

/// Why an app is offline for a while.
pub(crate) fn offline(cause: OfflineCause) -> String {
    match cause {
        OfflineCause::Lost => "connection_lost".to_owned(),
        OfflineCause::Silent => "connection_silent".to_owned(),
        OfflineCause::Closed(reason) => reason.label().to_owned(),
        OfflineCause::Failed(failure) => connect(failure),
    }
}

/// Why no connection came about.
pub(crate) fn connect(failure: ConnectFailure) -> String {
    match failure {
        ConnectFailure::Name => "no_address".to_owned(),
        ConnectFailure::Connect => "connect_failed".to_owned(),
        ConnectFailure::Timeout => "connect_timeout".to_owned(),
        ConnectFailure::Tls => "tls".to_owned(),
        ConnectFailure::NotARelay => "not_a_relay".to_owned(),
        ConnectFailure::Busy { status, .. } => format!("http_{status}"),
        ConnectFailure::Refused(refusal) => http(refusal).to_owned(),
    }
}

fn http(refusal: HttpRefusal) -> &'static str {
    match refusal {
        HttpRefusal::BadRequest => "http_400",
        HttpRefusal::Unauthorized => "http_401",
        HttpRefusal::Forbidden => "http_403",
        HttpRefusal::NotFound => "http_404",
        HttpRefusal::Other(_) => "http_4xx",
    }
}
