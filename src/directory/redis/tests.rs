mod arrangements;
mod contract;
mod losses;
mod records;
#[path = "../../../tests/support/redis_server/mod.rs"]
#[expect(dead_code, clippy::disallowed_methods, reason = "tests measure real time; the integration tests use the rest")]
mod redis_server;
mod troubles;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::*;
use crate::directory::contract::{join, node, open, resume, rules, session};
use crate::directory::{Arrived, Unavailable};
use crate::protocol::Role;
use crate::session::route::{Attachment, Outcome};

/// Most time for what takes a few seconds; generous, since a busy machine is no defect.
const PATIENCE: Duration = Duration::from_secs(30);

/// As short as it can be while Redis is on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
fn clock() -> Instant {
    Instant::now()
}

/// A single server, or the addresses of several.
fn settings(urls: &[String], prefix: &str) -> Settings {
    Settings {
        urls: urls.to_vec(),
        topology: Topology::Single,
        username: None,
        password: None,
        certificate_authority: None,
        prefix: prefix.to_owned(),
        timeout: TIMEOUT,
    }
}

/// One node's directory, and what it hears.
struct Node {
    directory: Arc<RedisDirectory>,
    news: mpsc::Receiver<News>,
}

impl Node {
    /// Node of this number, as it begins.
    fn start(number: u8, settings: Settings) -> Self {
        Self::start_with(number, settings, clock)
    }

    fn start_with(number: u8, settings: Settings, clock: fn() -> Instant) -> Self {
        let environment = Environment { clock, random: rand::random, most_known: 1000 };
        let (directory, work, news) = RedisDirectory::new(settings, rules(number), environment).unwrap();
        drop(tokio::spawn(work));
        Self { directory, news }
    }

    /// Node 1 on a server of its own, ready.
    async fn on(redis: &redis_server::process::RedisProcess) -> Self {
        let node = Self::start(1, settings(&[redis.url()], "handoff"));
        node.until_ready().await;
        node
    }

    async fn apply(&self, number: u8, transition: Transition) -> Result<Outcome, Unavailable> {
        self.directory.apply(session(number), transition).await
    }

    async fn attach(&self, number: u8, transition: Transition) -> Attachment {
        self.apply(number, transition).await.unwrap().unwrap().unwrap()
    }

    /// The first answer that is one. Nobody waits for a directory longer than it says.
    async fn eventually(&self, number: u8, transition: Transition) -> Outcome {
        let started = clock();
        loop {
            match self.apply(number, transition.clone()).await {
                Ok(outcome) => return outcome,
                Err(Unavailable { .. }) => assert!(started.elapsed() < PATIENCE, "no answer"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_ready(&self) {
        until("it is ready", || self.directory.is_ready()).await;
    }

    async fn until_away(&self) {
        until("Redis is away", || !self.directory.is_ready()).await;
    }

    /// Ready, and sure that nobody has anything to put back.
    async fn until_settled(&self) {
        self.until_ready().await;
        self.eventually(255, resume(Role::Old, 1)).await.unwrap_err();
    }

    /// Asserts that a transition is refused, and returns in which time.
    async fn refuses(&self, number: u8, transition: Transition) -> Duration {
        let started = clock();
        let answer = self.apply(number, transition).await;
        assert_eq!(answer.unwrap_err().retry_after, Duration::from_secs(1));
        started.elapsed()
    }

    /// Waits for this news, whatever comes before it.
    async fn until_news(&mut self, wanted: &News) {
        let heard = async { while self.news.recv().await.as_ref() != Some(wanted) {} };
        tokio::time::timeout(PATIENCE, heard).await.unwrap();
    }
}

/// Looks again and again at what sends no event.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = clock();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What one test counts and logs.
#[derive(Clone)]
struct Watch {
    metrics: PrometheusHandle,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Watch {
    /// The value of a metric, as it is written with its labels.
    fn value(&self, metric: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    fn errors(&self, reason: &str) -> f64 {
        self.value(&format!("handoff_redis_errors_total{{reason=\"{reason}\"}}"))
    }

    /// Warnings and errors.
    fn complaints(&self) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lines = String::from_utf8(log).unwrap();
        lines.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).map(str::to_owned).collect()
    }
}

impl std::io::Write for Watch {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).extend(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a test that counts and logs apart from all others: all its tasks are on this thread.
fn watched(test: impl AsyncFnOnce(&Watch)) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let watch = Watch { metrics: recorder.handle(), log: Arc::default() };
    let writer = watch.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        tracing::subscriber::with_default(subscriber, || runtime.block_on(test(&watch)));
    });
}
