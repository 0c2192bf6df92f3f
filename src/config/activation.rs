//! `[activation]` and `[sms]`: from a new app to an active one.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;

use super::{Bad, SecretKey, SecretText};

/// Longest time for one activation, and longest wait of a copy.
const MOST_TIME: Duration = Duration::from_hours(24 * 7);

/// Activation, and the registry of users and apps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Activation {
    /// Whether it is served.
    #[serde(deserialize_with = "switch")]
    pub enabled: bool,
    /// Where the keys are, and the database file if there is no other database; made at the first start.
    pub data_directory: PathBuf,
    /// A PostgreSQL database in place of the file.
    pub database_url: Option<SecretText>,
    /// Most connections to PostgreSQL.
    pub database_connections: u32,
    /// How phones see this service.
    pub public_url: Option<String>,
    /// The identity-proofing system's public keys.
    pub enrolment_jwks_file: Option<PathBuf>,
    /// What must be among the audiences of an enrolment token.
    pub enrolment_audience: String,
    /// Who must have issued an enrolment token.
    pub enrolment_issuer: Option<String>,
    /// How long an activation may take.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// How long a copy has to wait before it may start.
    #[serde(with = "humantime_serde")]
    pub copy_wait: Duration,
    /// Active apps of one user.
    pub most_apps: u32,
    /// Who pushes events to phones.
    pub webhook_url: Option<String>,
    /// What events are signed with.
    pub webhook_key: Option<SecretKey>,
}

/// The SMS with temporary PINs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sms {
    /// Who sends them.
    pub gateway: SmsGateway,
    /// The gateway's account, for Twilio.
    pub account: Option<String>,
    /// The gateway's token.
    pub token: Option<SecretText>,
    /// Whom they are from.
    pub sender: Option<String>,
    /// Where the gateway takes messages, for `http`.
    pub url: Option<String>,
    /// The body that it takes, with placeholders, for `http`.
    pub body: Option<String>,
    /// Where its answer has the message's id, for `http`.
    pub message_id: Option<String>,
    /// What its delivery reports are signed with.
    pub report_key: Option<SecretText>,
    /// Where the PIN may be filled in: the host of the app's associated domain.
    pub domain: String,
    /// What the app is called.
    pub name: String,
    /// The Android builds that may read them.
    pub app_hashes: Vec<String>,
    /// Most SMS in 15 minutes that one address asks for.
    pub most_per_address: u32,
    /// Most SMS in 15 minutes in all.
    pub most_in_all: u32,
}

/// A second gateway, for what the first does not take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmsSecond {
    /// Who sends them; without, there is no second gateway.
    pub gateway: Option<SmsGateway>,
    /// As in [`Sms`].
    pub account: Option<String>,
    /// As in [`Sms`].
    pub token: Option<SecretText>,
    /// As in [`Sms`].
    pub sender: Option<String>,
    /// As in [`Sms`].
    pub url: Option<String>,
    /// As in [`Sms`].
    pub body: Option<String>,
    /// As in [`Sms`].
    pub message_id: Option<String>,
    /// As in [`Sms`].
    pub report_key: Option<SecretText>,
}

/// One gateway, the first or the second.
#[derive(Clone, Copy, Debug)]
pub struct SmsRoute<'a> {
    /// Who it is.
    pub gateway: SmsGateway,
    /// The account.
    pub account: Option<&'a str>,
    /// The token.
    pub token: Option<&'a SecretText>,
    /// The sender.
    pub sender: Option<&'a str>,
    /// The address.
    pub url: Option<&'a str>,
    /// The body.
    pub body: Option<&'a str>,
    /// The place of the message's id.
    pub message_id: Option<&'a str>,
    /// The key of the reports.
    pub report_key: Option<&'a SecretText>,
}

