//! The file with the backend's public keys: a JWK Set (RFC 7517) with at least one P-256 key.
//!
//! Keys of other types, curves and uses may stand beside it and are passed over, as the RFC asks. A private key in the
//! file is an accident and refused.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use p256::ecdsa::VerifyingKey;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Largest key file in bytes: a thousand keys, where two or three are usual.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key file {} {problem}", path.display())]
pub struct BadJwks {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file system says no.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Not a sane size.
    #[error("is larger than 256 KiB")]
    TooLarge,
    /// Not the JSON of a JWK Set.
    #[error("is not a JWK Set, at line {line}, column {column}")]
    NotJwks {
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// Has no key of our kind.
    #[error("has no P-256 key for ES256 signatures")]
    NoKey,
    /// Has a private key.
    #[error("has a private key in entry {0}: keep it with the backend, and put its public half here")]
    Private(usize),
    /// Has a P-256 key that is none.
    #[error("has in entry {0} a P-256 key that is not a point on the curve in two coordinates of 32 bytes")]
    BadKey(usize),
    /// Has two keys with one name.
    #[error("has two keys with the kid {0:?}")]
    DuplicateKid(String),
    /// Has a key that no token can name.
    #[error("has several keys and one of them, entry {0}, without a kid")]
    KidMissing(usize),
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    d: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl Jwk {
    fn is_for_es256(&self) -> bool {
        self.kty == "EC"
            && self.crv.as_deref() == Some("P-256")
            && self.alg.as_deref().is_none_or(|alg| alg == "ES256")
            && self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"))
    }

    fn decoding_key(&self) -> Option<DecodingKey> {
        let coordinate = |text: &Option<String>| -> Option<[u8; 32]> {
            URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?.try_into().ok()
        };
        // SEC 1 section 2.3.3, uncompressed.
        let point = [&[4][..], &coordinate(&self.x)?, &coordinate(&self.y)?].concat();
        VerifyingKey::from_sec1_bytes(&point).ok()?;
        Some(DecodingKey::from_ec_der(&point))
    }
}

/// The usable keys of a file; at least one.
#[derive(Debug)]
pub struct Keys(Vec<(Option<String>, DecodingKey)>);

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`BadJwks`] with what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, BadJwks> {
        let problem = |problem| BadJwks { path: path.to_owned(), problem };
        let size = fs::metadata(path).map_err(|error| problem(Problem::Unreadable(error)))?.len();
        if size > MAX_FILE_BYTES {
            return Err(problem(Problem::TooLarge));
        }
        let json = fs::read(path).map_err(|error| problem(Problem::Unreadable(error)))?;
        Self::parse(&json).map_err(problem)
    }

    fn parse(json: &[u8]) -> Result<Self, Problem> {
        // The parser's own text could repeat a key.
        let not_jwks = |error: serde_json::Error| Problem::NotJwks { line: error.line(), column: error.column() };
        let set: JwkSet = serde_json::from_slice(json).map_err(not_jwks)?;
        if let Some(entry) = set.keys.iter().position(|jwk| jwk.d.is_some() || jwk.k.is_some()) {
            return Err(Problem::Private(entry));
        }
        let usable = || set.keys.iter().enumerate().filter(|(_, jwk)| jwk.is_for_es256());
        let is_only_one = usable().count() == 1;
        let mut kids = HashSet::new();
        let mut keys = Vec::new();
        for (entry, jwk) in usable() {
            match &jwk.kid {
                None if !is_only_one => return Err(Problem::KidMissing(entry)),
                Some(kid) if !kids.insert(kid) => return Err(Problem::DuplicateKid(kid.clone())),
                Some(_) | None => {}
            }
            keys.push((jwk.kid.clone(), jwk.decoding_key().ok_or(Problem::BadKey(entry))?));
        }
        if keys.is_empty() { Err(Problem::NoKey) } else { Ok(Self(keys)) }
    }

    /// One key that is in no file, and has no name.
    #[must_use]
    pub fn only(key: &VerifyingKey) -> Self {
        Self(vec![(None, DecodingKey::from_ec_der(key.to_sec1_point(false).as_bytes()))])
    }

    /// The key of this name; without a name, the only key that there is.
    #[must_use]
    pub fn select(&self, kid: Option<&str>) -> Option<&DecodingKey> {
        match (kid, self.0.as_slice()) {
            (None, [(_, key)]) => Some(key),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|(name, _)| name.as_deref() == Some(kid)).map(|(_, key)| key),
        }
    }
}
