//! `handoff outbox`: the SMS that a service under development did not send.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::ask::{DEFAULT_SERVICE, get, unreachable};
use super::exit::{Exit, Failure};
use super::in_runtime;
use super::output::Output;
use crate::activation::https;

/// Between two looks with `--follow`.
const INTERVAL: Duration = Duration::from_millis(300);

/// For one look.
const PATIENCE: Duration = Duration::from_secs(3);

/// Show the SMS of a service that sends none (`sms.gateway = "outbox"`), the newest last
///
/// They hold temporary PINs. The service shows them on its own computer only, and forgets them when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff outbox
  handoff outbox --follow
  handoff outbox http://127.0.0.1:8081 --json")]
pub(super) struct Outbox {
    /// The service, on this computer
    #[arg(default_value = DEFAULT_SERVICE)]
    url: Url,

    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

#[derive(Deserialize)]
struct Page {
    /// The newest first.
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    to: String,
    text: String,
    /// Milliseconds since 1970.
    at: u64,
}

impl Outbox {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        in_runtime(async {
            let client = https::direct(None)
                .and_then(|client| client.timeout(PATIENCE).build().map_err(https::BadClient::Build));
            let client = client.map_err(|problem| unreachable(problem.into()))?;
            let mut shown = HashSet::new();
            let mut looks = tokio::time::interval(INTERVAL);
            loop {
                looks.tick().await;
                let page = self.look(&client).await.map_err(unreachable)?;
                if page.messages.is_empty() && !self.follow {
                    output.say("No SMS yet.", &json!({"event": "empty"}));
                }
                for message in page.messages.iter().rev() {
                    let is_new = shown.insert(message.id.clone());
                    if is_new && !message.show(output) {
                        // Nobody reads any more.
                        return Ok(Exit::Success);
                    }
                }
                if !self.follow {
                    return Ok(Exit::Success);
                }
            }
        })
    }

    async fn look(&self, client: &reqwest::Client) -> anyhow::Result<Page> {
        let answer = get(client, &self.url, "/dev/outbox.json").await?;
        match answer.status.as_u16() {
            200 => serde_json::from_str(&answer.body).with_context(|| format!("{}: this is no outbox", self.url)),
            404 => bail!(
                "{}: no outbox is shown; there is one with sms.gateway = \"outbox\", for whoever asks on the same computer",
                self.url
            ),
            _ => bail!("{}: {}", self.url, answer.refusal()),
        }
    }
}

impl Message {
    /// Whether anybody reads.
    fn show(&self, output: Output) -> bool {
        let at = Duration::from_millis(self.at);
        let age = now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(at);
        let text = self.text.replace('\n', "\n  ");
        let text = format!("{}, {} s ago\n  {text}\n", self.to, age.as_secs());
        output.say_while_read(&text, &json!({"event": "sms", "to": self.to, "text": self.text, "at": self.at}))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn now() -> SystemTime {
    SystemTime::now()
}