macro_rules! route {
    ($section:expr, $gateway:expr) => {
        SmsRoute {
            gateway: $gateway,
            account: $section.account.as_deref(),
            token: $section.token.as_ref(),
            sender: $section.sender.as_deref(),
            url: $section.url.as_deref(),
            body: $section.body.as_deref(),
            message_id: $section.message_id.as_deref(),
            report_key: $section.report_key.as_ref(),
        }
    };
}

impl SmsSecond {
    /// The second gateway, if there is one.
    #[must_use]
    pub fn route(&self) -> Option<SmsRoute<'_>> {
        self.gateway.map(|gateway| route!(self, gateway))
    }

    pub(super) fn check(&self, first: &Sms) -> Result<(), Bad> {
        let is_real = self.gateway != Some(SmsGateway::Outbox);
        Bad::unless(is_real, "sms_second.gateway", "must be one that sends")?;
        let written = route!(self, SmsGateway::Http);
        well_formed(&written, &SECOND)?;
        let Some(route) = self.route() else {
            let in_vain = set(&written, &SECOND).into_iter().find(|(_, is_set)| *is_set);
            return in_vain.map_or(Ok(()), |(key, _)| Err(Bad::new(key, "has no effect without sms_second.gateway")));
        };
        let is_second = first.gateway != SmsGateway::Outbox;
        let alone = "has no effect with sms.gateway = \"outbox\", which takes every SMS: name a gateway in sms.gateway";
        Bad::unless(is_second, "sms_second.gateway", alone)?;
        needed(&route, &SECOND)
    }
}

/// The names of what a gateway may need.
struct Names {
    token: &'static str,
    sender: &'static str,
    account: &'static str,
    url: &'static str,
    body: &'static str,
    message_id: &'static str,
    report_key: &'static str,
}

const FIRST: Names = Names {
    token: "sms.token",
    sender: "sms.sender",
    account: "sms.account",
    url: "sms.url",
    body: "sms.body",
    message_id: "sms.message_id",
    report_key: "sms.report_key",
};

const SECOND: Names = Names {
    token: "sms_second.token",
    sender: "sms_second.sender",
    account: "sms_second.account",
    url: "sms_second.url",
    body: "sms_second.body",
    message_id: "sms_second.message_id",
    report_key: "sms_second.report_key",
};

fn well_formed(route: &SmsRoute<'_>, names: &Names) -> Result<(), Bad> {
    let is_url = route.url.is_none_or(|url| Url::parse(url).is_ok_and(|url| url.has_host()));
    Bad::unless(is_url, names.url, "must be an address that begins with https://")?;
    let is_body = route.body.is_none_or(|body| body.contains("{text}"));
    Bad::unless(is_body, names.body, "must be a JSON object or a form with {text} and {to}")?;
    let is_pointer = route.message_id.is_none_or(|place| place.starts_with('/'));
    Bad::unless(is_pointer, names.message_id, "must be a JSON pointer that begins with /")
}

/// Which settings of a gateway are set.
fn set(route: &SmsRoute<'_>, names: &Names) -> [(&'static str, bool); 7] {
    [
        (names.account, route.account.is_some()),
        (names.token, route.token.is_some()),
        (names.sender, route.sender.is_some()),
        (names.url, route.url.is_some()),
        (names.body, route.body.is_some()),
        (names.message_id, route.message_id.is_some()),
        (names.report_key, route.report_key.is_some()),
    ]
}

fn needed(route: &SmsRoute<'_>, names: &Names) -> Result<(), Bad> {
    let (token, sender) = ((names.token, route.token.is_some()), (names.sender, route.sender.is_some()));
    let needs = match route.gateway {
        SmsGateway::Outbox => vec![],
        SmsGateway::Gatewayapi => vec![token, sender],
        SmsGateway::Twilio => vec![token, sender, (names.account, route.account.is_some())],
        SmsGateway::Http => vec![(names.url, route.url.is_some()), (names.body, route.body.is_some())],
    };
    match needs.into_iter().find(|(_, is_set)| !is_set) {
        Some((key, _)) => Err(Bad::new(key, "is needed with this gateway")),
        None => Ok(()),
    }
}

