//! Every error that the activation answers over HTTP, as one table (RFC 9457, `application/problem+json`).
//!
//! To add a problem, add a row; its type URN and code are stable once released. No text repeats what was sent.

use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use metrics::counter;
use serde::Serialize;
use tracing::{debug, error};
use utoipa::ToSchema;

use crate::activation::device_proof::BadProof;
use crate::activation::flow::{Due, End, Refused};
use crate::activation::grant::BadGrant;
use crate::activation::personal_pin::lock::Locked;
use crate::activation::service::ServiceError;
use crate::activation::temporary_pin::send_rules::SendRefused;
use crate::telemetry;

/// The prefix of every problem's type.
const TYPE_PREFIX: &str = "urn:handoff-relay:problem:";

/// When a database that does not answer is asked again.
const REGISTRY_RETRY: Duration = Duration::from_secs(2);

/// When an app asks again for a stream of events that there is no room for.
const STREAM_RETRY: Duration = Duration::from_secs(30);

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

            /// The stable name, also used in logs.
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
    /// Not the JSON that is wanted here.
    BadBody = BAD_REQUEST, "bad-body", "Bad request body",
        "The body is not the JSON object that the OpenAPI document describes, or is too large.";
    /// A temporary PIN that is not eight digits.
    BadPin = BAD_REQUEST, "bad-temporary-pin", "Not a temporary PIN",
        "A temporary PIN has eight digits. This was no try.";
    /// Not a message of OPAQUE.
    BadPinMessage = BAD_REQUEST, "bad-pin-message", "Bad message of the personal PIN",
        "The message is not one of OPAQUE (RFC 9807) with P-256.";
    /// An Android app that is not ours.
    UnknownAppHash = BAD_REQUEST, "unknown-app-hash", "Unknown app hash",
        "The SMS is written for the configured apps only. Ask without an app hash.";
    /// A delivery report that is none.
    BadReport = BAD_REQUEST, "bad-report", "Bad delivery report",
        "The report is signed, and names no message or no status; or it is too long.";
    /// A delivery report of somebody else.
    ReportForged = UNAUTHORIZED, "report-forged", "Delivery report without a valid signature",
        "A delivery report counts only with its gateway's signature.";
    /// No proof.
    ProofMissing = UNAUTHORIZED, "proof-missing", "Proof of the device key missing",
        "Every request carries a DPoP header (RFC 9449), signed with the device's key with ES256.";
    /// A proof that does not hold.
    ProofInvalid = UNAUTHORIZED, "proof-invalid", "Proof of the device key not valid",
        "The DPoP header must be signed by the key in it, for this method and this address, with a new jti.";
    /// The device's clock is off.
    ProofTime = UNAUTHORIZED, "proof-time", "Proof of the device key from another time",
        "The proof's iat is off by more than five minutes. Set the clock by the Date header of this answer.";
    /// The proof was seen before.
    ProofReplayed = UNAUTHORIZED, "proof-replayed", "Proof of the device key used before",
        "Every request needs a proof of its own, also when it is repeated.";
    /// The device is no active app.
    UnknownDevice = UNAUTHORIZED, "unknown-device", "Not an active app",
        "This device key is not an active app's. It was deleted, or never activated.";
    /// The admin token is missing or wrong.
    AdminTokenWrong = UNAUTHORIZED, "admin-token-wrong", "Admin token missing or wrong",
        "Send the admin token as a bearer token.";
    /// The token or grant does not hold.
    GrantInvalid = FORBIDDEN, "grant-invalid", "Enrolment token or copy grant not valid",
        "It is malformed, not signed by the right key, for another audience, or not valid yet.";
    /// Its time is over.
    GrantExpired = FORBIDDEN, "grant-expired", "Enrolment token or copy grant expired", "Get a new one.";
    /// It is bound to another device or handoff.
    GrantBoundElsewhere = FORBIDDEN, "grant-bound-elsewhere", "Enrolment token or copy grant of another device",
        "It names another device key, or another handoff.";
    /// It was used before.
    GrantUsed = FORBIDDEN, "grant-used", "Enrolment token or copy grant used before", "Get a new one.";
    /// The app that signed the grant is not active.
    GrantorNotActive = FORBIDDEN, "grantor-not-active", "The granting app is not active",
        "The app that signed the copy grant was deleted, or is unknown.";
    /// No enrolment tokens are taken here.
    NoEnrolment = FORBIDDEN, "no-enrolment", "No enrolment tokens are taken",
        "This service has no keys to check enrolment tokens with (activation.enrolment_jwks_file).";
    /// The token's user is not on file.
    NotOnFile = FORBIDDEN, "not-on-file", "The user is not on file",
        "The token is good, and its user has no phone number on file.";
    /// The user ID is not the granted one's.
    WrongUserId = FORBIDDEN, "wrong-user-id", "Wrong user ID", "This is not the user ID of the person who granted the copy.";
    /// The temporary PIN is not the one that was sent.
    WrongPin = FORBIDDEN, "wrong-temporary-pin", "Wrong temporary PIN", "This is not the PIN of the last SMS.";
    /// The temporary PIN is too old.
    PinExpired = FORBIDDEN, "temporary-pin-expired", "Temporary PIN expired", "Ask for another SMS.";
    /// The temporary PIN was wrong too often.
    PinUsedUp = FORBIDDEN, "temporary-pin-used-up", "Temporary PIN wrong too often", "Ask for another SMS.";
    /// The personal PIN was wrong.
    PinNotProven = FORBIDDEN, "wrong-personal-pin", "Personal PIN not proven",
        "The PIN was wrong, or proving it took longer than 30 s. Begin again.";
    /// The personal PIN may not be replaced now.
    NotUnlocked = FORBIDDEN, "unlock-needed", "The app was not opened",
        "Open the app with its PIN, or prove a temporary PIN, and replace the PIN within five minutes.";
    /// Too many wrong personal PINs.
    AppLocked = FORBIDDEN, "app-locked", "App locked",
        "Too many wrong PINs: this app must be activated again. The user's other apps are not affected.";
    /// The PIN's setup was removed.
    PinSetupGone = FORBIDDEN, "pin-setup-gone", "Personal PIN of a setup that is gone",
        "The PIN was registered too long ago: this app must be activated again.";
    /// There is no such activation of this device.
    UnknownActivation = NOT_FOUND, "unknown-activation", "Unknown activation",
        "This device has no such activation. Start one.";
    /// The user has no such app.
    UnknownApp = NOT_FOUND, "unknown-app", "Unknown app", "The user has no such active app.";
    /// There is no such user.
    UnknownUser = NOT_FOUND, "unknown-user", "Unknown user", "There is no such user on file.";
    /// No such path or method.
    NotFound = NOT_FOUND, "not-found", "Not found", "There is nothing at this path, or not with this method.";
    /// Another step is due.
    NotDue = CONFLICT, "another-step-is-due", "Another step is due", "The member `due` names it.";
    /// The step was done with another content.
    DoneOtherwise = CONFLICT, "step-done-otherwise", "The step is done already",
        "The step was done before with another content. The member `due` names the step that is due.";
    /// No SMS was asked for.
    NoPin = CONFLICT, "no-temporary-pin", "No temporary PIN was asked for", "Ask for an SMS first.";
    /// The device key is in use.
    DeviceKeyUsed = CONFLICT, "device-key-used", "Device key in use",
        "This key belongs to an app, or to another activation. A new app makes a new key pair.";
    /// Too many active apps.
    TooManyApps = CONFLICT, "too-many-apps", "Too many active apps",
        "The user has as many active apps as allowed. Delete one in another app, and repeat the request.";
    /// The activation is over.
    Ended = GONE, "activation-ended", "The activation is over", "The member `ended` says why. Start another one.";
    /// The copy may not start yet.
    Waiting = TOO_MANY_REQUESTS, "copy-waits", "The copy may not start yet",
        "The user's other apps can cancel it meanwhile. Try again after the time given.";
    /// Too many wrong personal PINs, for now.
    PinWaits = TOO_MANY_REQUESTS, "personal-pin-waits", "Too many wrong personal PINs",
        "This app waits, longer each time. Try again after the time given.";
    /// Too many SMS to this number or from this address.
    TooManySms = TOO_MANY_REQUESTS, "too-many-sms", "Too many SMS", "Try again after the time given.";
    /// Too many SMS in all.
    SmsOverloaded = SERVICE_UNAVAILABLE, "sms-overloaded", "Too many SMS in all", "Try again after the time given.";
    /// Too many open streams.
    TooManyStreams = SERVICE_UNAVAILABLE, "too-many-streams", "Too many streams of events",
        "This node has as many open as it may. Try again after the time given; events wait for a day.";
    /// The database does not answer.
    RegistryUnavailable = SERVICE_UNAVAILABLE, "registry-unavailable", "The registry does not answer",
        "Nothing has happened, or nobody knows: repeat the request after the time given.";
    /// A defect of the service.
    InternalError = INTERNAL_SERVER_ERROR, "internal-error", "Internal error", "The service failed. Try again.";
}

