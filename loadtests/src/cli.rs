//! The command line: arguments in, exit code out. The only place that reads files and prints results.

use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use handoff_relay::client::{Connector, RelayUrl};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::health::Health;
use crate::report::{html, live, text};
use crate::results::{Results, SCHEMA};
use crate::run::{Crypto, Options, Run};
use crate::scenario::{BUILT_IN, Scenario};

/// Bad usage: nothing was run, or nothing can be concluded.
const USAGE: u8 = 2;

const AFTER_HELP: &str = "\
Exit codes:
  0  all thresholds of the scenario hold
  1  a threshold was missed
  2  bad usage, or the run is not to be judged: the generator was the bottleneck

Start with: handoff-load run smoke --url ws://127.0.0.1:8080";

/// Runs handoffs by the thousand against a relay, and says whether it held.
#[derive(Debug, Parser)]
#[command(name = "handoff-load", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<RunArgs>),
    Merge(MergeArgs),
    /// List the scenarios that are built in
    List,
    /// Print a built-in scenario, to change it
    Show {
        /// Its name
        scenario: String,
    },
}

/// Run a scenario against a relay
///
/// A scenario is a built-in one (see `list`) or a TOML file. Sessions start at times that depend on nothing but the
/// scenario, and every latency counts from when a session was meant to start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  handoff-load run smoke --url ws://127.0.0.1:8080
  handoff-load run burst --url wss://relay.example --json burst.json --html burst.html
  handoff-load run mine.toml --url ws://10.0.0.1:8080 --url ws://10.0.0.2:8080 --insecure --rate-scale 0.5")]
struct RunArgs {
    /// Name of a built-in scenario, or a TOML file
    scenario: String,

    /// Address of a node; several nodes are one relay, and each phone chooses at random
    #[arg(
        long = "url",
        value_name = "URL",
        env = "HANDOFF_LOAD_URL",
        value_delimiter = ',',
        default_value = "ws://127.0.0.1:8080"
    )]
    urls: Vec<String>,

    /// Allow `ws://` to other machines: for test networks
    #[arg(long)]
    insecure: bool,

    /// PEM file with certificates to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Multiply all rates, counts and users
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    rate_scale: f64,

    /// Seed of all random choices, instead of the scenario's; give each of several generators its own
    #[arg(long)]
    seed: Option<u64>,

    /// Loopback source addresses to use from the start (127.0.0.1, 127.0.0.2, ...), each with the relay's limits for
    /// one address; more are taken when ports run out
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    source_addresses: u64,

    /// Whose cryptography the phones of handoffs use
    #[arg(long, value_enum, default_value_t = Crypto::Real)]
    crypto: Crypto,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// Write the results for machines, and for `merge`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a report with plots, one file that needs no other
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Merge the results of generators that ran at the same time
#[derive(Debug, Args)]
struct MergeArgs {
    /// What `run --json` has written
    #[arg(required = true, value_name = "JSON")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    output: Output,
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> ExitCode {
        let code = self.execute().unwrap_or_else(|problem| {
            // If nobody reads any more, there is nobody left to tell.
            writeln!(std::io::stderr().lock(), "handoff-load: {problem:#}").ok();
            USAGE
        });
        code.into()
    }

    fn execute(self) -> anyhow::Result<u8> {
        match self.command {
            Command::Run(args) => args.run(),
            Command::Merge(args) => args.run(),
            Command::List => {
                for (name, text) in BUILT_IN {
                    let scenario = Scenario::parse(text)?;
                    let least = crate::report::time(scenario.duration());
                    print(&format!("{name:<16} {least:>7}  {}", scenario.about));
                }
                Ok(0)
            }
            Command::Show { scenario } => {
                let text =
                    built_in(&scenario).with_context(|| format!("there is no built-in scenario \"{scenario}\""))?;
                print(text.trim_end());
                Ok(0)
            }
        }
    }
}

