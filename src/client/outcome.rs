//! How a transfer ends, and what a person can do next. No policy: the machines decide, this names it.

use std::fmt;
use std::time::Duration;

use crate::crypto::{Binding, ChannelError, Credential};
use crate::protocol::close::CloseReason;
use crate::protocol::network::Verdict;

/// The end of a transfer for the old app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldOutcome {
    /// The new app has the credential: its signed receipt verified.
    Delivered,
    /// Nothing was delivered, as far as this app can know.
    Ended(EndReason),
}

/// The end of a transfer for the new app.
#[derive(Clone, PartialEq, Eq)]
pub enum NewOutcome {
    /// The credential is here, complete and verified.
    Received {
        /// The credential.
        credential: Credential,
        /// Whether the old app has confirmed the receipt. If not, it may believe that nothing was delivered.
        confirmed: bool,
        /// What a credential that is a statement about this handoff must name.
        binding: Binding,
    },
    /// No credential came.
    Ended(EndReason),
}

impl From<EndReason> for OldOutcome {
    fn from(reason: EndReason) -> Self {
        Self::Ended(reason)
    }
}

impl From<EndReason> for NewOutcome {
    fn from(reason: EndReason) -> Self {
        Self::Ended(reason)
    }
}

impl fmt::Debug for NewOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received { confirmed, .. } => {
                f.debug_struct("Received").field("confirmed", confirmed).finish_non_exhaustive()
            }
            Self::Ended(reason) => f.debug_tuple("Ended").field(reason).finish(),
        }
    }
}

/// Why a transfer ended without a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// A row of the protocol's table; the relay, the other app or this one found it.
    #[error("{}", .0.sentence())]
    Closed(CloseReason),
    /// This app's person cancelled.
    #[error("the handoff was cancelled on this phone")]
    Cancelled,
    /// This app's policy refuses the relay's verdict.
    #[error("this app's policy refuses the network that the other phone is on")]
    VerdictRefused(Verdict),
    /// The relay passed on another key than the one in the QR code.
    #[error("the relay passed on another key than the QR code names")]
    KeyReplaced,
    /// The relay no longer knows a session that it had confirmed.
    #[error("the relay has lost the session")]
    SessionLost,
    /// The relay sent something that the protocol does not allow.
    #[error("the relay sent something that the protocol does not allow")]
    ProtocolViolated,
    /// The relay closed with a code that this app does not know.
    #[error("the relay closed with the code {0}, which this app does not know")]
    UnknownClose(u16),
    /// The relay refused the WebSocket handshake for good.
    #[error("{0}")]
    Refused(HttpRefusal),
    /// No relay answered in time; this is what went wrong last.
    #[error("no relay could be reached: {0}")]
    Unreachable(ConnectFailure),
    /// A defect of this library.
    #[error("the app failed")]
    Internal,
}

impl EndReason {
    /// What the person can do now, as one plain sentence. Apps show their own, translated text.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Closed(reason) => advice_on(reason),
            Self::Cancelled => "Nothing was handed over. Start again with a new QR code whenever you like.",
            Self::VerdictRefused(_) => "Connect both phones to the same Wi-Fi and start again.",
            Self::KeyReplaced => {
                "Do not try again on this network: something between the phones tampers with the connection."
            }
            Self::SessionLost => "Start again with a new QR code.",
            Self::ProtocolViolated => "Update the app on both phones, then start again with a new QR code.",
            Self::UnknownClose(_) => "Update the app, then start again.",
            Self::Refused(refusal) => refusal.advice(),
            Self::Unreachable(_) => "Check the phone's internet connection, or use another network, then start again.",
            Self::Internal => "Close the app, open it, and start again.",
        }
    }

    /// Whether starting again, with a new QR code, can help without changing an app or a setting.
    #[must_use]
    pub fn can_start_again(self) -> bool {
        match self {
            Self::Closed(reason) => !needs_another_app(reason),
            Self::Cancelled | Self::VerdictRefused(_) | Self::SessionLost | Self::Unreachable(_) | Self::Internal => {
                true
            }
            Self::Refused(refusal) => matches!(refusal, HttpRefusal::NotFound),
            Self::KeyReplaced | Self::ProtocolViolated | Self::UnknownClose(_) => false,
        }
    }
}

fn needs_another_app(reason: CloseReason) -> bool {
    use CloseReason as R;
    matches!(
        reason,
        R::MalformedMessage
            | R::UnexpectedMessage
            | R::UnexpectedData
            | R::Fragmented
            | R::ProtocolError
            | R::TooLarge
            | R::BadOffer
            | R::Unauthorized
            | R::Flooding
    )
}

