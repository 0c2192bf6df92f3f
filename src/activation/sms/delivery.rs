//! Delivery reports: what a gateway tells afterwards about a message it took.
//!
//! Only a report with a valid signature counts: otherwise anybody could say that nothing arrives, or that all does. A
//! report changes no activation; it is for metrics, and for whoever looks after a message. Pure: it takes what came over
//! HTTP, and whoever serves HTTP keeps bodies small.
//!
//! | scheme | signature |
//! |---|---|
//! | [`Scheme::Jwt`] (`GatewayAPI`) | header `X-Gwapi-Signature`: a JWT with HS256, the report is its payload |
//! | [`Scheme::Twilio`] | header `X-Twilio-Signature`: HMAC-SHA1 of address and form, base64 |
//! | [`Scheme::Hmac`] (any other) | `webhook-id`, `webhook-timestamp`, `webhook-signature`: HMAC-SHA256, see [`crate::activation::signature`] |
//!
//! HMAC-SHA1 is Twilio's choice; for a MAC, what is wrong with SHA-1 does not matter.

use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::activation::signature::{Signed, SigningKey};

/// Longest body of a report that is looked at, in bytes.
pub const MOST_BYTES: usize = 16 * 1024;

/// What the paths of the gateways end with, the preferred one first.
pub const PATHS: [&str; 2] = ["first", "second"];

/// How a gateway signs its reports.
#[derive(Clone)]
pub enum Scheme {
    /// A JWT with HS256 in `X-Gwapi-Signature`, under this secret.
    Jwt(Zeroizing<String>),
    /// Twilio's.
    Twilio {
        /// The account's auth token.
        token: Zeroizing<String>,
        /// The callback address exactly as Twilio was given it: behind a proxy, the server cannot know it.
        address: String,
    },
    /// Our own, for gateways that can be taught, and for adapters.
    Hmac(SigningKey),
}

/// What came over HTTP.
#[derive(Clone, Copy)]
pub struct Posted<'a> {
    /// Finds a header by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The body as it was.
    pub body: &'a [u8],
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The phone has it.
    Delivered,
    /// It will not arrive.
    Failed,
    /// Not the last word.
    UnderWay,
}

impl Status {
    /// For metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::UnderWay => "under_way",
        }
    }

    /// `GatewayAPI`'s, Twilio's and common words for it. What nobody knows is not the last word.
    fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "delivered" | "read" => Self::Delivered,
            "failed" | "undelivered" | "undeliverable" | "expired" | "rejected" | "deleted" | "skipped"
            | "canceled" => Self::Failed,
            _ => Self::UnderWay,
        }
    }
}

/// A report that its gateway signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The gateway's id for the message, as in [`super::sender::Sent`].
    pub message_id: String,
    /// What became of it.
    pub status: Status,
}

/// Why a report does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// No signature, or a wrong or old one.
    #[error("the delivery report has no valid signature")]
    Forged,
    /// Signed, but no report.
    #[error("the delivery report names no message or no status")]
    Malformed,
}

impl Scheme {
    /// The report, if the gateway signed it.
    ///
    /// # Errors
    /// [`BadReport`]; a forged one is answered with 401, a malformed one with 400.
    pub fn read(&self, posted: Posted<'_>, now: SystemTime) -> Result<Report, BadReport> {
        if posted.body.len() > MOST_BYTES {
            return Err(BadReport::Malformed);
        }
        match self {
            Self::Jwt(secret) => read_jwt(secret, posted),
            Self::Twilio { token, address } => read_twilio(token, address, posted),
            Self::Hmac(key) => {
                let header = |name: &str| (posted.header)(name).ok_or(BadReport::Forged);
                let (id, at, signature) =
                    (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
                let signed = Signed { id: &id, timestamp: &at, signature: &signature };
                key.verify(signed, posted.body, now).map_err(|_| BadReport::Forged)?;
                from_json(posted.body)
            }
        }
    }
}

/// The members that `GatewayAPI` has, and adapters are asked for.
#[derive(Deserialize)]
struct JsonReport {
    id: Value,
    status: String,
}

fn from_json(json: &[u8]) -> Result<Report, BadReport> {
    let report: JsonReport = serde_json::from_slice(json).map_err(|_| BadReport::Malformed)?;
    let message_id = match report.id {
        Value::String(id) if !id.is_empty() => id,
        Value::Number(id) => id.to_string(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(BadReport::Malformed);
        }
    };
    Ok(Report { message_id, status: Status::from_word(&report.status) })
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
}

/// What is in the token counts, and the body not at all.
fn read_jwt(secret: &str, posted: Posted<'_>) -> Result<Report, BadReport> {
    let token = (posted.header)("x-gwapi-signature").ok_or(BadReport::Forged)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(BadReport::Forged)?;
    let (header, payload) = signed.split_once('.').ok_or(BadReport::Forged)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BadReport::Forged);
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| BadReport::Forged)?;
    hmac.update(signed.as_bytes());
    hmac.verify_slice(&decode(signature)?).map_err(|_| BadReport::Forged)?;
    // Signed with another algorithm, it would not have passed; but a token that says so is not meant for this.
    let header: JwtHeader = serde_json::from_slice(&decode(header)?).map_err(|_| BadReport::Malformed)?;
    if header.alg != "HS256" {
        return Err(BadReport::Forged);
    }
    from_json(&decode(payload)?)
}

