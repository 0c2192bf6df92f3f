//! The personal PIN on the server's side: registered and checked with OPAQUE, so that the server never sees it.
//!
//! Not the storage and not the counting of tries: a [`PinRecord`] and [`lock::Tries`] are kept with the app. What is
//! between two steps of a login is sealed and given to the caller to keep, so that any node can take the next one.
//!
//! # What travels
//!
//! The messages of [`crate::opaque`], with the name of the server's setup (8 bytes) in front of the registration
//! response, and again in front of the upload. So nothing has to be remembered between those two, and a setup can be
//! exchanged at any time.
//!
//! # The setup and its rotation
//!
//! [`PinServer`] holds one or several setups, from a file with one line each; the first is for new registrations, the
//! others are for records made under them. It is a secret like a private key: back it up (without it every app must be
//! activated again) and let nobody read it (with it *and* the database, every PIN is found in hours). To rotate:
//!
//! 1. Put a new line, from [`PinServer::generate_line`], in front of the others, on all nodes, and restart them.
//! 2. After every login with an older setup, [`LoggedIn::must_renew`] tells the app to register its PIN again, which it
//!    can do at once because the person has just typed it.
//! 3. After as many months as an app may stay unused, remove the old line. Apps with a record under it get
//!    [`PinError::SetupGone`] and must be activated again.

pub mod lock;
mod seal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::activation::ids::AppId;
use crate::opaque::server::{self, SETUP, Setup};
use crate::opaque::{KE1, KE2, KE3, REGISTRATION_REQUEST, REGISTRATION_RESPONSE, REGISTRATION_UPLOAD, SessionKey};
use seal::SealKey;

/// Time between KE2 and KE3: Argon2id on a slow phone, and a bad network. The person has typed the PIN before.
pub const LOGIN_LIFETIME: Duration = Duration::from_secs(30);

/// Bytes of a registration response with the setup's name.
pub const NAMED_RESPONSE: usize = SetupName::LEN + REGISTRATION_RESPONSE;

/// Bytes of a registration upload with the setup's name, and of a record.
pub const NAMED_UPLOAD: usize = SetupName::LEN + REGISTRATION_UPLOAD;

/// What a line of the file begins with.
const LINE_PREFIX: &str = "handoff-pin-setup-1:";

/// The name of a setup: the first bytes of the SHA-256 of its public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SetupName([u8; Self::LEN]);

impl SetupName {
    const LEN: usize = 8;

    fn of(setup: &Setup) -> Self {
        let digest: [u8; 32] = Sha256::digest(setup.public_key()).into();
        let mut name = [0; Self::LEN];
        name.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(name)
    }
}

/// What is kept of a registered PIN: 137 bytes. Without the server's setup nothing can be tested on it.
#[derive(Clone, PartialEq, Eq)]
pub struct PinRecord([u8; NAMED_UPLOAD]);

impl PinRecord {
    /// A record as it was stored.
    ///
    /// # Errors
    /// [`PinError::Malformed`] if the length is another one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PinError> {
        bytes.try_into().map(Self).map_err(|_| PinError::Malformed)
    }

    /// What is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn parts(&self) -> Result<(SetupName, [u8; REGISTRATION_UPLOAD]), PinError> {
        let (name, upload) = self.0.split_first_chunk().ok_or(PinError::Malformed)?;
        Ok((SetupName(*name), upload.try_into().map_err(|_| PinError::Malformed)?))
    }
}

impl fmt::Debug for PinRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinRecord([redacted])")
    }
}

/// Why a step did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Not a message of this step.
    #[error("the PIN message is malformed")]
    Malformed,
    /// The PIN was registered under a setup that was removed.
    #[error("the PIN was registered under a setup that is gone; the app must be activated again")]
    SetupGone,
    /// Wrong proof, or one for another login or app, or too late.
    #[error("the PIN was not proven")]
    NotProven,
}

impl From<crate::opaque::OpaqueError> for PinError {
    fn from(error: crate::opaque::OpaqueError) -> Self {
        match error {
            crate::opaque::OpaqueError::Malformed => Self::Malformed,
            crate::opaque::OpaqueError::Wrong => Self::NotProven,
        }
    }
}

/// The file cannot be used. Names the line, never what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetups {
    /// There is no line.
    #[error("the file of PIN setups has no setup")]
    Empty,
    /// A line is not a setup.
    #[error("line {0} of the file of PIN setups is no setup")]
    Line(usize),
    /// A line says the same as one before.
    #[error("line {0} of the file of PIN setups is there twice")]
    Twice(usize),
}

/// A login after its first step.
pub struct BegunLogin {
    /// KE2, for the app.
    pub ke2: [u8; KE2],
    /// What [`PinServer::finish_login`] needs. To be kept with the app until then, and used once: a second KE2 replaces
    /// it.
    pub sealed: Vec<u8>,
}

/// The PIN was proven.
pub struct LoggedIn {
    /// What only the app knows besides.
    pub session_key: SessionKey,
    /// Whether the app should register its PIN again, because the setup of its record is being replaced.
    pub must_renew: bool,
}

struct Named {
    name: SetupName,
    setup: Setup,
    seal: SealKey,
}

impl Named {
    fn new(setup: Setup) -> Self {
        Self { name: SetupName::of(&setup), seal: SealKey::of(&setup.to_bytes()), setup }
    }
}

