//! A gateway over HTTP: one request for each message, made from a template.
//!
//! Bodies are JSON or a form; placeholders stand for what changes. [`HttpGatewaySettings::gatewayapi`] and
//! [`HttpGatewaySettings::twilio`] are ready templates, and others can be written in the settings:
//!
//! | placeholder | example |
//! |---|---|
//! | `{to}` | `+4512345678` |
//! | `{digits}` | `4512345678` |
//! | `{text}` | the body of the SMS |
//! | `{key}` | 32 hexadecimal digits, the same for every attempt at this message |
//! | `{valid_seconds}` | `300` |
//!
//! In JSON, a text that consists of `{digits:number}` or `{valid_seconds:number}` alone becomes a number.

use std::fmt;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Number, Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::gateway::{Accepted, Attempt, GatewayError, SmsGateway, SmsMessage};
use crate::activation::https::{self, BadAddress};

/// How the gateway knows us.
#[derive(Clone)]
pub enum Credentials {
    /// Not at all: it is on this computer, or knows the address.
    None,
    /// The whole value of `Authorization`, such as `Token abc` or `Bearer abc`.
    Authorization(Zeroizing<String>),
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
}

/// What is sent, with placeholders.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// As `application/json`.
    Json(Value),
    /// As `application/x-www-form-urlencoded`.
    Form(Vec<(String, String)>),
}

impl Template {
    /// From a setting: a JSON object, or a form as it is posted, with placeholders in its values.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('{') && !text.trim_start().starts_with("{to}") {
            return serde_json::from_str(text).ok().map(Self::Json);
        }
        let fields: Vec<_> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        (!fields.is_empty()).then_some(Self::Form(fields))
    }
}

/// Settings of one gateway.
#[derive(Clone)]
pub struct HttpGatewaySettings {
    /// Where messages are posted: HTTPS, or loopback.
    pub address: String,
    /// How the gateway knows us.
    pub credentials: Credentials,
    /// The body.
    pub template: Template,
    /// A header for the idempotency key, if the gateway knows one, such as `Idempotency-Key`.
    pub idempotency_header: Option<String>,
    /// Where the gateway's answer has the message's id: a JSON pointer (RFC 6901), such as `/ids/0`.
    pub message_id: String,
}

impl HttpGatewaySettings {
    /// `GatewayAPI`'s `POST /rest/mtsms` on their servers in the EU. `sender`: up to eleven characters or a number;
    /// `callback`: where delivery reports go.
    #[must_use]
    pub fn gatewayapi(token: &str, sender: &str, callback: Option<&str>) -> Self {
        let mut body = json!({
            "sender": sender,
            "message": "{text}",
            "recipients": [{ "msisdn": "{digits:number}" }],
            "userref": "{key}",
            "validity_period": "{valid_seconds:number}",
        });
        if let (Some(callback), Some(members)) = (callback, body.as_object_mut()) {
            members.insert("callback_url".to_owned(), callback.into());
        }
        Self {
            address: "https://gatewayapi.eu/rest/mtsms".to_owned(),
            credentials: Credentials::Authorization(Zeroizing::new(format!("Token {token}"))),
            template: Template::Json(body),
            idempotency_header: None,
            message_id: "/ids/0".to_owned(),
        }
    }

    /// Twilio's `POST …/Messages.json`. `sender`: a number, or a messaging service's id that begins with `MG`.
    #[must_use]
    pub fn twilio(account: &str, token: &str, sender: &str, callback: Option<&str>) -> Self {
        let from = if sender.starts_with("MG") { "MessagingServiceSid" } else { "From" };
        let fixed = [("To", "{to}"), (from, sender), ("Body", "{text}"), ("ValidityPeriod", "{valid_seconds}")];
        let fields = fixed.into_iter().chain(callback.map(|callback| ("StatusCallback", callback)));
        Self {
            address: format!("https://api.twilio.com/2010-04-01/Accounts/{account}/Messages.json"),
            credentials: Credentials::Basic { user: account.to_owned(), password: Zeroizing::new(token.to_owned()) },
            template: Template::Form(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()),
            idempotency_header: None,
            message_id: "/sid".to_owned(),
        }
    }
}

/// Why these settings make no gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHttpGateway {
    /// Where to.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A header that HTTP does not allow.
    #[error("the idempotency header or the credentials cannot stand in an HTTP header")]
    Header,
    /// Somebody must get it, and something must be said.
    #[error("the body must hold {{text}}, and {{to}} or {{digits}}")]
    Template,
    /// No JSON pointer.
    #[error("the message id's place must be a JSON pointer that begins with /")]
    MessageId,
}

/// A gateway over HTTP.
pub struct HttpGateway {
    client: reqwest::Client,
    address: Url,
    authorization: Option<HeaderValue>,
    basic: Option<(String, Zeroizing<String>)>,
    template: Template,
    idempotency_header: Option<HeaderName>,
    message_id: String,
}