fn read_twilio(token: &str, address: &str, posted: Posted<'_>) -> Result<Report, BadReport> {
    let signature = (posted.header)("x-twilio-signature").ok_or(BadReport::Forged)?;
    let signature = STANDARD.decode(signature).map_err(|_| BadReport::Forged)?;
    let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(posted.body).into_owned().collect();
    fields.sort();
    let mut hmac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).map_err(|_| BadReport::Forged)?;
    hmac.update(address.as_bytes());
    for (name, value) in &fields {
        hmac.update(name.as_bytes());
        hmac.update(value.as_bytes());
    }
    hmac.verify_slice(&signature).map_err(|_| BadReport::Forged)?;
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let (id, status) = field("MessageSid").zip(field("MessageStatus")).ok_or(BadReport::Malformed)?;
    Ok(Report { message_id: id, status: Status::from_word(&status) })
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jwt(_) => "Jwt([redacted])",
            Self::Twilio { .. } => "Twilio([redacted])",
            Self::Hmac(_) => "Hmac([redacted])",
        })
    }
}

impl fmt::Debug for Posted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posted").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn read(scheme: &Scheme, headers: &[(&str, &str)], body: &[u8], now: SystemTime) -> Result<Report, BadReport> {
        let header =
            |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        scheme.read(Posted { header: &header, body }, now)
    }

    fn report(id: &str, status: Status) -> Report {
        Report { message_id: id.to_owned(), status }
    }

    // Python: b64url(b'{"alg":"HS256","typ":"JWT"}') + "." + b64url(b'{"id":421332671,"msisdn":4512345678,
    // "status":"DELIVERED"}'), and "." + b64url(hmac.digest(b"a-secret", it, "sha256"))
    const JWT: [&str; 3] = [
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        "eyJpZCI6NDIxMzMyNjcxLCJtc2lzZG4iOjQ1MTIzNDU2NzgsInN0YXR1cyI6IkRFTElWRVJFRCJ9",
        "l97NajhByLpHkM7MLEkzT4emlBm2qOTaFDoNPEtqk6A",
    ];

    fn token() -> String {
        JWT.join(".")
    }

    fn jwt() -> Scheme {
        Scheme::Jwt(Zeroizing::new("a-secret".to_owned()))
    }

    #[test]
    fn a_report_of_gatewayapi_counts_when_its_token_is_signed() {
        assert_eq!(
            read(&jwt(), &[("x-gwapi-signature", &token())], b"", NOW),
            Ok(report("421332671", Status::Delivered))
        );
        let other = Scheme::Jwt(Zeroizing::new("another".to_owned()));
        assert_eq!(read(&other, &[("x-gwapi-signature", &token())], b"", NOW), Err(BadReport::Forged));
        assert_eq!(read(&jwt(), &[], b"{\"id\":1,\"status\":\"DELIVERED\"}", NOW), Err(BadReport::Forged));
        // {"alg":"none","typ":"JWT"} without a signature.
        let none = ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", JWT[1], ""].join(".");
        assert_eq!(read(&jwt(), &[("x-gwapi-signature", &none)], b"", NOW), Err(BadReport::Forged));
    }

    const ADDRESS: &str = "https://eid.example/v1/sms/reports/twilio";
    const FORM: &[u8] = b"MessageStatus=undelivered&MessageSid=SM123&To=%2B4512345678&AccountSid=AC1";
    // Python: base64.b64encode(hmac.digest(b"a-token", (ADDRESS + "AccountSidAC1MessageSidSM123MessageStatusundelivered"
    // "To+4512345678").encode(), "sha1"))
    const TWILIO: &str = "NXYnNWlT2IzdBITc+JOkO/fQm9s=";

    fn twilio(address: &str) -> Scheme {
        Scheme::Twilio { token: Zeroizing::new("a-token".to_owned()), address: address.to_owned() }
    }

    #[test]
    fn a_report_of_twilio_counts_when_address_and_form_are_signed() {
        let signed = [("x-twilio-signature", TWILIO)];
        assert_eq!(read(&twilio(ADDRESS), &signed, FORM, NOW), Ok(report("SM123", Status::Failed)));
        assert_eq!(read(&twilio("https://other.example/"), &signed, FORM, NOW), Err(BadReport::Forged));
        let changed = b"MessageStatus=delivered&MessageSid=SM123&To=%2B4512345678&AccountSid=AC1";
        assert_eq!(read(&twilio(ADDRESS), &signed, changed, NOW), Err(BadReport::Forged));
        assert_eq!(read(&twilio(ADDRESS), &[], FORM, NOW), Err(BadReport::Forged));
    }

    #[test]
    fn a_report_of_an_adapter_counts_when_it_is_signed_and_fresh() {
        let key = SigningKey::new([3; 32]);
        let body = br#"{"id": "a", "status": "expired"}"#;
        let (id, at, signature) = ("an-id", "0", key.sign("an-id", NOW, body));
        let headers = [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature.as_str())];
        let scheme = Scheme::Hmac(key);
        assert_eq!(read(&scheme, &headers, body, NOW), Ok(report("a", Status::Failed)));
        assert_eq!(read(&scheme, &headers, b"{}", NOW), Err(BadReport::Forged));
        assert_eq!(read(&scheme, &headers[..2], body, NOW), Err(BadReport::Forged));
        assert_eq!(read(&scheme, &headers, body, NOW + Duration::from_hours(1)), Err(BadReport::Forged));
    }

    #[test]
    fn a_signed_body_that_is_no_report_is_malformed() {
        let key = SigningKey::new([3; 32]);
        for body in ["", "{}", r#"{"id": null, "status": "sent"}"#, r#"{"id": "", "status": "sent"}"#, r#"{"id": 1}"#] {
            let signature = key.sign("i", NOW, body.as_bytes());
            let headers = [("webhook-id", "i"), ("webhook-timestamp", "0"), ("webhook-signature", signature.as_str())];
            let read = read(&Scheme::Hmac(key.clone()), &headers, body.as_bytes(), NOW);
            assert_eq!(read, Err(BadReport::Malformed), "{body}");
        }
        let long = vec![b' '; MOST_BYTES + 1];
        assert_eq!(read(&jwt(), &[("x-gwapi-signature", &token())], &long, NOW), Err(BadReport::Malformed));
    }

    #[test]
    fn the_words_of_gateways_are_understood() {
        for (word, status) in [
            ("DELIVERED", Status::Delivered),
            ("UNDELIVERABLE", Status::Failed),
            ("EXPIRED", Status::Failed),
            ("ENROUTE", Status::UnderWay),
            ("queued", Status::UnderWay),
            ("delivered", Status::Delivered),
            ("undelivered", Status::Failed),
            ("", Status::UnderWay),
        ] {
            assert_eq!(Status::from_word(word), status, "{word}");
        }
        let labels = [Status::Delivered, Status::Failed, Status::UnderWay].map(Status::label);
        assert_eq!([&labels[..], &["forged"]].concat(), crate::telemetry::SMS_DELIVERIES);
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        let shown = format!("{:?} {:?} {:?}", jwt(), twilio(ADDRESS), Scheme::Hmac(SigningKey::new([3; 32])));
        assert_eq!(shown, "Jwt([redacted]) Twilio([redacted]) Hmac([redacted])");
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_panics_or_counts(header in ".{0,60}", body in prop::collection::vec(any::<u8>(), 0..60)) {
            for (scheme, name) in [(jwt(), "x-gwapi-signature"), (twilio(ADDRESS), "x-twilio-signature")] {
                prop_assert!(read(&scheme, &[(name, &header)], &body, NOW).is_err());
            }
        }
    }
}
