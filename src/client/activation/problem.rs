//! Everything that can go wrong between an app and the server, by name.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::progress::End;
use crate::client::personal_pin::PinExchangeError;

/// Longest text of the server that is shown, in characters.
const MOST_TEXT: usize = 300;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// Why the server refused a request: its problem's stable `code`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RefusalKind {
            $($(#[$doc])* $name,)*
            /// A problem that this library does not know.
            Unknown,
        }

        impl RefusalKind {
            /// Every problem that has a name here.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code in the server's answer.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown => "unknown",
                }
            }

            fn of(code: &str) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

refusals! {
    /// A defect of this library, or of a server of another version.
    BadBody = "bad-body";
    /// Not eight digits; no try was used.
    BadTemporaryPin = "bad-temporary-pin";
    /// Not a message of the personal PIN's protocol.
    BadPinMessage = "bad-pin-message";
    /// The SMS is not written for this Android app.
    UnknownAppHash = "unknown-app-hash";
    /// No proof of the device key.
    ProofMissing = "proof-missing";
    /// The proof does not hold: often the server is told another address than the app has.
    ProofInvalid = "proof-invalid";
    /// This device's clock is off.
    ProofTime = "proof-time";
    /// A proof was used twice.
    ProofReplayed = "proof-replayed";
    /// This app is not active: it was deleted, or never activated.
    UnknownDevice = "unknown-device";
    /// The enrolment token or copy grant does not hold.
    GrantInvalid = "grant-invalid";
    /// It is too old.
    GrantExpired = "grant-expired";
    /// It is for another device or handoff.
    GrantBoundElsewhere = "grant-bound-elsewhere";
    /// It was used before.
    GrantUsed = "grant-used";
    /// The old app was deleted.
    GrantorNotActive = "grantor-not-active";
    /// This server takes no enrolment tokens.
    NoEnrolment = "no-enrolment";
    /// The user has no phone number on file.
    NotOnFile = "not-on-file";
    /// Not the user ID of whoever granted the copy.
    WrongUserId = "wrong-user-id";
    /// Not the PIN of the last SMS.
    WrongTemporaryPin = "wrong-temporary-pin";
    /// The PIN is too old: another SMS is needed.
    TemporaryPinExpired = "temporary-pin-expired";
    /// The PIN was wrong too often: another SMS is needed.
    TemporaryPinUsedUp = "temporary-pin-used-up";
    /// The personal PIN was not proven.
    WrongPersonalPin = "wrong-personal-pin";
    /// The personal PIN can be replaced only within five minutes after it was proven.
    UnlockNeeded = "unlock-needed";
    /// Too many wrong personal PINs: this app must be activated again.
    AppLocked = "app-locked";
    /// The PIN was registered too long ago: this app must be activated again.
    PinSetupGone = "pin-setup-gone";
    /// The server does not know this activation.
    UnknownActivation = "unknown-activation";
    /// The user has no such app.
    UnknownApp = "unknown-app";
    /// Not this server's path.
    NotFound = "not-found";
    /// Another step is due.
    AnotherStepIsDue = "another-step-is-due";
    /// The step was done before, otherwise.
    StepDoneOtherwise = "step-done-otherwise";
    /// No SMS was asked for.
    NoTemporaryPin = "no-temporary-pin";
    /// The device key belongs to something else already.
    DeviceKeyUsed = "device-key-used";
    /// The user has as many active apps as allowed.
    TooManyApps = "too-many-apps";
    /// The activation is over.
    ActivationEnded = "activation-ended";
    /// The copy may not start yet.
    CopyWaits = "copy-waits";
    /// Too many wrong personal PINs, for now.
    PersonalPinWaits = "personal-pin-waits";
    /// Too many SMS to this number, or from this address.
    TooManySms = "too-many-sms";
    /// Too many SMS in all.
    SmsOverloaded = "sms-overloaded";
    /// No room for another stream of events.
    TooManyStreams = "too-many-streams";
    /// The server's database does not answer.
    RegistryUnavailable = "registry-unavailable";
    /// A defect of the server.
    InternalError = "internal-error";
}

