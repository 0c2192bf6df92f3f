//! The way to the server: requests with a proof of the device key, each attempt with a proof of its own; what may be
//! repeated is, when the network or the server fails. Decides nothing about steps.

use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, Response, redirect};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::problem::{ActivationError, NoAnswer, Refusal};
use super::proof::{PROOF_HEADER, proof};
use super::url::ServerUrl;
use crate::client::backoff;
use crate::client::connection::{TlsSetupError, extra_roots, native_roots, tls_config, tls_of};
use crate::crypto::DeviceKey;

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a request is repeated: with the pauses between, some six seconds of a network that is away.
const MOST_REPEATS: u32 = 6;

/// Longest pause that the server may ask for; a longer one is the person's to wait for.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// Longest answer that makes sense, in bytes.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

/// The server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    client: Client,
    url: ServerUrl,
}

/// Why there is no way to a server.
#[derive(Debug, thiserror::Error)]
pub enum NoServer {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}

/// When a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Whenever there was no answer: the second time changes nothing.
    Always,
    /// Only if it cannot have been heard: the second time would cost a try, or another SMS.
    IfUnheard,
}

/// One request.
pub(super) struct Request {
    method: Method,
    path: String,
    body: Option<Zeroizing<String>>,
    repeat: Repeat,
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, repeat: Repeat::Always }
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: None, repeat: Repeat::Always }
    }

    pub(super) fn with_body(method: Method, path: impl Into<String>, body: Zeroizing<String>) -> Self {
        Self { method, path: path.into(), body: Some(body), repeat: Repeat::Always }
    }

    /// One that must not be heard twice.
    pub(super) fn once(self) -> Self {
        Self { repeat: Repeat::IfUnheard, ..self }
    }
}

impl Server {
    /// The server at this address, if what the operating system trusts vouches for it.
    ///
    /// # Errors
    /// [`NoServer`].
    pub fn new(url: &ServerUrl) -> Result<Self, NoServer> {
        // Without TLS nobody needs to be trusted.
        let tls = if url.is_secure() { tls_config(native_roots())? } else { tls_of(RootCertStore::empty())? };
        Self::build(url, tls)
    }

    /// [`Self::new`], trusting the certificates in a PEM file, too.
    ///
    /// # Errors
    /// [`NoServer`].
    pub fn with_extra_roots(url: &ServerUrl, pem_file: &Path) -> Result<Self, NoServer> {
        Self::build(url, tls_config(extra_roots(pem_file)?)?)
    }

    fn build(url: &ServerUrl, tls: ClientConfig) -> Result<Self, NoServer> {
        let builder = Client::builder()
            .use_preconfigured_tls(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("handoff/", env!("CARGO_PKG_VERSION")));
        // A proxy would be another device.
        let builder = if url.is_loopback() { builder.no_proxy() } else { builder };
        Ok(Self { client: builder.build().map_err(NoServer::Client)?, url: url.clone() })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Asks, and reads the JSON of the answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        key: &DeviceKey,
        request: &Request,
    ) -> Result<T, ActivationError> {
        let body = self.tell(key, request).await?;
        serde_json::from_slice(&body).map_err(|_| ActivationError::NotUnderstood)
    }

