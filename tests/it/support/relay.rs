//! The real binary as a process of its own: started, measured, signalled and killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::socket::get;
use super::{PATIENCE, eventually};

/// Clock ticks a second in `/proc`: the same on every Linux since 2.4.
const TICKS_PER_SECOND: u64 = 100;

/// A running relay; killed on drop.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    address: SocketAddr,
    metrics_address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// Settings of a relay that refuses nobody, for tests in which all phones have one address.
pub(crate) const NO_LIMITS: [&str; 7] = [
    "limits.connections_per_address=100000",
    "limits.opens_per_second_per_address=100000",
    "limits.opens_burst_per_address=100000",
    "limits.opens_per_second=100000",
    "limits.opens_burst=100000",
    "limits.handshakes_per_second_per_address=100000",
    "limits.handshakes_burst_per_address=100000",
];

/// A relay that did not start.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Relay {
    /// Starts a relay on a free loopback port; each of `settings` is `section.key=value`, later ones win.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::try_start(settings).unwrap_or_else(|failure| panic!("the relay does not start: {failure:?}"))
    }

    /// Starts a relay with the settings of a file.
    pub(crate) fn start_with_file(file: &str) -> Self {
        Self::launch(&["--config", file]).unwrap_or_else(|failure| panic!("the relay does not start: {failure:?}"))
    }

    /// [`Self::start`] for a relay that may refuse to run.
    pub(crate) fn try_start(settings: &[&str]) -> Result<Self, NotStarted> {
        Self::launch(&settings.iter().flat_map(|setting| ["--set", setting]).collect::<Vec<_>>())
    }

    fn launch(flags: &[&str]) -> Result<Self, NotStarted> {
        let mut command = Command::new(binary());
        command.args(["serve", "--json", "--set", "server.listen=127.0.0.1:0", "--log-format", "json"]);
        // It is served where a test says so, with a folder for its data.
        command.args(["--set", "activation.enabled=false"]);
        command.args(flags);
        // Settings of whoever runs the tests are not the relay's; the allocator's may be.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HANDOFF_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with this test");
        let log = Arc::new(Mutex::new(String::new()));
        let reader = collect(child.stderr.take().unwrap(), &log);
        let Some(line) = first_line(child.stdout.take().unwrap()) else {
            child.kill().ok();
            let code = child.wait().unwrap().code();
            reader.join().unwrap();
            return Err(NotStarted { code, log: log.lock().unwrap().clone() });
        };
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening", "{line}");
        let address = |value: &Value| value.as_str().map(|text| text.parse().unwrap());
        let public = address(&event["address"]).unwrap();
        let metrics_address = address(&event["metrics_address"]).unwrap_or(public);
        Ok(Self { child, address: public, metrics_address, log, reader: Some(reader) })
    }

    /// Where apps connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a phone is told it.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Where `/metrics` is.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.metrics_address
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// All metrics as they are now.
    pub(crate) async fn metrics(&self) -> Metrics {
        let response = get(self.metrics_address, "/metrics").await;
        assert_eq!(response.status, 200);
        Metrics::parse(&String::from_utf8(response.body).unwrap())
    }

    /// Waits until the sum of a metric's series is `wanted`.
    pub(crate) async fn until_metric(&self, series: &str, wanted: f64) {
        let ask = async || self.metrics().await.sum(series);
        eventually(series, ask, |sum| (sum - wanted).abs() < 0.5).await;
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Open file descriptors.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Processor time spent.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The command's name may hold spaces; it ends at the last bracket. Then state is field 3, utime 14, stime 15.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the process to end by itself, and for the last line of its log.
    pub(crate) async fn until_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually("exit", async || child.try_wait().unwrap(), Option::is_some).await.unwrap();
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
        status
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The binary that was built with this test, or another one that `HANDOFF_BIN` names.
fn binary() -> OsString {
    std::env::var_os("HANDOFF_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_handoff").into())
}

fn collect(stderr: impl Read + Send + 'static, log: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// The first line, if one comes before the end.
fn first_line(stdout: impl Read + Send + 'static) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            sender.send(line).ok();
        }
    });
    receiver.recv_timeout(PATIENCE).ok()
}

/// Samples of `/metrics`, by series.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        };
        Self(samples.map(sample).collect())
    }

    /// The value of one series, with its labels.
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no series {series}"))
    }

    /// The sum over all series of a metric, or the value of one series.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let is_of = |series: &str| series == name || series.split('{').next() == Some(name);
        self.0.iter().filter(|(series, _)| is_of(series)).map(|(_, value)| value).sum()
    }

    /// The names of all metrics, without labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|series| series.split('{').next())
    }
}
