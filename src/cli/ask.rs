//! One question to a relay over plain HTTP: enough for health, version and metrics, and for nothing else.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

/// When a relay that does not answer is given up: before a container engine gives the command up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest answer that is read; metrics have about 40 KiB.
const MOST_BYTES: u64 = 1024 * 1024;

/// What a relay answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// The relay's page of this path.
pub(super) async fn ask(relay: &Url, path: &str) -> anyhow::Result<Answer> {
    let answer = tokio::time::timeout(PATIENCE, exchange(relay, path)).await;
    answer.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs())).with_context(|| format!("{relay}"))
}

async fn exchange(relay: &Url, path: &str) -> anyhow::Result<Answer> {
    ensure!(
        relay.scheme() == "http",
        "must begin with http://: where TLS is, give the address of server.metrics_listen"
    );
    let (Some(host), Some(port)) = (relay.host_str(), relay.port_or_known_default()) else { bail!("names no host") };
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    // HTTP/1.0: the answer comes in one piece, and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes)).context("what answers does not speak HTTP")
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.lines().next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let text = "HTTP/1.0 503 Service Unavailable\r\nretry-after: 2\r\n\r\nnot ready\r\n\r\n";
        assert_eq!(parse(text), Some(Answer { status: 503, body: "not ready\r\n\r\n".to_owned() }));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 two hundred\r\n\r\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
