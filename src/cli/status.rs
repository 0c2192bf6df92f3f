//! `handoff healthcheck` and `handoff status`: what a running relay says about itself.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use url::Url;

use super::ask::{DEFAULT_SERVICE, ask, unreachable};
use super::exit::{Exit, Failure};
use super::in_runtime;
use super::output::Output;
use crate::telemetry;

/// Ask a relay whether it lives, or takes connections
///
/// For containers without a shell. Ends with 0 if it does, and with 69 if it does not or if nothing answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff healthcheck
  handoff healthcheck --live
  handoff healthcheck http://127.0.0.1:9090")]
pub(super) struct HealthCheck {
    /// The relay, or its `server.metrics_listen`
    #[arg(default_value = DEFAULT_SERVICE)]
    url: Url,

    /// Ask whether it lives (/healthz) and not whether it takes connections (/readyz)
    #[arg(long)]
    live: bool,
}

impl HealthCheck {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        let (path, word) = if self.live { ("/healthz", "alive") } else { ("/readyz", "ready") };
        in_runtime(async {
            let answer = ask(&self.url, path).await.map_err(unreachable)?;
            if answer.status != 200 {
                let problem = anyhow::anyhow!("{}: not {word}, {path} answers {}", self.url, answer.status);
                return Err(unreachable(problem));
            }
            output.say(word, &json!({"event": word}));
            Ok(Exit::Success)
        })
    }
}

/// Show what a relay holds, what it has room for and how its handoffs ended
///
/// Asks for the pages of `server.metrics_listen`, or of the relay itself if that is not set.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff status
  handoff status http://127.0.0.1:9090
  handoff status http://10.1.2.3:9090 --json")]
pub(super) struct Status {
    /// The relay, or its `server.metrics_listen`
    #[arg(default_value = DEFAULT_SERVICE)]
    url: Url,
}

impl Status {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        in_runtime(async {
            let report = self.ask().await.map_err(unreachable)?;
            output.say(&for_people(&report), &report);
            Ok(Exit::Success)
        })
    }

    async fn ask(&self) -> anyhow::Result<Value> {
        let [version, metrics] = [self.page("/version").await?, self.page("/metrics").await?];
        let version: Value = serde_json::from_str(&version).context("/version is not what a relay says")?;
        let sum = |metric: &str| sum(&metrics, metric, "");
        let ended = |reason: &str| self::sum(&metrics, telemetry::SESSIONS_ENDED, &format!("reason=\"{reason}\""));
        let session = |state: &str| self::sum(&metrics, telemetry::SESSIONS, &format!("state=\"{state}\""));
        let all_ended = sum(telemetry::SESSIONS_ENDED);
        Ok(json!({
            "event": "status",
            "version": version.get("version"),
            "ready": sum(telemetry::READY) > 0.0,
            "draining": sum(telemetry::DRAINING) > 0.0,
            "sessions": {
                "waiting": session("waiting"),
                "joined": session("joined"),
                "limit": sum(telemetry::SESSIONS_LIMIT),
            },
            "connections": {"open": sum(telemetry::CONNECTIONS), "limit": sum(telemetry::CONNECTIONS_LIMIT)},
            "since_start": {
                "opened": sum(telemetry::SESSIONS_OPENED),
                "joined": sum(telemetry::SESSIONS_JOINED),
                "completed": ended("completed"),
                "expired": ended("expired"),
                "ended_otherwise": all_ended - ended("completed") - ended("expired"),
                "handshakes_refused": sum(telemetry::HANDSHAKES_REFUSED),
            },
            "redis_answers": sum(telemetry::REDIS_UP) > 0.0,
        }))
    }

    async fn page(&self, path: &str) -> anyhow::Result<String> {
        let answer = ask(&self.url, path).await?;
        match answer.status.as_u16() {
            200 => Ok(answer.body),
            404 => bail!("{}: {path} is not served here; give the address of server.metrics_listen", self.url),
            status => bail!("{}: {path} answers {status}", self.url),
        }
    }
}

/// The sum of a metric's series that have `label`.
fn sum(metrics: &str, metric: &str, label: &str) -> f64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(metric));
    let series = series.filter(|rest| rest.starts_with([' ', '{']) && rest.contains(label));
    series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn for_people(report: &Value) -> String {
    let at = |pointer: &str| report.pointer(pointer).map(ToString::to_string).unwrap_or_default();
    let number = |pointer: &str| at(pointer).trim_end_matches(".0").to_owned();
    let is = |pointer: &str| report.pointer(pointer) == Some(&Value::Bool(true));
    let state = match (is("/ready"), is("/draining")) {
        (_, true) => "leaves: takes no connections, sends its sessions elsewhere",
        (true, false) => "takes connections",
        (false, false) => "takes no connections: its Redis does not answer",
    };
    format!(
        "version      {}\nstate        {state}\nsessions     {} waiting, {} joined, of {}\nconnections  {} of {}\n\
         since start  {} opened, {} joined, {} completed, {} expired, {} ended otherwise, {} handshakes refused\n\
         Redis        {}",
        at("/version").trim_matches('"'),
        number("/sessions/waiting"),
        number("/sessions/joined"),
        number("/sessions/limit"),
        number("/connections/open"),
        number("/connections/limit"),
        number("/since_start/opened"),
        number("/since_start/joined"),
        number("/since_start/completed"),
        number("/since_start/expired"),
        number("/since_start/ended_otherwise"),
        number("/since_start/handshakes_refused"),
        if is("/redis_answers") { "answers" } else { "none, or it does not answer" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_of_one_metric_and_not_of_those_whose_names_begin_alike() {
        let metrics = "# HELP a_total Of a.\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 7\n";
        assert!((sum(metrics, "a_total", "") - 5.0).abs() < 1e-9);
        assert!((sum(metrics, "a_total", "x=\"2\"") - 3.0).abs() < 1e-9);
        assert!(sum(metrics, "b", "").abs() < 1e-9);
    }
}
