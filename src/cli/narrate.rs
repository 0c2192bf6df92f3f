//! What a transfer tells, as a line for people and as an event for machines.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{ConnectFailure, EndReason, LinkEvent, NewEvent, OfflineCause, OldEvent};
use crate::crypto::DeviceInfo;
use crate::protocol::network::{Country, Network, Verdict};

/// A line and an event; no line where a person would only be disturbed.
pub(super) type Told = (Option<String>, Value);

pub(super) fn old(event: &OldEvent) -> Told {
    match event {
        OldEvent::QrShown { payload, next_in, left } => {
            let text = payload.to_text();
            let event = json!({
                "event": "qr_shown", "frame": payload.frame, "text": text.as_str(),
                "next_in_ms": millis(*next_in), "expires_in_ms": millis(*left),
            });
            (None, event)
        }
        OldEvent::QrHidden => (None, json!({"event": "qr_hidden"})),
        OldEvent::PeerJoined { frame, verdict } => (
            Some(format!("The other phone has scanned the code ({}).", where_it_is(*verdict))),
            json!({"event": "peer_joined", "frame": frame, "network": verdict.network, "country": verdict.country}),
        ),
        OldEvent::PeerIdentified(device) => identified(device),
        OldEvent::AskCode { within } => (
            Some(format!(
                "The other phone shows four digits. Type them here within {} s, then Enter:",
                within.as_secs()
            )),
            json!({"event": "ask_code", "within_ms": millis(*within)}),
        ),
        OldEvent::CodeAccepted => (Some("The code is right.".to_owned()), json!({"event": "code_accepted"})),
        OldEvent::Sending { sent, total } => {
            (Some(format!("Sent {sent} of {total} bytes.")), json!({"event": "sending", "sent": sent, "total": total}))
        }
        OldEvent::Delivered => (
            Some("Delivered: the other phone has confirmed it with its signature.".to_owned()),
            json!({"event": "delivered"}),
        ),
        OldEvent::Link(event) => link(event),
        OldEvent::Ended(reason) => ended(*reason),
    }
}

pub(super) fn new(event: &NewEvent) -> Told {
    match event {
        NewEvent::Joined => {
            (Some("Joined; the old phone's key is the one in the QR code.".to_owned()), json!({"event": "joined"}))
        }
        NewEvent::PeerIdentified(device) => identified(device),
        NewEvent::ShowCode(code) => (
            Some(format!("Type this code into the old phone:  {code}")),
            json!({"event": "show_code", "code": code.to_string()}),
        ),
        NewEvent::CodeAccepted => (Some("The code was typed.".to_owned()), json!({"event": "code_accepted"})),
        NewEvent::Receiving { received, total } => (
            Some(format!("Received {received} of {total} bytes.")),
            json!({"event": "receiving", "received": received, "total": total}),
        ),
        NewEvent::CredentialReceived => {
            (Some("The credential is here.".to_owned()), json!({"event": "credential_received"}))
        }
        NewEvent::Confirmed => (Some("The old phone knows that it arrived.".to_owned()), json!({"event": "confirmed"})),
        NewEvent::Unconfirmed(reason) => (
            Some(format!("The old phone may not know that it arrived: {reason}.")),
            json!({"event": "unconfirmed", "reason": label(*reason)}),
        ),
        NewEvent::Link(event) => link(event),
        NewEvent::Ended(reason) => ended(*reason),
    }
}

/// How the transfer ended, in two lines: what happened, and what to do.
pub(super) fn ended(reason: EndReason) -> Told {
    let event = json!({
        "event": "ended", "reason": label(reason), "detail": reason.to_string(), "advice": reason.advice(),
        "can_start_again": reason.can_start_again(),
    });
    (Some(format!("Nothing was handed over: {reason}.\n{}", reason.advice())), event)
}

fn identified(device: &DeviceInfo) -> Told {
    let (model, version) = (device.model(), device.version());
    let event = json!({"event": "peer_identified", "model": model, "version": version});
    (Some(format!("It says it is: {model}, version {version}.")), event)
}

fn link(event: &LinkEvent) -> Told {
    match event {
        LinkEvent::Waiting { left } => (None, json!({"event": "waiting", "expires_in_ms": millis(*left)})),
        LinkEvent::Offline { attempt, retry_in, cause } => (
            Some(format!("Not connected: {}. Trying again in {:.1} s.", cause_text(*cause), retry_in.as_secs_f32())),
            json!({
                "event": "offline", "attempt": attempt, "retry_in_ms": millis(*retry_in), "cause": cause_text(*cause),
            }),
        ),
        LinkEvent::Online => (Some("Connected again.".to_owned()), json!({"event": "online"})),
        LinkEvent::PeerOffline => {
            (Some("The other phone is not connected; it may come back.".to_owned()), json!({"event": "peer_offline"}))
        }
        LinkEvent::PeerOnline => {
            (Some("The other phone is connected again.".to_owned()), json!({"event": "peer_online"}))
        }
    }
}

fn cause_text(cause: OfflineCause) -> String {
    match cause {
        OfflineCause::Lost => "the connection broke".to_owned(),
        OfflineCause::Silent => "the relay is silent".to_owned(),
        OfflineCause::Closed(reason) => reason.sentence().to_owned(),
        OfflineCause::Failed(failure) => failure.to_string(),
    }
}

fn where_it_is(verdict: Verdict) -> &'static str {
    match (verdict.network, verdict.country) {
        (Network::SameAddress, _) => "it is on the same network address as this one",
        (Network::SameNetwork, _) => "it is on the same provider's network as this one",
        (_, Country::Different) => "CAREFUL: it is in another country",
        (Network::Different, _) => "it is on another network than this one",
        (Network::Unknown, _) => "the relay cannot tell where it is",
    }
}

/// A stable name for programs.
fn label(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Closed(reason) => reason.label(),
        EndReason::Cancelled => "cancelled",
        EndReason::VerdictRefused(_) => "verdict_refused",
        EndReason::KeyReplaced => "key_replaced",
        EndReason::SessionLost => "session_lost",
        EndReason::ProtocolViolated => "protocol_violated",
        EndReason::UnknownClose(_) => "unknown_close",
        EndReason::Refused(_) => "refused",
        EndReason::Unreachable(ConnectFailure::Timeout) => "unreachable_timeout",
        EndReason::Unreachable(_) => "unreachable",
        EndReason::Internal => "internal",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
