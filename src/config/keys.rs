//! The table of all settings: name, what is allowed, whether it is a list, whether it is a secret.

use ::config::{Value, ValueKind};

use super::ConfigError;

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    /// An array in the file, separated by commas in a variable or flag.
    List,
    /// Never shown; in the environment also as `…_FILE`, the name of a file that holds it.
    Secret,
}

/// A setting.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Completes the sentence "must be …".
    pub(super) allowed: &'static str,
}

const fn one(name: &'static str, allowed: &'static str) -> Key {
    Key { name, shape: Shape::One, allowed }
}

const fn list(name: &'static str, allowed: &'static str) -> Key {
    Key { name, shape: Shape::List, allowed }
}

const fn secret(name: &'static str, allowed: &'static str) -> Key {
    Key { name, shape: Shape::Secret, allowed }
}

/// Every setting, in the order in which they are printed.
pub(super) const KEYS: &[Key] = &[
    one("server.listen", "an address and a port, such as 127.0.0.1:8080 or [::]:8080"),
    one("server.metrics_listen", "an address and a port, such as 127.0.0.1:9090"),
    one("server.workers", "a number of threads from 1 to 1024"),
    one("server.tls_certificate", "the name of a PEM file"),
    one("server.tls_key", "the name of a PEM file"),
    list("server.trusted_proxies", "a list of addresses and networks, such as 10.0.0.0/8"),
    one("server.client_address_header", "x-forwarded-for or forwarded"),
    list("server.allowed_origins", "a list of web origins, such as https://app.example"),
    one("session.lifetime", "a time such as 180s, from 1s to 180s"),
    list("session.frame_intervals", "a list of times such as 5s, and static for one frame that never changes"),
    one("limits.sessions", "a number from 1 to 1000000"),
    one("limits.connections", "a number from 1 to 4000000"),
    one("limits.connections_per_address", "a number from 1 to 4000000"),
    one("limits.opens_per_second_per_address", "a number above 0, such as 0.5"),
    one("limits.opens_burst_per_address", "a number from 1 to 1000000"),
    one("limits.opens_per_second", "a number above 0, such as 200"),
    one("limits.opens_burst", "a number from 1 to 1000000"),
    one("limits.handshakes_per_second_per_address", "a number above 0, such as 20"),
    one("limits.handshakes_burst_per_address", "a number from 1 to 1000000"),
    one("network.asn_database", "the name of a file in MaxMind's format"),
    one("network.country_database", "the name of a file in MaxMind's format"),
    one("network.refuse", "nothing, different_country or different"),
    secret("network.tag_key", "32 random bytes in unpadded base64url, 43 characters"),
    one("open.policy", "anyone or jwt"),
    one("open.jwks_file", "the name of a JSON file with a JWK Set"),
    one("open.audience", "a text, the aud of the tokens"),
    one("open.issuer", "a text, the iss of the tokens"),
    one("open.leeway", "a time such as 30s, at most 5m"),
    list("redis.url", "a list of addresses such as redis://host:6379 or rediss://host:6379/0"),
    one("redis.topology", "single, sentinel or cluster"),
    one("redis.sentinel_master", "a text, the master's name"),
    one("redis.username", "a text, an ACL user"),
    secret("redis.password", "a text"),
    one("redis.certificate_authority", "the name of a PEM file"),
    one("redis.prefix", "1 to 64 letters, digits and - _ . :, first a letter"),
    one("redis.timeout", "a time such as 2s, from 100ms to 10s"),
    one("activation.enabled", "true or false"),
    one("activation.data_directory", "the name of a folder"),
    secret("activation.database_url", "an address such as postgres://user:password@host/database"),
    one("activation.database_connections", "a number from 2 to 1000"),
    one("activation.public_url", "an address without a path, such as https://api.example"),
    one("activation.enrolment_jwks_file", "the name of a JSON file with a JWK Set"),
    one("activation.enrolment_audience", "a text, the aud of enrolment tokens"),
    one("activation.enrolment_issuer", "a text, the iss of enrolment tokens"),
    one("activation.lifetime", "a time such as 30m, from 1m to 7days"),
    one("activation.copy_wait", "a time such as 1h, at most 7days"),
    one("activation.most_apps", "a number from 1 to 100"),
    one("activation.webhook_url", "an address that begins with https://"),
    secret("activation.webhook_key", "32 random bytes in unpadded base64url, 43 characters"),
    one("sms.gateway", "outbox, gatewayapi, twilio or http"),
    one("sms.account", "a text, the account's id"),
    secret("sms.token", "a text"),
    one("sms.sender", "a text, a name of up to 11 characters or a number"),
    one("sms.url", "an address that begins with https://"),
    one("sms.body", "a JSON object or a form with {text} and {to}"),
    one("sms.message_id", "a JSON pointer that begins with /"),
    secret("sms.report_key", "a text"),
    one("sms.domain", "a text, a host name in lower case, such as eid.example"),
    one("sms.name", "a text of 1 to 11 letters, digits, spaces and hyphens"),
    list("sms.app_hashes", "a list of hashes of 11 characters, as the SMS Retriever's tools print them"),
    one("sms.most_per_address", "a number from 1 to 4000000000"),
    one("sms.most_in_all", "a number from 1 to 4000000000"),
    one("sms_second.gateway", "gatewayapi, twilio or http"),
    one("sms_second.account", "a text, the account's id"),
    secret("sms_second.token", "a text"),
    one("sms_second.sender", "a text, a name of up to 11 characters or a number"),
    one("sms_second.url", "an address that begins with https://"),
    one("sms_second.body", "a JSON object or a form with {text} and {to}"),
    one("sms_second.message_id", "a JSON pointer that begins with /"),
    secret("sms_second.report_key", "a text"),
    one("drain.grace", "a time such as 5s, at most 180s"),
    one("drain.window", "a time such as 15s, at most 180s"),
    one("log.format", "auto, json or text"),
    one("log.filter", "levels by target, such as info or warn,handoff_relay=debug"),
    one("traces.endpoint", "an address such as http://collector:4318"),
    one("traces.sample", "a number from 0 to 1, such as 0.01"),
    one("traces.trust_traceparent", "true or false"),
];

impl Key {
    pub(super) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("HANDOFF_{}", self.name.replace('.', "__").to_uppercase())
    }

    /// The value for an error message.
    pub(super) fn show(&self, value: &Value) -> String {
        if self.shape == Shape::Secret { "[redacted]".to_owned() } else { show(&value.kind) }
    }
}

/// An address may hold a password, where it does not belong.
fn without_password(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://[redacted]@{host}"),
        _ => text.to_owned(),
    }
}

fn show(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) => format!("{:?}", without_password(text)),
        ValueKind::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| show(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => kind.to_string(),
    }
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The error for a name that is no setting.
pub(super) fn unknown(name: &str, origin: &str) -> ConfigError {
    let section = name.split('.').next().unwrap_or_default();
    let names: Vec<&str> = KEYS.iter().filter(|key| key.section() == section).map(|key| key.name).collect();
    let known = if names.is_empty() {
        let mut sections: Vec<&str> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        format!("the sections are {}", sections.join(", "))
    } else {
        format!("this section has {}", names.join(", "))
    };
    ConfigError::UnknownKey { key: name.to_owned(), origin: origin.to_owned(), known }
}