impl HttpGateway {
    /// A gateway with these settings, over the client that [`https::client`] makes.
    ///
    /// # Errors
    /// [`BadHttpGateway`] names what is wrong with the settings.
    pub fn new(settings: HttpGatewaySettings, client: reqwest::Client) -> Result<Self, BadHttpGateway> {
        let address = https::secure(&settings.address)?;
        let (authorization, basic) = match settings.credentials {
            Credentials::None => (None, None),
            Credentials::Authorization(text) => {
                let mut value = HeaderValue::from_str(&text).map_err(|_| BadHttpGateway::Header)?;
                value.set_sensitive(true);
                (Some(value), None)
            }
            Credentials::Basic { user, password } => (None, Some((user, password))),
        };
        let header = settings.idempotency_header.map(|name| name.parse::<HeaderName>()).transpose();
        let idempotency_header = header.map_err(|_| BadHttpGateway::Header)?;
        if !settings.template.is_complete() {
            return Err(BadHttpGateway::Template);
        }
        if !settings.message_id.starts_with('/') {
            return Err(BadHttpGateway::MessageId);
        }
        let (template, message_id) = (settings.template, settings.message_id);
        Ok(Self { client, address, authorization, basic, template, idempotency_header, message_id })
    }

    fn request(&self, message: &SmsMessage) -> RequestBuilder {
        let mut request = self.client.post(self.address.clone());
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some((user, password)) = &self.basic {
            request = request.basic_auth(user, Some(password.as_str()));
        }
        if let Some(name) = &self.idempotency_header {
            request = request.header(name.clone(), message.key.to_string());
        }
        let values = Values::of(message);
        match &self.template {
            Template::Json(body) => request.json(&values.fill_json(body)),
            Template::Form(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name, values.fill(value))).collect();
                request.form(&fields)
            }
        }
    }

    async fn try_once(&self, message: &SmsMessage) -> Result<Accepted, GatewayError> {
        let answer = self.request(message).send().await.map_err(|error| trouble(&error))?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(GatewayError::Busy { retry_after: https::retry_after(&answer) });
            }
            StatusCode::REQUEST_TIMEOUT => return Err(GatewayError::TimedOut),
            status if status.is_server_error() => return Err(GatewayError::Failed(status.as_u16())),
            status => return Err(GatewayError::Refused(status.as_u16())),
        }
        let body = https::body(answer).await.map_err(|error| trouble(&error))?.ok_or(GatewayError::Nonsense)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|_| GatewayError::Nonsense)?;
        let message_id = match answer.pointer(&self.message_id) {
            Some(Value::String(id)) if !id.is_empty() && id.len() <= 128 => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(_) | None => return Err(GatewayError::Nonsense),
        };
        Ok(Accepted { message_id })
    }
}

fn trouble(error: &reqwest::Error) -> GatewayError {
    // A broken body comes after a good status: the message may have been taken.
    if error.is_body() || error.is_decode() {
        GatewayError::Nonsense
    } else if error.is_timeout() && !error.is_connect() {
        GatewayError::TimedOut
    } else {
        GatewayError::Unreachable
    }
}

impl SmsGateway for HttpGateway {
    fn send<'a>(&'a self, message: &'a SmsMessage) -> Attempt<'a> {
        Box::pin(self.try_once(message))
    }
}

/// What the placeholders of one message stand for.
struct Values(Vec<(&'static str, Zeroizing<String>)>);

impl Values {
    fn of(message: &SmsMessage) -> Self {
        let to = message.to.expose();
        let values = [
            ("{to}", to),
            ("{digits}", to.trim_start_matches('+')),
            ("{key}", &message.key.to_string()),
            ("{valid_seconds}", &message.valid_for.as_secs().to_string()),
            // Last, so that nothing in the text is taken for a placeholder.
            ("{text}", message.text.expose()),
        ];
        Self(values.map(|(name, value)| (name, Zeroizing::new(value.to_owned()))).into())
    }

    fn fill(&self, template: &str) -> String {
        self.0.iter().fold(template.to_owned(), |filled, (name, value)| filled.replace(name, value))
    }

    fn fill_json(&self, template: &Value) -> Value {
        match template {
            Value::String(text) => match text.strip_suffix(":number}") {
                Some(name) => self.number(&format!("{name}}}")),
                None => Value::String(self.fill(text)),
            },
            Value::Array(items) => items.iter().map(|item| self.fill_json(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill_json(value))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
        }
    }

    fn number(&self, name: &str) -> Value {
        let value = self.0.iter().find(|(known, _)| *known == name);
        value.and_then(|(_, value)| value.parse::<u64>().ok()).map_or(Value::Null, |number| Number::from(number).into())
    }
}

impl Template {
    fn is_complete(&self) -> bool {
        let text = match self {
            Self::Json(value) => value.to_string(),
            Self::Form(fields) => fields.iter().map(|(_, value)| value.as_str()).collect(),
        };
        let has = |name: &str| text.contains(name);
        has("{text}") && (has("{to}") || has("{digits}") || has("{digits:number}"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Authorization(_) => "Authorization([redacted])",
            Self::Basic { .. } => "Basic([redacted])",
        })
    }
}

impl fmt::Debug for HttpGatewaySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGatewaySettings").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGateway").field("host", &self.address.host_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
