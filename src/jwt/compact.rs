//! A signed token in its compact form (RFC 7515 section 3.1), read in two steps: first the header, which names the key,
//! then the claims, once the signature is right. Times and meanings are the reader's business.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use p256::ecdsa::VerifyingKey;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Longest token in bytes: ten times what any of ours needs, and less than servers take in a header.
pub const MOST_BYTES: usize = 6 * 1024;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Not a token, or one with parts that are not understood.
    #[error("the token is malformed")]
    Malformed,
    /// Of another kind.
    #[error("the token is of another type")]
    WrongType,
    /// Not signed with ES256.
    #[error("the token's algorithm is not ES256")]
    WrongAlgorithm,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// A private key is in the header: it is nobody's secret any more.
    #[error("the token's header has a private key")]
    PrivateKey,
}

/// A P-256 public key in a header.
#[derive(Clone, Debug, Deserialize)]
pub struct Jwk {
    kty: String,
    crv: String,
    /// The first coordinate in base64url.
    pub x: String,
    /// The second.
    pub y: String,
    d: Option<IgnoredAny>,
}

/// A token whose signature was not looked at yet.
#[derive(Clone, Debug)]
pub struct Unverified<'a> {
    text: &'a str,
    /// What the header calls the key.
    pub kid: Option<String>,
    /// The key that the header brings along.
    pub jwk: Option<Jwk>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    jwk: Option<Jwk>,
    crit: Option<IgnoredAny>,
}

impl<'a> Unverified<'a> {
    /// Reads the header of a token that must be of this type (`typ`), if one is asked for.
    ///
    /// # Errors
    /// [`BadToken`] with the first thing that is wrong.
    pub fn read(text: &'a str, typ: Option<&str>) -> Result<Self, BadToken> {
        let (header, _) = text.split_once('.').filter(|_| text.len() <= MOST_BYTES).ok_or(BadToken::Malformed)?;
        let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| BadToken::Malformed)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| BadToken::Malformed)?;
        if header.alg != "ES256" {
            return Err(BadToken::WrongAlgorithm);
        }
        // RFC 7515 section 4.1.11: extensions that are not understood must be refused. None is.
        if header.crit.is_some() {
            return Err(BadToken::Malformed);
        }
        // RFC 7515 section 4.1.9: media types are the same in upper and lower case.
        if typ.is_some_and(|typ| !header.typ.is_some_and(|own| own.eq_ignore_ascii_case(typ))) {
            return Err(BadToken::WrongType);
        }
        if let Some(jwk) = &header.jwk {
            if jwk.d.is_some() {
                return Err(BadToken::PrivateKey);
            }
            if jwk.kty != "EC" || jwk.crv != "P-256" {
                return Err(BadToken::WrongAlgorithm);
            }
        }
        Ok(Self { text, kid: header.kid, jwk: header.jwk })
    }

    /// The claims, if this key signed them.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn claims<T: DeserializeOwned>(&self, key: &VerifyingKey) -> Result<T, BadToken> {
        self.claims_by(&DecodingKey::from_ec_der(key.to_sec1_point(false).as_bytes()))
    }

    /// The claims, if this key of a key file signed them.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn claims_by<T: DeserializeOwned>(&self, key: &DecodingKey) -> Result<T, BadToken> {
        super::install();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        #[expect(clippy::wildcard_enum_match_arm, reason = "all the rest is one thing to us")]
        let refused = |error: jsonwebtoken::errors::Error| match error.kind() {
            ErrorKind::InvalidSignature => BadToken::BadSignature,
            _ => BadToken::Malformed,
        };
        decode::<T>(self.text, key, &validation).map(|token| token.claims).map_err(refused)
    }
}
