//! Activation over HTTP, against the real binary: both ways, what is refused, and a process that is killed again and
//! again. The registry is a file, or a real PostgreSQL.

mod abuse;
mod clocks;
mod commands;
mod database;
mod gateways;
mod killed;
mod logs;
mod phones;
#[path = "../support/postgres.rs"]
mod postgres;
mod renewal;
mod story;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use handoff_relay::activation::https;
use handoff_relay::client::activation::{PROOF_HEADER, proof, thumbprint};
use handoff_relay::client::personal_pin::{PersonalPin, PinRegistration};
use handoff_relay::crypto::DeviceKey;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::relay::Relay;

/// A service's folder, and the proofing system's key.
pub(crate) struct Place {
    folder: TempDir,
    proofing: DeviceKey,
    database: Option<String>,
    numbers: AtomicU32,
}

fn key() -> DeviceKey {
    DeviceKey::generate(&mut rand::rng())
}

fn jwk(key: &DeviceKey) -> Value {
    let public = key.public();
    let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&public[range]);
    json!({"kty": "EC", "crv": "P-256", "x": coordinate(1..33), "y": coordinate(33..65)})
}

fn jws(header: &Value, claims: &Value, key: &DeviceKey) -> String {
    key.jws(&header.to_string(), &claims.to_string())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl Place {
    pub(crate) fn new(database: Option<String>) -> Self {
        let (folder, proofing) = (TempDir::new().unwrap(), key());
        std::fs::write(folder.path().join("jwks.json"), json!({"keys": [jwk(&proofing)]}).to_string()).unwrap();
        Self { folder, proofing, database, numbers: AtomicU32::new(0) }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the service, on a free port or this one.
    pub(crate) fn start(&self, port: u16) -> Relay {
        self.start_with(port, &[])
    }

    /// [`Self::start`] with further settings.
    fn start_with(&self, port: u16, more: &[String]) -> Relay {
        let mut settings = vec![
            "activation.enabled=true".to_owned(),
            format!("server.listen=127.0.0.1:{port}"),
            format!("activation.data_directory={}", self.data().display()),
            format!("activation.enrolment_jwks_file={}", self.folder.path().join("jwks.json").display()),
            "sms.most_per_address=100000".to_owned(),
            "sms.most_in_all=100000".to_owned(),
        ];
        settings.extend(self.database.iter().map(|url| format!("activation.database_url={url}")));
        settings.extend_from_slice(more);
        Relay::start(&settings.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the administration shows.
    fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin.token")).unwrap().trim().to_owned()
    }

    /// A user ID and a phone number that nobody has.
    fn person(&self) -> (String, String) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        (format!("person{number:05}"), format!("+4520{number:06}"))
    }

    fn token(&self, user: &str) -> String {
        self.token_for(user, None)
    }

    /// [`Self::token`] for the device with this thumbprint.
    fn token_for(&self, user: &str, device: Option<&str>) -> String {
        let jti: u64 = rand::random();
        let cnf = device.map(|jkt| json!({"jkt": jkt}));
        let claims = json!({"sub": user, "aud": "handoff-activation", "exp": seconds() + 600, "jti": jti.to_string(),
                            "cnf": cnf});
        jws(&json!({"alg": "ES256"}), &claims, &self.proofing)
    }

    /// Where the database is, for whoever looks into it directly.
    fn database_url(&self) -> String {
        let file = || format!("sqlite://{}", self.data().join("registry.sqlite").display());
        self.database.clone().unwrap_or_else(file)
    }
}

/// The personal PIN of every phone.
const CHOSEN: &str = "493827";

/// A phone with a key, and the service that it talks to.
pub(crate) struct Phone {
    key: DeviceKey,
    client: Client,
    address: SocketAddr,
}

impl Phone {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { key: key(), client: https::client(None).unwrap(), address }
    }

    fn thumbprint(&self) -> String {
        thumbprint(&self.key.public())
    }

    fn proof(&self, method: &str, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        proof(&self.key, (method, &url), SystemTime::now(), rand::random())
    }

    /// A request with a new proof; `Err` if there was no answer.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let proof = self.proof(method.as_str(), path);
        self.ask_with(&proof, method, path, body).await
    }

    async fn ask_with(
        &self,
        proof: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let request = self.client.request(method, format!("http://{}{path}", self.address)).header(PROOF_HEADER, proof);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn administer(&self, token: &str, path: &str, body: Value) -> Result<(StatusCode, Value), reqwest::Error> {
        let method = if path.ends_with("erase") { Method::POST } else { Method::PUT };
        let request = self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(token);
        let response = request.json(&body).send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// The PINs of all SMS to this number, the newest first.
    async fn pins(&self, number: &str) -> Result<Vec<String>, reqwest::Error> {
        let url = format!("http://{}/dev/outbox.json", self.address);
        let outbox: Value = self.client.get(url).send().await?.json().await?;
        let mine = outbox["messages"].as_array().unwrap().iter().filter(|message| message["to"] == number);
        let code = |message: &Value| message["text"].as_str().unwrap().rsplit_once('#').unwrap().1[..8].to_owned();
        Ok(mine.map(code).collect())
    }

    /// Asks for an SMS, and waits until it is there: it goes out after the answer.
    async fn sms(&self, path: &str, number: &str) -> Result<(StatusCode, Value), reqwest::Error> {
        let already = self.pins(number).await?.len();
        let answer = self.ask(Method::POST, path, Some(json!({}))).await?;
        // A process that was killed meanwhile has forgotten them all.
        let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while answer.0 == 200 && self.pins(number).await?.len() <= already && tokio::time::Instant::now() < patience {
            // Another process's outbox cannot be awaited.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(answer)
    }

    /// Takes the step that is due; the answer is the activation or a problem.
    async fn step(&self, view: &Value, user: &str, number: &str) -> Result<(StatusCode, Value), reqwest::Error> {
        let path = |step: &str| format!("/v1/activations/{}/{step}", view["id"].as_str().unwrap());
        let put = async |step: &str, body: Value| self.ask(Method::PUT, &path(step), Some(body)).await;
        match view["due"].as_str().unwrap() {
            "user_id" => put("user-id", json!({"user_id": user})).await,
            "temporary_pin" => match (view["has_pin"].as_bool().unwrap(), self.pins(number).await?.first()) {
                (true, Some(pin)) => put("temporary-pin", json!({"pin": pin})).await,
                _ => self.sms(&path("temporary-pin-sms"), number).await,
            },
            "personal_pin" => self.personal_pin(view, &path("personal-pin-request"), &path("personal-pin")).await,
            "biometrics" => put("biometrics", json!({"enabled": true})).await,
            "notifications" => put("notifications", json!({"push_token": null})).await,
            other => panic!("nothing can be done in {other}"),
        }
    }

    async fn personal_pin(
        &self,
        view: &Value,
        first: &str,
        second: &str,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        let app = uuid::Uuid::parse_str(view["app"].as_str().unwrap()).unwrap();
        let pin = PersonalPin::choose(CHOSEN, CHOSEN, &[]).unwrap();
        let (registration, request) = PinRegistration::start(&pin, *app.as_bytes(), &mut rand::rng()).unwrap();
        let message = |bytes: &[u8]| Some(json!({"message": URL_SAFE_NO_PAD.encode(bytes)}));
        let (status, answer) = self.ask(Method::POST, first, message(&request)).await?;
        if status != 200 {
            return Ok((status, answer));
        }
        let response = URL_SAFE_NO_PAD.decode(answer["message"].as_str().unwrap()).unwrap();
        let upload = registration.finish(&response, &mut rand::rng()).unwrap();
        self.ask(Method::PUT, second, message(&upload)).await
    }
}