    /// Asks, and returns the answer's body.
    pub(super) async fn tell(&self, key: &DeviceKey, request: &Request) -> Result<Zeroizing<Vec<u8>>, ActivationError> {
        let mut failures: u32 = 0;
        loop {
            let error = match self.attempt(key, request).await {
                Ok(body) => return Ok(Zeroizing::new(body)),
                Err(error) => error,
            };
            let Some(pause) = pause(&error, request.repeat, failures) else { return Err(error) };
            failures = failures.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, key: &DeviceKey, request: &Request) -> Result<Vec<u8>, ActivationError> {
        let whole = async {
            let response = self.open(key, request, &[]).await?;
            read(response).await
        };
        tokio::time::timeout(ANSWER_TIMEOUT, whole).await.unwrap_or(Err(ActivationError::NoAnswer(NoAnswer::Timeout)))
    }

    /// Sends a request once, with further headers; the answer is a success whose body was not read yet.
    pub(super) async fn open(
        &self,
        key: &DeviceKey,
        request: &Request,
        headers: &[(&'static str, &str)],
    ) -> Result<Response, ActivationError> {
        let url = self.url.with(&request.path);
        let proof = proof(key, (request.method.as_str(), &url), wall(), rand::random());
        let mut sending = self.client.request(request.method.clone(), &url).header(PROOF_HEADER, proof);
        for (name, value) in headers {
            sending = sending.header(*name, *value);
        }
        if let Some(body) = &request.body {
            sending = sending.header(CONTENT_TYPE, "application/json").body(body.as_bytes().to_vec());
        }
        let response = sending.send().await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let delay = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = read(response).await?;
        Err(Refusal::read(status.as_u16(), delay.map(Duration::from_secs), &body).into())
    }
}

/// The pause before the request is sent again; `None` if it is not.
fn pause(error: &ActivationError, repeat: Repeat, failures: u32) -> Option<Duration> {
    let may_be_heard = *error != ActivationError::NoAnswer(NoAnswer::Connect);
    if !error.is_passing() || (may_be_heard && repeat == Repeat::IfUnheard) {
        return None;
    }
    let asked_for = error.refusal().and_then(|refusal| refusal.retry_after).unwrap_or_default();
    let pause = backoff::delay(failures, &mut rand::rng()).max(asked_for);
    (failures < MOST_REPEATS && pause <= MOST_PAUSE).then_some(pause)
}

/// The whole body; a server that goes on and on is not listened to.
async fn read(mut response: Response) -> Result<Vec<u8>, ActivationError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| no_answer(&error))? {
        if body.len().saturating_add(part.len()) > MOST_ANSWER_BYTES {
            return Err(ActivationError::NotUnderstood);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

pub(super) fn no_answer(error: &reqwest::Error) -> ActivationError {
    ActivationError::NoAnswer(match error {
        error if is_tls(error) => NoAnswer::Tls,
        error if error.is_connect() => NoAnswer::Connect,
        error if error.is_timeout() => NoAnswer::Timeout,
        _ => NoAnswer::Broken,
    })
}

/// Whether TLS is what failed; the HTTP library says so only in its causes.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner)) || error.source().is_some_and(is_tls)
}

/// The time as proofs and grants have it.
#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(retry_after_ms: u64) -> ActivationError {
        let body = format!(r#"{{"code":"registry-unavailable","retry_after_ms":{retry_after_ms}}}"#);
        Refusal::read(503, None, body.as_bytes()).into()
    }

    #[test]
    fn what_may_be_repeated_is_and_what_costs_a_try_only_if_nobody_heard_it() {
        let no = |answer| ActivationError::NoAnswer(answer);
        let wrong = || Refusal::read(403, None, br#"{"code":"wrong-temporary-pin"}"#).into();
        for (error, always, if_unheard) in [
            (no(NoAnswer::Connect), true, true),
            (no(NoAnswer::Tls), false, false),
            (no(NoAnswer::Timeout), true, false),
            (no(NoAnswer::Broken), true, false),
            (passing(100), true, false),
            (Refusal::read(502, None, b"<html>").into(), true, false),
            (Refusal::read(404, None, b"<html>").into(), false, false),
            (wrong(), false, false),
            (ActivationError::NotUnderstood, false, false),
        ] {
            assert_eq!(pause(&error, Repeat::Always, 0).is_some(), always, "{error:?}");
            assert_eq!(pause(&error, Repeat::IfUnheard, 0).is_some(), if_unheard, "{error:?}");
            assert_eq!(pause(&error, Repeat::Always, MOST_REPEATS), None, "{error:?}");
        }
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_asks_unless_a_person_had_to_wait() {
        assert!(pause(&passing(2000), Repeat::Always, 0).unwrap() >= Duration::from_secs(2));
        assert_eq!(pause(&passing(6000), Repeat::Always, 0), None);
    }
}
