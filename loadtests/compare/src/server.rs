//! The servers that are measured, as processes: started, read from `/proc`, and killed on drop.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::handoff::{PATIENCE, Servers};

/// Clock ticks a second in `/proc`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Settings of a relay that refuses nobody: here all phones have a few addresses.
const NO_LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../relay.toml");

/// A running process.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The minimal relay.
    Reference,
    /// The relay, one node, in memory.
    Memory,
    /// The relay, one node, with Redis.
    Redis,
    /// The relay, two nodes with Redis; old at one, new at the other.
    TwoNodes,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Reference, Self::Memory, Self::Redis, Self::TwoNodes];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Memory => "relay, in memory",
            Self::Redis => "relay, Redis, one node",
            Self::TwoNodes => "relay, Redis, two nodes",
        }
    }
}

/// One server, or two nodes and their Redis.
#[derive(Debug)]
pub struct Server {
    nodes: Vec<Process>,
    pub servers: Servers,
    _redis: Option<(Process, tempfile::TempDir)>,
}

impl Server {
    /// Starts what is in `folder`; each of `settings` is `section.key=value` for the relay.
    pub fn start(folder: &Path, kind: Kind, settings: &[&str]) -> Result<Self> {
        Self::start_with(folder, kind, settings, true)
    }

    /// The same with the limits that the relay has by default.
    pub fn start_limited(folder: &Path, kind: Kind, settings: &[&str]) -> Result<Self> {
        Self::start_with(folder, kind, settings, false)
    }

    fn start_with(folder: &Path, kind: Kind, settings: &[&str], without_limits: bool) -> Result<Self> {
        let limits = if without_limits { ["--config", NO_LIMITS] } else { ["--set", "activation.enabled=false"] };
        let mut settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut redis = None;
        if let Kind::Redis | Kind::TwoNodes = kind {
            let (process, folder, port) = start_redis()?;
            settings.push(format!("redis.url=redis://127.0.0.1:{port}"));
            redis = Some((process, folder));
        }
        let command = || match kind {
            Kind::Reference => Command::new(folder.join("handoff-load-reference")),
            Kind::Memory | Kind::Redis | Kind::TwoNodes => {
                let mut relay = Command::new(folder.join("handoff"));
                relay.args(["serve", "--json", "--log", "info", "--log-format", "json"]).args(limits);
                relay.args(["--set", "server.listen=127.0.0.1:0"]);
                relay.args(settings.iter().flat_map(|setting| ["--set", setting]));
                relay
            }
        };
        let (first, old) = start_node(command())?;
        let mut nodes = vec![first];
        let mut new = old;
        if kind == Kind::TwoNodes {
            let (second, address) = start_node(command())?;
            nodes.push(second);
            new = address;
        }
        if kind != Kind::Reference {
            until_ready(old)?;
            until_ready(new)?;
        }
        Ok(Self { nodes, servers: Servers { old, new }, _redis: redis })
    }

    /// Processor time of all nodes, user and system.
    pub fn cpu(&self) -> Result<Duration> {
        self.nodes
            .iter()
            .map(|node| {
                let stat = node.proc("stat")?;
                // The command's name may hold spaces; it ends at the last bracket. Then state is field 3, utime 14, stime 15.
                let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
                let ticks: u32 = fields.skip(11).take(2).map(str::parse::<u32>).sum::<Result<_, _>>()?;
                Ok(Duration::from_secs_f64(f64::from(ticks) / TICKS_PER_SECOND))
            })
            .sum()
    }

    /// Resident memory of all nodes, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        self.nodes
            .iter()
            .map(|node| {
                let status = node.proc("status")?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc")?;
                Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()?)
            })
            .sum()
    }
}

/// Starts one and reads where it listens.
fn start_node(mut command: Command) -> Result<(Process, SocketAddr)> {
    // Settings of whoever measures are not the relay's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HANDOFF_")) {
        command.env_remove(name);
    }
    // The log goes to a file, as it would to a collector's pipe: writing it is part of the cost.
    let log = tempfile::tempfile()?;
    let program = command.get_program().to_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
    let mut process = Process(child.with_context(|| format!("cannot start {}", program.display()))?);
    let mut line = String::new();
    if let Some(stdout) = process.0.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let event: serde_json::Value = serde_json::from_str(&line).context("the server does not say where it listens")?;
    let address = event["address"].as_str().context("the server does not say where it listens")?.parse()?;
    Ok((process, address))
}

/// Waits until a relay says that it is ready: with Redis it is not at once.
fn until_ready(address: SocketAddr) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        if status.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("the relay does not become ready");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start_redis() -> Result<(Process, tempfile::TempDir, u16)> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let child = Command::new("redis-server")
        // Not on every address: a phone's connection may have this port on one of the others.
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start redis-server")?;
    let process = Process(child);
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if started.elapsed() > Duration::from_secs(10) {
            bail!("redis-server does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((process, folder, port))
}
