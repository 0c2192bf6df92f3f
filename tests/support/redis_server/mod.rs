//! Real Redis servers for tests: from a container, from a process of its own, or a given one; Sentinel and Cluster too.
//!
//! Included by the unit tests of the Redis directory and by the integration tests, and so knows neither. Everything
//! listens on loopback and ends with the value that stands for it, after a panic as well. Functions block: a client in
//! the same single-threaded runtime waits meanwhile, unless they are `async`.

pub(crate) mod cluster;
mod container;
pub(crate) mod process;
pub(crate) mod sentinel;

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use container::Container;
use process::RedisProcess;
use redis::{Client, Cmd, FromRedisValue, RedisResult};

/// How long anything may take that Redis does within seconds; generous, since a busy machine is no defect.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at what sends no event.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The official image, which is used when a Docker engine has it and no other is named.
const USUAL_IMAGE: &str = "redis:7";

/// Where a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `HANDOFF_TEST_REDIS_URL` names one that runs already; the test is not alone on it.
    Given,
    /// The image that `HANDOFF_TEST_REDIS_IMAGE` names, or else the usual one if a Docker engine has it.
    Container,
    /// `redis-server` of this machine.
    Process,
}

/// A Redis server as any test may want one: which kind it is does not matter.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    server: Arc<Server>,
    prefix: String,
}

#[derive(Debug)]
enum Server {
    Given(String),
    Container(Container),
    Process(RedisProcess),
}

impl Redis {
    /// One that no other test uses, unless it is a given one: keys begin with [`Self::prefix`] in any case.
    pub(crate) fn start() -> Self {
        Self::of(Arc::new(Server::start()))
    }

    /// The one of all tests that run at this moment: it ends with the last of them. Cheaper than one each, and enough
    /// for whoever never asks about more than the own keys.
    pub(crate) fn shared() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(Server::start()));
        *shared = Arc::downgrade(&server);
        Self::of(server)
    }

    fn of(server: Arc<Server>) -> Self {
        Self { server, prefix: format!("handoff-test:{:016x}:", rand::random::<u64>()) }
    }

    /// How clients reach it, password included.
    pub(crate) fn url(&self) -> String {
        match &*self.server {
            Server::Given(url) => url.clone(),
            Server::Container(container) => container.url(),
            Server::Process(process) => process.url(),
        }
    }

    /// What the names of this test's keys and channels begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where it comes from.
    pub(crate) fn source(&self) -> Source {
        match &*self.server {
            Server::Given(_) => Source::Given,
            Server::Container(_) => Source::Container,
            Server::Process(_) => Source::Process,
        }
    }

    /// The answer to a command.
    pub(crate) fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        command(&Client::open(self.url()).unwrap(), words).unwrap_or_else(|problem| panic!("{words:?}: {problem}"))
    }
}

impl Server {
    fn start() -> Self {
        if let Some(url) = variable("HANDOFF_TEST_REDIS_URL") {
            return Self::Given(url);
        }
        match image() {
            Some(image) => Self::Container(Container::start(image)),
            None => Self::Process(RedisProcess::start(&[])),
        }
    }
}

/// The image for containers. A named one must start; without a name, nothing is ever pulled.
fn image() -> Option<&'static str> {
    static IMAGE: OnceLock<Option<String>> = OnceLock::new();
    let is_here = || {
        let mut inspect = Command::new("docker");
        inspect
            .args(["image", "inspect", USUAL_IMAGE])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        inspect.status().is_ok_and(|status| status.success())
    };
    let find = || variable("HANDOFF_TEST_REDIS_IMAGE").or_else(|| is_here().then(|| USUAL_IMAGE.to_owned()));
    IMAGE.get_or_init(find).as_deref()
}

/// What an environment variable says, if it says anything.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The answer to a command on a connection of its own, or an error before the test's patience ends.
fn command<T: FromRedisValue>(client: &Client, words: &[&str]) -> RedisResult<T> {
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(5));
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(TIMEOUT)?;
    connection.set_write_timeout(TIMEOUT)?;
    let mut command = Cmd::new();
    command.arg(words);
    command.query(&mut connection)
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(problem) => assert!(started.elapsed() < PATIENCE, "{what}: {problem}"),
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Asks until there is an answer, while the test's runtime goes on.
async fn until_meanwhile<T: Send + 'static>(
    what: &'static str,
    ask: impl FnMut() -> Result<T, String> + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(move || until(what, ask)).await.unwrap()
}