impl RunArgs {
    fn run(self) -> anyhow::Result<u8> {
        let mut scenario = load(&self.scenario)?;
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        if !(self.rate_scale > 0.0 && self.rate_scale <= 1000.0) {
            bail!("--rate-scale must be more than 0 and at most 1000");
        }
        let options = Options {
            urls: self.urls()?,
            connector: self.connector()?,
            rate_scale: self.rate_scale,
            sources: self.source_addresses,
            files: raise_open_files(),
            crypto: self.crypto,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let scenario = Arc::new(scenario);
        let (run, started_unix_ms, health) = runtime.block_on(watched(Arc::clone(&scenario), options))?;
        let recorder = run.recorder();
        let snapshot = recorder.snapshot();
        let results = Results {
            schema: SCHEMA,
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            urls: self.urls.clone(),
            crypto: self.crypto.label().to_owned(),
            started_unix_ms,
            duration_ms: millis(snapshot.since_start),
            interval_ms: millis(recorder.width()),
            cuts_ms: scenario.cuts.iter().map(|cut| millis(cut.at.0)).collect(),
            thresholds: scenario.thresholds.iter().map(ToString::to_string).collect(),
            groups: snapshot.groups,
            generators: vec![health],
            verdict: crate::results::Verdict::default(),
        };
        self.output.give(&results.judged())
    }

    fn urls(&self) -> anyhow::Result<Vec<RelayUrl>> {
        let parse = if self.insecure { RelayUrl::parse_insecure } else { RelayUrl::parse };
        let parse = |url: &String| {
            parse(url).with_context(|| format!("--url {url}")).context("use wss://, or --insecure in a test network")
        };
        self.urls.iter().map(parse).collect()
    }

    fn connector(&self) -> anyhow::Result<Connector> {
        if let Some(file) = &self.ca {
            return Ok(Connector::with_extra_roots(file)?);
        }
        let is_secure = self.urls.iter().any(|url| url.starts_with("wss:"));
        if is_secure { Ok(Connector::new()?) } else { Ok(Connector::plain()) }
    }
}

impl MergeArgs {
    fn run(self) -> anyhow::Result<u8> {
        let read = |file: &PathBuf| {
            let named = || format!("{} is not what handoff-load has written", file.display());
            Results::parse(&read(file)?).with_context(named)
        };
        let all = self.files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        self.output.give(&Results::merge(all)?)
    }
}

impl Output {
    /// Prints and writes the results; returns the exit code.
    fn give(&self, results: &Results) -> anyhow::Result<u8> {
        print(text::summary(results).trim_end());
        if let Some(file) = &self.json {
            write(file, &serde_json::to_string_pretty(results)?)?;
        }
        if let Some(file) = &self.html {
            write(file, &html::page(results))?;
        }
        Ok(results.verdict.exit_code())
    }
}

/// Runs, shows, and stops arrivals at the first interruption.
async fn watched(scenario: Arc<Scenario>, options: Options) -> anyhow::Result<(Run, u64, Health)> {
    let whole = scenario.end();
    let run = Run::new(scenario, options)?;
    let started_unix_ms = unix_millis();
    let shown = tokio::spawn(live::show(run.clone(), whole));
    let stop = run.stop.clone();
    let interrupted = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let health = run.finish().await;
    shown.abort();
    interrupted.abort();
    Ok((run, started_unix_ms, health))
}

fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
}

fn load(name: &str) -> anyhow::Result<Scenario> {
    let text = match built_in(name) {
        Some(text) => text.to_owned(),
        None if Path::new(name).extension().is_some() => read(Path::new(name))?,
        None => bail!("there is no built-in scenario \"{name}\" (see handoff-load list), and a file ends with .toml"),
    };
    Scenario::parse(&text).with_context(|| format!("scenario {name}"))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn print(text: &str) {
    // If nobody reads any more, there is nobody left to tell.
    writeln!(stdout().lock(), "{text}").ok();
}

/// A shell's soft limit is often 1,024, and the hard one, which every process may take, far above.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
    if is_raised { limit.maximum } else { limit.current }.unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Only to place the runs of several generators beside each other.
#[expect(clippy::disallowed_methods, reason = "this is where the wall clock enters")]
fn unix_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}
