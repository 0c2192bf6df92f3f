//! The text of the SMS with a temporary PIN, so that a phone offers to fill the PIN in.
//!
//! One body serves people, iOS and browsers (origin-bound one-time codes: the last line begins `@domain #code`), and
//! Android's SMS Retriever (begins `<#>`, holds the app's hash, at most 140 bytes):
//!
//! ```text
//! <#> 1234 5678 is your code to activate e-ID. Never share it.
//!
//! @eid.example #12345678 FA+9qCX9VSu
//! ```
//!
//! Every character is in the alphabet of GSM 03.38, so one SMS is enough. There is never a link, and never a text that
//! somebody else chose: not the new phone's name either, or anyone could make the service send their words. Which app
//! on an Android phone gets the PIN is decided by the hash, so only the configured ones are used: otherwise another
//! app on the person's phone could ask for an SMS and read it.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::activation::temporary_pin::{Purpose, TemporaryPin};

/// Longest body: what the SMS Retriever reads, counted in UTF-8 and in GSM 03.38, where no character is longer.
pub const MOST_BYTES: usize = 140;

/// The longest name of the app in a text: as long as the name of a sender may be.
const MOST_NAME: usize = 11;

/// GSM 03.38, the characters of one septet, without escape, line feed and carriage return.
const GSM_BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
                         abcdefghijklmnopqrstuvwxyzäöñüà";

/// The languages of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Danish.
    #[default]
    Danish,
    /// English.
    English,
}

impl Language {
    const ALL: [Self; 2] = [Self::Danish, Self::English];

    /// The best match for an `Accept-Language` header or a locale such as `en-GB`: the first language of the list that
    /// there is, else Danish.
    #[must_use]
    pub fn from_locale(list: &str) -> Self {
        let known = |tag: &str| match tag.trim().split(['-', '_', ';']).next().map(str::to_ascii_lowercase).as_deref() {
            Some("da") => Some(Self::Danish),
            Some("en") => Some(Self::English),
            Some(_) | None => None,
        };
        list.split(',').find_map(known).unwrap_or_default()
    }

    fn sentence(self, name: &str, purpose: Purpose) -> String {
        match (self, purpose) {
            (Self::Danish, Purpose::ThisPhone) => {
                format!("er din kode til at aktivere {name}. Del den aldrig.")
            }
            (Self::Danish, Purpose::OtherPhone) => {
                format!("er din kode til at kopiere {name} til en anden telefon. Del den aldrig.")
            }
            (Self::Danish, Purpose::NewPin) => {
                format!("er din kode til at vælge en ny PIN til {name}. Del den aldrig.")
            }
            (Self::English, Purpose::NewPin) => {
                format!("is your code to choose a new PIN for {name}. Never share it.")
            }
            (Self::English, Purpose::ThisPhone) => {
                format!("is your code to activate {name}. Never share it.")
            }
            (Self::English, Purpose::OtherPhone) => {
                format!("is your code to copy {name} to another phone. Never share it.")
            }
        }
    }
}

/// Eleven characters that name an Android app and its signing key: the beginning of a base64 text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHash(String);

impl AppHash {
    const LEN: usize = 11;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppHash {
    type Err = BadAppHash;

    fn from_str(text: &str) -> Result<Self, BadAppHash> {
        let is_hash = text.len() == Self::LEN
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/');
        is_hash.then(|| Self(text.to_owned())).ok_or(BadAppHash)
    }
}

/// The text is no hash of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app hash must be 11 letters, digits, + and /, as the SMS Retriever's tools print it")]
pub struct BadAppHash;

/// Settings: what the texts say. Checked once, at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmsTexts {
    domain: String,
    name: String,
    app_hashes: Vec<AppHash>,
}

/// Why these settings make no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSmsTexts {
    /// Not a host name.
    #[error("the domain of the SMS must be a host name in lower case, such as eid.example, without a port")]
    Domain,
    /// Cannot stand in an SMS, or looks like a link.
    #[error("the name in the SMS must be 1 to 11 letters, digits, spaces and hyphens of the GSM alphabet")]
    Name,
    /// Together longer than an SMS.
    #[error("with this domain and name the SMS has {0} bytes; 140 are allowed")]
    TooLong(usize),
}

impl SmsTexts {
    /// `domain`: where the PIN may be filled in, the host of the app's associated domain. `name`: what the app is
    /// called. `app_hashes`: the Android builds that may read the SMS.
    ///
    /// # Errors
    /// [`BadSmsTexts`] if any text that could be needed is not one valid SMS.
    pub fn new(domain: &str, name: &str, app_hashes: Vec<AppHash>) -> Result<Self, BadSmsTexts> {
        if !is_host(domain) {
            return Err(BadSmsTexts::Domain);
        }
        // No full stop, slash or colon: a phone would make a link of "e-id.dk".
        let is_plain = |c: char| (c.is_alphanumeric() || c == ' ' || c == '-') && GSM_BASIC.contains(c);
        if name.trim() != name || !(1..=MOST_NAME).contains(&name.chars().count()) || !name.chars().all(is_plain) {
            return Err(BadSmsTexts::Name);
        }
        let texts = Self { domain: domain.to_owned(), name: name.to_owned(), app_hashes };
        match texts.longest() {
            0..=MOST_BYTES => Ok(texts),
            too_long => Err(BadSmsTexts::TooLong(too_long)),
        }
    }

    /// The text that brings this PIN.
    ///
    /// # Errors
    /// [`UnknownAppHash`] if the requesting app's hash is none of the configured ones.
    pub fn compose(
        &self,
        pin: &TemporaryPin,
        purpose: Purpose,
        language: Language,
        app_hash: Option<&AppHash>,
    ) -> Result<SmsText, UnknownAppHash> {
        match app_hash {
            Some(hash) if !self.app_hashes.contains(hash) => Err(UnknownAppHash),
            Some(_) | None => Ok(self.body(pin, purpose, language, app_hash)),
        }
    }

    fn body(&self, pin: &TemporaryPin, purpose: Purpose, language: Language, app_hash: Option<&AppHash>) -> SmsText {
        let mark = if app_hash.is_some() { "<#> " } else { "" };
        let (end, hash) = app_hash.map_or(("", ""), |hash| (" ", hash.as_str()));
        let sentence = language.sentence(&self.name, purpose);
        let (shown, domain, code) = (pin.grouped(), &self.domain, pin.expose());
        let body = format!("{mark}{} {sentence}\n\n@{domain} #{code}{end}{hash}", shown.as_str());
        SmsText(Zeroizing::new(body))
    }

    fn longest(&self) -> usize {
        let (Ok(pin), Ok(hash)) = ("00000000".parse(), "00000000000".parse()) else { return usize::MAX };
        let purposes = [Purpose::ThisPhone, Purpose::OtherPhone, Purpose::NewPin];
        let kinds = Language::ALL.into_iter().flat_map(|language| purposes.map(|purpose| (language, purpose)));
        let lengths = kinds.map(|(language, purpose)| self.body(&pin, purpose, language, Some(&hash)).0.len());
        lengths.max().unwrap_or(usize::MAX)
    }
}

/// The app that asked is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the app hash is not configured; ask without one, or add it to the settings")]
pub struct UnknownAppHash;

/// A body, with the PIN in it; zeroized when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SmsText(Zeroizing<String>);

impl SmsText {
    /// The body, for the gateway and nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SmsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmsText([redacted])")
    }
}

/// A DNS name in lower case, also of one label (`localhost`); no address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= 253 && !is_address && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