/// Who sends SMS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmsGateway {
    /// Nobody: they are kept in memory and shown on a local page. For development.
    #[default]
    Outbox,
    /// GatewayAPI.
    Gatewayapi,
    /// Twilio.
    Twilio,
    /// Any that takes a request over HTTP for each message.
    Http,
}

impl Default for Activation {
    fn default() -> Self {
        Self {
            enabled: true,
            data_directory: PathBuf::from("handoff-data"),
            database_url: None,
            database_connections: 20,
            public_url: None,
            enrolment_jwks_file: None,
            enrolment_audience: "handoff-activation".to_owned(),
            enrolment_issuer: None,
            lifetime: Duration::from_mins(30),
            copy_wait: Duration::ZERO,
            most_apps: 3,
            webhook_url: None,
            webhook_key: None,
        }
    }
}

impl Default for Sms {
    fn default() -> Self {
        Self {
            gateway: SmsGateway::Outbox,
            account: None,
            token: None,
            sender: None,
            url: None,
            body: None,
            message_id: None,
            report_key: None,
            domain: "localhost".to_owned(),
            name: "e-ID".to_owned(),
            app_hashes: Vec::new(),
            most_per_address: 30,
            most_in_all: 5000,
        }
    }
}

impl Activation {
    pub(super) fn check(&self) -> Result<(), Bad> {
        if let Some(url) = &self.database_url {
            let is_postgres = url.expose().starts_with("postgres://") || url.expose().starts_with("postgresql://");
            Bad::unless(is_postgres, "activation.database_url", "must begin with postgres:// or postgresql://")?;
        }
        let connections = (2..=1000).contains(&self.database_connections);
        Bad::unless(connections, "activation.database_connections", "must be from 2 to 1000")?;
        if let Some(url) = &self.public_url {
            let is_origin = Url::parse(url).is_ok_and(|url| {
                matches!(url.scheme(), "https" | "http") && url.has_host() && url.path() == "/" && url.query().is_none()
            });
            Bad::unless(is_origin, "activation.public_url", "must be an address without a path: https://api.example")?;
        }
        Bad::unless(
            !self.enrolment_audience.is_empty(),
            "activation.enrolment_audience",
            "must not be empty: tokens for other services would be taken",
        )?;
        let lifetime = (Duration::from_mins(1)..=MOST_TIME).contains(&self.lifetime);
        Bad::unless(lifetime, "activation.lifetime", "must be from 1m to 7days")?;
        Bad::unless(self.copy_wait <= MOST_TIME, "activation.copy_wait", "must be at most 7days")?;
        Bad::unless((1..=100).contains(&self.most_apps), "activation.most_apps", "must be from 1 to 100")?;
        Bad::unless(
            self.webhook_url.is_some() == self.webhook_key.is_some(),
            "activation.webhook_key",
            "is needed with activation.webhook_url, and has no effect without",
        )
    }

    /// What an operator should know although nothing is wrong.
    pub(super) fn warning(&self, redis: &super::Redis) -> Option<String> {
        let is_split = self.enabled && self.database_url.is_none() && !redis.url.is_empty();
        is_split.then(|| {
            "redis.url makes this one node of several, and each has a registry of its own: set activation.database_url, \
             or activation.enabled = false"
                .to_owned()
        })
    }
}

impl Sms {
    /// The first gateway.
    #[must_use]
    pub fn route(&self) -> SmsRoute<'_> {
        route!(self, self.gateway)
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        well_formed(&self.route(), &FIRST)?;
        needed(&self.route(), &FIRST)?;
        Bad::unless(self.most_per_address > 0, "sms.most_per_address", "must be at least 1")?;
        Bad::unless(self.most_in_all > 0, "sms.most_in_all", "must be at least 1")
    }
}

/// `true` or `false`, in the file as such and elsewhere as text; no number means either.
pub(super) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Switch(bool),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Switch(on) => Ok(on),
        Written::Text(text) => text.parse().map_err(de::Error::custom),
    }
}
