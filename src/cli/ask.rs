//! Questions to a running service over HTTP, as its operators ask them: one, with little patience.

use std::error::Error as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use url::Url;

use super::exit::{Exit, Failure};
use crate::activation::https;

/// Where `handoff serve` listens by default.
pub(super) const DEFAULT_SERVICE: &str = "http://127.0.0.1:8080";

/// When a service that does not answer is given up: before a container engine gives the command up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest answer that is read: metrics have about 40 KiB, a full outbox two megabytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// What a service answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

/// The page of this path.
pub(super) async fn ask(service: &Url, path: &str) -> anyhow::Result<Answer> {
    let client = https::direct(None)?.timeout(PATIENCE).build()?;
    get(&client, service, path).await
}

/// The page of this path, with a client that is there already.
pub(super) async fn get(client: &Client, service: &Url, path: &str) -> anyhow::Result<Answer> {
    answer(client.get(service.join(path)?), service).await
}

/// Sends a request, and reads the whole answer.
pub(super) async fn answer(request: RequestBuilder, service: &Url) -> anyhow::Result<Answer> {
    let failed = |problem: reqwest::Error| anyhow::anyhow!("{service}: {}", reason(&problem));
    let mut answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        if body.len().saturating_add(part.len()) > MOST_BYTES {
            bail!("{service}: the answer is longer than any that a service gives");
        }
        body.extend_from_slice(&part);
    }
    let body = String::from_utf8(body).with_context(|| format!("{service}: the answer is not text"))?;
    Ok(Answer { status, body })
}

/// The cause of a failure that says most; what stands above it names the client's parts.
fn reason(problem: &reqwest::Error) -> String {
    if problem.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause = problem.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| problem.to_string(), ToString::to_string)
}

impl Answer {
    /// What the service says of a refusal: a problem's title and advice (RFC 9457), or only the status.
    pub(super) fn refusal(&self) -> String {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        match (text("title"), text("detail")) {
            (Some(title), Some(detail)) => format!("{title}. {detail}"),
            _ => format!("the answer is {}", self.status),
        }
    }
}

/// A service that does not answer, or not as wanted.
pub(super) fn unreachable(problem: anyhow::Error) -> Failure {
    Failure { exit: Exit::Unreachable, problem }
}
