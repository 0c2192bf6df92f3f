//! Every way a connection or a session ends: one table of code, sentence, retry, scope and metric label.
//!
//! Codes 4000 to 4499 mean that trying again can help, 4500 to 4999 that it cannot; 1012 and 1013 stand for restart
//! and overload (RFC 6455 section 7.4 and its IANA registry). To add a reason, add a row.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a reason ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The session, for both parties.
    Session,
    /// This connection only; the session goes on.
    Connection,
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $label:literal, $scope:ident, $retry:literal, $sentence:literal;)*) => {
        /// Why a connection or a session ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum CloseReason {
            $($(#[$doc])* #[doc = concat!("\n\nCode ", $code, ": ", $sentence, ".")] #[serde(rename = $label)] $name,)*
        }

        impl CloseReason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The WebSocket close code.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Self::$name => $code),* }
            }

            /// The stable name used in messages, metrics and logs.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// Whether the session ended, or this connection only.
            #[must_use]
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope),* }
            }

            /// Whether trying again can help.
            #[must_use]
            pub fn can_retry(self) -> bool {
                match self { $(Self::$name => $retry),* }
            }

            /// One sentence for developers and logs; apps show their own, translated text.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),* }
            }
        }
    };
}

close_reasons! {
    /// The old app said `complete`.
    Completed = 1000, "completed", Session, false, "the handoff is complete";
    /// The hard lifetime.
    Expired = 4500, "expired", Session, false, "the session's time is over; start again with a new QR code";
    /// A second valid join: two devices scanned the code.
    ScannedTwice = 4501, "scanned_twice", Session, false,
        "two devices scanned the QR code, so nobody gets the credential; start again where nobody else can see the screen";
    /// `cancel` from the old app.
    CancelledByOld = 4502, "cancelled_by_old", Session, false, "the old app cancelled the handoff";
    /// `cancel` from the new app.
    CancelledByNew = 4503, "cancelled_by_new", Session, false, "the new app cancelled the handoff";
    /// The person typed something else than the new app showed.
    WrongCode = 4504, "wrong_code", Session, false, "the check code was wrong; start again with a new QR code";
    /// Nobody typed the check code in time.
    CodeTimeout = 4505, "code_timeout", Session, false,
        "the check code was not typed in time; start again with a new QR code";
    /// An app found that something did not verify: a key, a frame, a signature.
    VerificationFailed = 4506, "verification_failed", Session, false,
        "something sent between the apps did not verify; start again with a new QR code";
    /// The relay's policy refuses the network verdict.
    NetworkRefused = 4507, "network_refused", Session, false,
        "the two phones are on networks that this service does not let hand over to each other; use the same Wi-Fi";
    /// A party sent more than a session may carry.
    QuotaExceeded = 4508, "quota_exceeded", Session, false,
        "an app sent more frames or bytes than one session may carry";
    /// Too many lost connections.
    TooManyResumes = 4509, "too_many_resumes", Session, false,
        "the connection was lost too often; start again on a better network";

    /// Not valid as a control message.
    MalformedMessage = 4520, "malformed_message", Connection, false,
        "the message is not valid JSON of a known type with exactly its fields";
    /// Valid, but not from this role or not now.
    UnexpectedMessage = 4521, "unexpected_message", Connection, false,
        "this message may not be sent by this role or in this state";
    /// A binary frame before both apps are in the session.
    UnexpectedData = 4522, "unexpected_data", Connection, false,
        "data may be sent only after joined, resumed or peer_joined";
    /// WebSocket fragmentation.
    Fragmented = 4523, "fragmented", Connection, false, "fragmented messages are not accepted; send each in one frame";
    /// Not a valid RFC 6455 stream: unmasked, reserved bits, bad UTF-8.
    ProtocolError = 1002, "protocol_error", Connection, false, "the bytes are not valid WebSocket frames";
    /// Larger than a frame or control message may be.
    TooLarge = 1009, "too_large", Connection, false,
        "the message is larger than 64 KiB (data) or 16 KiB (control)";
    /// `open` for an id in use.
    AlreadyOpen = 4524, "already_open", Connection, false, "a session with this id exists; make a new random id";
    /// `open` whose numbers do not fit the relay's configuration.
    BadOffer = 4525, "bad_offer", Connection, false,
        "the frame interval is not allowed here, or the number of join hashes does not fit it";
    /// `open` without a token, or with one that does not verify.
    Unauthorized = 4526, "unauthorized", Connection, false,
        "opening a session here needs a valid token from the app's backend";
    /// `join` for an id that is not open.
    UnknownSession = 4527, "unknown_session", Connection, false,
        "there is no such session; it may have ended, scan a new QR code";
    /// `join` with a proof that was never registered.
    BadJoinProof = 4528, "bad_join_proof", Connection, false, "the join proof does not belong to this session";
    /// The same party connected anew.
    Superseded = 4529, "superseded", Connection, false, "a newer connection of the same app took over";
    /// Pings, pongs or empty frames faster than any app needs.
    Flooding = 4530, "flooding", Connection, false, "too many control frames";

    /// `join` with a frame that is no longer shown.
    StaleFrame = 4000, "stale_frame", Connection, true, "the QR frame is no longer valid; scan the one shown now";
    /// `resume` whose token is not attached to the session.
    NothingToResume = 4001, "nothing_to_resume", Connection, true,
        "nothing is attached under this token; open or join again";
    /// No first message.
    FirstMessageTimeout = 4002, "first_message_timeout", Connection, true,
        "no open, join or resume arrived in time after the handshake";
    /// Two missed pings.
    Unresponsive = 4003, "unresponsive", Connection, true, "two pings were not answered";
    /// The peer does not read what it is sent.
    TooSlow = 4004, "too_slow", Connection, true, "the app does not read what it is sent";
    /// Too many connections of one session that have said nothing yet.
    Crowded = 4005, "crowded", Connection, true, "too many connections to this session are waiting to identify";
    /// The node is shutting down.
    GoingAway = 1012, "going_away", Connection, true, "this node is restarting; resume on another";
    /// The node is full, or its store does not answer.
    Overloaded = 1013, "overloaded", Connection, true, "the relay is at its limit; try again after the time given";
    /// A defect of the relay.
    InternalError = 1011, "internal_error", Connection, true, "the relay failed; try again";
}

impl CloseReason {
    /// The reason with this close code, for a peer that lost the `ended` message.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_and_labels_are_unique() {
        let codes: HashSet<u16> = CloseReason::ALL.iter().map(|reason| reason.code()).collect();
        let labels: HashSet<&str> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(codes.len(), CloseReason::ALL.len());
        assert_eq!(labels.len(), CloseReason::ALL.len());
    }

    #[test]
    fn the_code_says_whether_trying_again_can_help() {
        for reason in CloseReason::ALL {
            let retry = match reason.code() {
                1011..=1013 | 4000..=4499 => true,
                1000 | 1002 | 1009 | 4500..=4999 => false,
                code => panic!("{reason}: {code} is not one of ours"),
            };
            assert_eq!(reason.can_retry(), retry, "{reason}");
        }
    }

    #[test]
    fn the_label_is_what_travels() {
        for reason in CloseReason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{}\"", reason.label()));
            assert_eq!(CloseReason::from_code(reason.code()), Some(*reason));
            // RFC 6455 section 5.5: a close frame carries at most 123 bytes of reason.
            assert!(reason.label().len() <= 123);
        }
    }
}
