//! A phone that activates an app: it signs every request, tries again when it is told to, and times every step.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handoff_relay::opaque::client::Registration;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::figures::Times;

/// The requests of an activation, in their order, and between them the time until the SMS is there.
pub(crate) const STEPS: [&str; 8] = [
    "start",
    "SMS asked for",
    "SMS there",
    "temporary PIN",
    "personal PIN, request",
    "personal PIN",
    "biometrics",
    "notifications",
];

/// How often one request is tried: with the pauses that the service asks for, a minute and more.
const MOST_TRIES: u32 = 30;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_slice(&rand::random::<[u8; 32]>()).unwrap()
}

pub(crate) fn jwk(key: &SigningKey) -> Value {
    let point = key.verifying_key().to_sec1_point(false);
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point.as_bytes()[range]);
    json!({"kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..65)})
}

pub(crate) fn jws(header: &Value, claims: &Value, key: &SigningKey) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature: Signature = key.sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// What a phone computes for its personal PIN: the first message, and the record under an answer of this service. It takes
/// a phone tens of milliseconds on purpose, and the service checks no more of a record than its form, so that all phones
/// here use one.
#[derive(Clone, Debug)]
pub(crate) struct PreparedPin {
    request: Vec<u8>,
    upload: Vec<u8>,
}

impl PreparedPin {
    pub(crate) fn new() -> Self {
        use handoff_relay::activation::ids::AppId;
        use handoff_relay::activation::personal_pin::PinServer;
        let (registration, request) = Registration::start(b"471108", &mut rand::rng()).unwrap();
        let app = AppId::from_random(rand::random());
        let response = PinServer::random(&mut rand::rng()).respond(app, &request).unwrap();
        let (_, response) = response.split_first_chunk::<8>().unwrap();
        let upload = registration.finish(app.as_bytes(), response.try_into().unwrap(), &mut rand::rng()).unwrap();
        Self { request: request.to_vec(), upload: upload.to_vec() }
    }
}

#[derive(Debug)]
pub(crate) struct Phone {
    key: SigningKey,
    client: Client,
    address: SocketAddr,
    inbox: mpsc::Receiver<String>,
    pub(crate) times: Times,
    /// Requests that were tried again.
    pub(crate) again: u32,
}

impl Phone {
    pub(crate) fn new(address: SocketAddr, client: &Client, inbox: mpsc::Receiver<String>) -> Self {
        Self { key: key(), client: client.clone(), address, inbox, times: Times::default(), again: 0 }
    }

    /// One request; `None` if the service wants it again later, or there was no answer.
    async fn once(&self, method: &Method, path: &str, body: &Value) -> Result<Value, Duration> {
        let jti: u64 = rand::random();
        let claims = json!({"htm": method.as_str(), "htu": format!("http://{}{path}", self.address), "iat": seconds(),
                            "jti": jti.to_string()});
        let proof = jws(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk(&self.key)}), &claims, &self.key);
        let request = self.client.request(method.clone(), format!("http://{}{path}", self.address));
        let later = Duration::from_secs(1);
        let answer = request.header("DPoP", proof).json(body).send().await.map_err(|_| later)?;
        let status = answer.status();
        let body: Value = serde_json::from_slice(&answer.bytes().await.map_err(|_| later)?).unwrap_or_default();
        match status.as_u16() {
            200 | 201 => Ok(body),
            503 => Err(body["retry_after_ms"].as_u64().map_or(later, Duration::from_millis)),
            _ => panic!("{path}: {status} {body}"),
        }
    }

    /// A step, with all its tries.
    async fn step(&mut self, what: &'static str, method: Method, path: &str, body: Value) -> Value {
        let started = Instant::now();
        for _ in 0..MOST_TRIES {
            match self.once(&method, path, &body).await {
                Ok(answer) => {
                    self.times.note(what, started.elapsed());
                    return answer;
                }
                Err(pause) => {
                    self.again += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
        panic!("{what}: no success in {MOST_TRIES} tries");
    }

    /// From the enrolment token to the active app.
    pub(crate) async fn activate(&mut self, token: String, pin: Arc<PreparedPin>) {
        let start = json!({"enrolment_token": token, "name": "Phone", "model": "Pixel 9"});
        let view = self.step(STEPS[0], Method::POST, "/v1/activations", start).await;
        let id = view["id"].as_str().unwrap().to_owned();
        let path = |step: &str| format!("/v1/activations/{id}/{step}");
        self.step(STEPS[1], Method::POST, &path("temporary-pin-sms"), json!({})).await;
        let asked = Instant::now();
        let patience = tokio::time::timeout(Duration::from_mins(1), self.inbox.recv());
        let sms = patience.await.expect("an SMS within a minute").unwrap();
        self.times.note(STEPS[2], asked.elapsed());
        self.step(STEPS[3], Method::PUT, &path("temporary-pin"), json!({"pin": sms})).await;
        let message = |bytes: &[u8]| json!({"message": URL_SAFE_NO_PAD.encode(bytes)});
        let response = self.step(STEPS[4], Method::POST, &path("personal-pin-request"), message(&pin.request)).await;
        let response = URL_SAFE_NO_PAD.decode(response["message"].as_str().unwrap()).unwrap();
        let upload = [&response[..8], &pin.upload].concat();
        self.step(STEPS[5], Method::PUT, &path("personal-pin"), message(&upload)).await;
        self.step(STEPS[6], Method::PUT, &path("biometrics"), json!({"enabled": true})).await;
        let view = self.step(STEPS[7], Method::PUT, &path("notifications"), json!({"push_token": null})).await;
        assert_eq!(view["due"], "active", "{view}");
    }
}