/// An HTTP error, ready to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub kind: Kind,
    retry_after: Option<Duration>,
    due: Option<Due>,
    tries_left: Option<u8>,
    ended: Option<End>,
}

/// The body of the answer: `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActivationProblem)]
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
    /// The step that is due: `waiting`, `user_id`, `temporary_pin`, `personal_pin`, `biometrics`, `notifications`,
    /// `active` or `ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<&'static str>,
    /// Tries that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    tries_left: Option<u8>,
    /// Why the activation is over: `expired`, `cancelled`, `user_id_wrong`, `pins_used_up` or `grantor_gone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    /// When trying again makes sense, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The problems that every path has.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) enum Problems {
    /// A problem with a name.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(Body),
    /// Try again after the time given.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Body),
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self { kind, retry_after: None, due: None, tries_left: None, ended: None }
    }
}

impl Problem {
    fn body(&self) -> Body {
        Body {
            r#type: format!("{TYPE_PREFIX}{}", self.kind.code()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.kind.detail(),
            code: self.kind.code(),
            due: self.due.map(Due::as_str),
            tries_left: self.tries_left,
            ended: self.ended.map(End::as_str),
            retry_after_ms: self.retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<BadProof> for Problem {
    fn from(bad: BadProof) -> Self {
        debug!(%bad, "a proof of a device key is refused");
        match bad {
            BadProof::Missing => Kind::ProofMissing,
            BadProof::Token(_) | BadProof::OtherRequest => Kind::ProofInvalid,
            BadProof::WrongTime => Kind::ProofTime,
        }
        .into()
    }
}

impl From<BadGrant> for Problem {
    fn from(bad: BadGrant) -> Self {
        debug!(%bad, "a token or grant is refused");
        match bad {
            BadGrant::Expired => Kind::GrantExpired,
            BadGrant::OtherDevice | BadGrant::OtherHandoff => Kind::GrantBoundElsewhere,
            BadGrant::Token(_)
            | BadGrant::UnknownKey
            | BadGrant::NotYetValid
            | BadGrant::TooLong
            | BadGrant::WrongAudience => Kind::GrantInvalid,
        }
        .into()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let of = Self::from;
        match refused {
            Refused::NotDue(due) => Self { due: Some(due), ..of(Kind::NotDue) },
            Refused::DoneOtherwise(due) => Self { due: Some(due), ..of(Kind::DoneOtherwise) },
            Refused::Waiting(left) => Self { due: Some(Due::Waiting), retry_after: Some(left), ..of(Kind::Waiting) },
            Refused::Ended(end) => Self { due: Some(Due::Ended), ended: Some(end), ..of(Kind::Ended) },
            Refused::WrongUserId { left } => Self { tries_left: Some(left), ..of(Kind::WrongUserId) },
            Refused::NoPin => of(Kind::NoPin),
            Refused::WrongPin { left } => Self { tries_left: Some(left), ..of(Kind::WrongPin) },
            Refused::PinExpired => of(Kind::PinExpired),
            Refused::PinUsedUp => of(Kind::PinUsedUp),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(problem: ServiceError) -> Self {
        match problem {
            ServiceError::Proof(bad) => bad.into(),
            ServiceError::Replayed => Kind::ProofReplayed.into(),
            ServiceError::Grant(bad) => bad.into(),
            ServiceError::TokenUsed => Kind::GrantUsed.into(),
            ServiceError::NoEnrolment => Kind::NoEnrolment.into(),
            ServiceError::NotOnFile => Kind::NotOnFile.into(),
            ServiceError::GrantorNotActive => Kind::GrantorNotActive.into(),
            ServiceError::DeviceKeyUsed => Kind::DeviceKeyUsed.into(),
            ServiceError::TooManyApps => Kind::TooManyApps.into(),
            ServiceError::UnknownActivation => Kind::UnknownActivation.into(),
            ServiceError::UnknownDevice => Kind::UnknownDevice.into(),
            ServiceError::UnknownApp => Kind::UnknownApp.into(),
            ServiceError::UnknownUser => Kind::UnknownUser.into(),
            ServiceError::Step(refused) => refused.into(),
            ServiceError::Sends(refused) => {
                let is_in_all = matches!(refused, SendRefused::TooManyInAll { .. });
                let kind = if is_in_all { Kind::SmsOverloaded } else { Kind::TooManySms };
                Self { retry_after: refused.retry_after(), ..kind.into() }
            }
            ServiceError::SmsBusy => Self { retry_after: Some(REGISTRY_RETRY), ..Kind::SmsOverloaded.into() },
            ServiceError::TooManyStreams => Self { retry_after: Some(STREAM_RETRY), ..Kind::TooManyStreams.into() },
            ServiceError::NotUnlocked => Kind::NotUnlocked.into(),
            ServiceError::UnknownAppHash => Kind::UnknownAppHash.into(),
            ServiceError::BadPinMessage => Kind::BadPinMessage.into(),
            ServiceError::PinNotProven => Kind::PinNotProven.into(),
            ServiceError::PinSetupGone => Kind::PinSetupGone.into(),
            ServiceError::Locked(Locked::Waiting { retry_after }) => {
                Self { retry_after: Some(retry_after), ..Kind::PinWaits.into() }
            }
            ServiceError::Locked(Locked::ForGood) => Kind::AppLocked.into(),
            ServiceError::Registry(problem) => {
                // Neither statements nor errors of the database hold more than keyed hashes and sealed values.
                let cause = std::error::Error::source(&problem).map(ToString::to_string).unwrap_or_default();
                counter!(telemetry::REGISTRY_ERRORS).increment(1);
                error!(%problem, cause, "the registry does not answer as it should");
                Self { retry_after: Some(REGISTRY_RETRY), ..Kind::RegistryUnavailable.into() }
            }
        }
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
        response.insert_header((CONTENT_TYPE, "application/problem+json")).insert_header((CACHE_CONTROL, "no-store"));
        if let Some(delay) = self.retry_after {
            // Whole seconds only (RFC 9110 section 10.2.3): rounded up, so that nobody comes back too early.
            let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0)).max(1);
            response.insert_header((RETRY_AFTER, seconds));
        }
        if self.kind.status() == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 15.5.2: a 401 names the scheme.
            let of_others = [(Kind::AdminTokenWrong, "Bearer"), (Kind::ReportForged, "Signature")];
            let scheme = of_others.iter().find(|(kind, _)| *kind == self.kind);
            let scheme = scheme.map_or("DPoP algs=\"ES256\"", |(_, scheme)| scheme);
            response.insert_header((WWW_AUTHENTICATE, scheme));
        }
        response.body(serde_json::to_string(&self.body()).unwrap_or_default())
    }
}