/// The server's side of all personal PINs.
pub struct PinServer {
    /// For new registrations.
    current: Named,
    older: Vec<Named>,
}

impl PinServer {
    /// From the text of the file: one setup a line, the current one first; empty lines and lines with `#` do not count.
    ///
    /// # Errors
    /// [`BadSetups`] names the first line that is wrong.
    pub fn from_file(text: &str) -> Result<Self, BadSetups> {
        let mut setups: Vec<Named> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let (number, line) = (at.saturating_add(1), line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let named = Named::new(parse(line).ok_or(BadSetups::Line(number))?);
            if setups.iter().any(|known| known.name == named.name) {
                return Err(BadSetups::Twice(number));
            }
            setups.push(named);
        }
        let mut setups = setups.into_iter();
        let current = setups.next().ok_or(BadSetups::Empty)?;
        Ok(Self { current, older: setups.collect() })
    }

    /// A new setup that is lost with the process; for development and tests.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self { current: Named::new(Setup::random(rng)), older: Vec::new() }
    }

    /// A new line for the file, without its end.
    #[must_use]
    pub fn generate_line(rng: &mut impl CryptoRng) -> Zeroizing<String> {
        let setup = Setup::random(rng).to_bytes();
        Zeroizing::new(format!("{LINE_PREFIX}{}", Zeroizing::new(URL_SAFE_NO_PAD.encode(&setup)).as_str()))
    }

    /// Answers a registration request of this app; nothing has to be kept.
    ///
    /// # Errors
    /// [`PinError::Malformed`] if it is none.
    pub fn respond(&self, app: AppId, request: &[u8]) -> Result<Vec<u8>, PinError> {
        let request: &[u8; REGISTRATION_REQUEST] = request.try_into().map_err(|_| PinError::Malformed)?;
        let response = self.current.setup.respond(app.as_bytes(), request)?;
        Ok([&self.current.name.0[..], &response].concat())
    }

    /// Takes a registration upload; the record is to be stored with the app.
    ///
    /// # Errors
    /// [`PinError::Malformed`] if it is none; [`PinError::SetupGone`] if the setup was removed since the request.
    pub fn record(&self, upload: &[u8]) -> Result<PinRecord, PinError> {
        let record = PinRecord::from_bytes(upload)?;
        let (name, upload) = record.parts()?;
        self.find(name).ok_or(PinError::SetupGone)?;
        server::check_upload(&upload)?;
        Ok(record)
    }

    /// Answers KE1. The try is counted before: [`lock::Tries::begin`].
    ///
    /// Without a record (no such app) the answer looks the same and takes as long.
    ///
    /// # Errors
    /// [`PinError::Malformed`] if it is no KE1; [`PinError::SetupGone`] if the record's setup was removed.
    pub fn begin_login(
        &self,
        app: AppId,
        record: Option<&PinRecord>,
        ke1: &[u8],
        now: SystemTime,
        rng: &mut impl CryptoRng,
    ) -> Result<BegunLogin, PinError> {
        let ke1: &[u8; KE1] = ke1.try_into().map_err(|_| PinError::Malformed)?;
        let parts = record.map(PinRecord::parts).transpose()?;
        let named = match &parts {
            Some((name, _)) => self.find(*name).ok_or(PinError::SetupGone)?,
            None => &self.current,
        };
        let upload = parts.as_ref().map(|(_, upload)| upload);
        let (ke2, state) = named.setup.begin_login(app.as_bytes(), upload, ke1, rng)?;
        let until = now.checked_add(LOGIN_LIFETIME).unwrap_or(now);
        let sealed = named.seal.seal(named.name, app, until, &state, rng)?;
        Ok(BegunLogin { ke2, sealed })
    }

    /// Takes KE3. The caller has taken `sealed` out of its storage before, so that it serves once.
    ///
    /// # Errors
    /// [`PinError::NotProven`] if the PIN was wrong, the login is another app's, or it took too long.
    pub fn finish_login(&self, app: AppId, sealed: &[u8], ke3: &[u8], now: SystemTime) -> Result<LoggedIn, PinError> {
        let ke3: &[u8; KE3] = ke3.try_into().map_err(|_| PinError::Malformed)?;
        let name = SetupName(*sealed.first_chunk().ok_or(PinError::NotProven)?);
        let named = self.find(name).ok_or(PinError::SetupGone)?;
        let state = named.seal.open(app, sealed, now)?;
        let session_key = server::finish_login(app.as_bytes(), &state, ke3)?;
        Ok(LoggedIn { session_key, must_renew: name != self.current.name })
    }

    fn find(&self, name: SetupName) -> Option<&Named> {
        std::iter::once(&self.current).chain(&self.older).find(|named| named.name == name)
    }
}

fn parse(line: &str) -> Option<Setup> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(line.strip_prefix(LINE_PREFIX)?).ok()?);
    let bytes: &[u8; SETUP] = bytes.as_slice().try_into().ok()?;
    Setup::from_bytes(bytes).ok()
}

impl fmt::Debug for PinServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.older.iter().map(|named| named.name).collect();
        f.debug_struct("PinServer").field("current", &self.current.name).field("older", &names).finish()
    }
}

impl fmt::Debug for BegunLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BegunLogin").finish_non_exhaustive()
    }
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn").field("must_renew", &self.must_renew).finish_non_exhaustive()
    }
}