/// The server refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// The HTTP status.
    pub status: u16,
    /// Tries that are left, where they are counted.
    pub tries_left: Option<u8>,
    /// Why the activation is over, if it is.
    pub ended: Option<End>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    title: String,
    detail: String,
}

#[derive(Deserialize)]
struct Body {
    code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    tries_left: Option<u8>,
    ended: Option<End>,
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Of an answer with this status; what is not a problem of ours counts by its status alone.
    pub(super) fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let body: Option<Body> = serde_json::from_slice(body).ok();
        let kind = body.as_ref().and_then(|body| body.code.as_deref()).map_or(RefusalKind::Unknown, RefusalKind::of);
        let text = |text: Option<&String>| text.map(|text| printable(text)).unwrap_or_default();
        Self {
            kind,
            status,
            tries_left: body.as_ref().and_then(|body| body.tries_left),
            ended: body.as_ref().and_then(|body| body.ended),
            retry_after: body.as_ref().and_then(|body| body.retry_after_ms).map(Duration::from_millis).or(retry_after),
            title: text(body.as_ref().and_then(|body| body.title.as_ref())),
            detail: text(body.as_ref().and_then(|body| body.detail.as_ref())),
        }
    }

    /// Whether it is not the server's: a gateway answers in its place, and whether the server has heard is not known.
    #[must_use]
    pub fn is_of_a_gateway(&self) -> bool {
        self.kind == RefusalKind::Unknown && matches!(self.status, 502..=504)
    }

    fn is_passing(&self) -> bool {
        matches!(self.kind, RefusalKind::RegistryUnavailable | RefusalKind::InternalError) || self.is_of_a_gateway()
    }
}

/// What a stranger's text may not do to a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MOST_TEXT).collect()
}

/// For people: what it is, what to do, what is left.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_of_a_gateway() {
            write!(f, "The server is away: a gateway answers in its place, with status {}.", self.status)?;
        } else if self.title.is_empty() {
            write!(f, "The server refuses with status {}.", self.status)?;
        } else {
            write!(f, "{}. {}", self.title, self.detail)?;
        }
        if let Some(left) = self.tries_left {
            write!(f, " Tries left: {left}.")?;
        }
        if let Some(ended) = self.ended {
            write!(f, " It is over because {ended}.")?;
        }
        if let Some(delay) = self.retry_after {
            let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
            write!(f, " Try again in {seconds} s.")?;
        } else if self.is_of_a_gateway() {
            f.write_str(" Try again.")?;
        }
        Ok(())
    }
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No connection: the name, or TCP.
    #[error("no connection can be made")]
    Connect,
    /// No encrypted connection that can be trusted.
    #[error("the server's certificate or encryption is not acceptable")]
    Tls,
    /// The request went out, and nothing came back in time.
    #[error("the server does not answer")]
    Timeout,
    /// The connection broke before the whole answer was here.
    #[error("the connection broke")]
    Broken,
}

/// Why a step did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// The server says no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server could not be asked. Whether it has heard the request is not known; the same step may be taken again.
    #[error("{0}")]
    NoAnswer(NoAnswer),
    /// Not what this version of the server answers.
    #[error("the server's answer cannot be understood: update this app")]
    NotUnderstood,
    /// The PIN is wrong, or the server's part of its protocol is.
    #[error(transparent)]
    Pin(#[from] PinExchangeError),
    /// The step is another one's: ask what is due.
    #[error("this step is not due")]
    NotDue,
}

impl ActivationError {
    /// Why the server refused, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    /// Whether the same request may succeed later: the server, or what it needs, is away for now.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NoAnswer(NoAnswer::Connect | NoAnswer::Timeout | NoAnswer::Broken))
            || self.refusal().is_some_and(Refusal::is_passing)
    }

    /// The kind of the refusal, if it is one.
    #[must_use]
    pub fn refused(&self) -> Option<RefusalKind> {
        self.refusal().map(|refusal| refusal.kind)
    }
}

impl From<Refusal> for ActivationError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