fn advice_on(reason: CloseReason) -> &'static str {
    use CloseReason as R;
    match reason {
        R::Completed => "There is nothing left to do.",
        R::Expired => "The time was over. Start again with a new QR code.",
        R::ScannedTwice => {
            "Two devices scanned the code. Start again where nobody else can see the screen, and never send the code."
        }
        R::CancelledByOld => "The handoff was cancelled on the old phone. Start again there with a new QR code.",
        R::CancelledByNew => "The handoff was cancelled on the new phone. Start again with a new QR code.",
        R::WrongCode => "The code that was typed is not the one shown. Start again, and type what the new phone shows.",
        R::CodeTimeout => "The code was not typed within a minute. Start again with a new QR code.",
        R::VerificationFailed => {
            "Something did not verify, so nothing was handed over. Start again with a new QR code."
        }
        R::NetworkRefused => "Connect both phones to the same Wi-Fi and start again.",
        R::TooManyResumes => "The connection was lost too often. Start again on a better network.",
        R::StaleFrame => "The picture had changed. Scan the code that the old phone shows now.",
        R::UnknownSession | R::BadJoinProof => {
            "This code is no longer valid. Scan the one that the old phone shows now."
        }
        R::Superseded => "The app was opened twice. Go on where it was opened last.",
        R::Unauthorized => "Sign in to the app again, then start again.",
        R::AlreadyOpen | R::QuotaExceeded => "Start again with a new QR code.",
        R::MalformedMessage
        | R::UnexpectedMessage
        | R::UnexpectedData
        | R::Fragmented
        | R::ProtocolError
        | R::TooLarge
        | R::BadOffer
        | R::Flooding => "Update the app, then start again.",
        R::NothingToResume
        | R::FirstMessageTimeout
        | R::Unresponsive
        | R::TooSlow
        | R::Crowded
        | R::GoingAway
        | R::Overloaded
        | R::InternalError => "Wait a moment, then start again with a new QR code.",
    }
}

/// A terminal answer to the WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpRefusal {
    /// 400.
    #[error("the relay does not understand the request (HTTP 400)")]
    BadRequest,
    /// 401.
    #[error("the relay asks for authentication (HTTP 401)")]
    Unauthorized,
    /// 403.
    #[error("the relay does not let this app in (HTTP 403)")]
    Forbidden,
    /// 404.
    #[error("there is no relay at this address (HTTP 404)")]
    NotFound,
    /// Another 4xx.
    #[error("the relay refused the connection (HTTP {0})")]
    Other(u16),
}

impl HttpRefusal {
    fn advice(self) -> &'static str {
        match self {
            Self::Unauthorized => "Sign in to the app again, then start again.",
            Self::NotFound => "Scan the code again; if that does not help, update the app.",
            Self::BadRequest | Self::Forbidden | Self::Other(_) => "Update the app, then start again.",
        }
    }
}

/// Why there is no connection to a relay. Trying again can help, except after [`Self::Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// The name did not resolve.
    #[error("the relay's name could not be resolved")]
    Name,
    /// No TCP connection.
    #[error("the relay did not accept a connection")]
    Connect,
    /// Nothing within the time for a connection.
    #[error("the relay did not answer in time")]
    Timeout,
    /// The TLS handshake failed.
    #[error("the relay's certificate or encryption was not acceptable")]
    Tls,
    /// What answered does not speak the protocol.
    #[error("what answered does not speak handoff.v1")]
    NotARelay,
    /// 429, 503 or another 5xx.
    #[error("the relay is busy (HTTP {status})")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// The relay refused for good.
    #[error("{0}")]
    Refused(HttpRefusal),
}

impl ConnectFailure {
    /// What an HTTP status other than 101 means.
    #[must_use]
    pub fn from_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            400 => Self::Refused(HttpRefusal::BadRequest),
            401 => Self::Refused(HttpRefusal::Unauthorized),
            403 => Self::Refused(HttpRefusal::Forbidden),
            404 => Self::Refused(HttpRefusal::NotFound),
            // 408 and 425 are about this one attempt.
            408 | 425 | 429 | 500..=599 => Self::Busy { status, retry_after },
            402..=499 => Self::Refused(HttpRefusal::Other(status)),
            _ => Self::NotARelay,
        }
    }
}

/// Why a transfer cannot even start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The frame interval is not between [`MIN_FRAME_INTERVAL`](crate::protocol::limits::MIN_FRAME_INTERVAL) and the lifetime.
    #[error("the frame interval must be between one second and the session's lifetime")]
    BadInterval,
    /// The lifetime is zero or longer than [`SESSION_LIFETIME`](crate::protocol::limits::SESSION_LIFETIME).
    #[error("the lifetime must be between one second and three minutes")]
    BadLifetime,
    /// The channel refuses the credential, the settings or the QR payload.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_says_what_to_do_next() {
        for reason in CloseReason::ALL {
            let end = EndReason::Closed(*reason);
            assert!(end.advice().ends_with('.'), "{reason}");
            assert_eq!(end.to_string(), reason.sentence());
        }
        assert!(EndReason::Closed(CloseReason::StaleFrame).can_start_again());
        assert!(!EndReason::Closed(CloseReason::Unauthorized).can_start_again());
        assert!(!EndReason::KeyReplaced.can_start_again());
    }

    #[test]
    fn http_refusals_are_final_or_a_reason_to_wait() {
        let wait = Some(Duration::from_secs(3));
        for status in [408, 429, 500, 503] {
            assert_eq!(ConnectFailure::from_status(status, wait), ConnectFailure::Busy { status, retry_after: wait });
        }
        for status in [400, 401, 403, 404, 410, 426] {
            assert!(matches!(ConnectFailure::from_status(status, wait), ConnectFailure::Refused(_)), "{status}");
        }
        for status in [200, 301, 0] {
            assert_eq!(ConnectFailure::from_status(status, None), ConnectFailure::NotARelay);
        }
    }
}
