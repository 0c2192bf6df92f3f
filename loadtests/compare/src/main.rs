//! Measures the relay beside the reference relay, in one run, and says which goals of docs/performance.md are met.
//!
//! Not a load generator: it sends prepared bytes, because what is measured is the server. It starts the servers itself,
//! from the folder that it lies in.

mod handoff;
mod measures;
mod phone;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use measures::Bench;
use report::Report;
use server::Kind;

/// Measures the relay beside a minimal one.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure.
    #[arg(required = true)]
    measures: Vec<Measure>,
    /// Handoffs of one run.
    #[arg(long, default_value_t = 4000)]
    handoffs: u32,
    /// Handoffs at a time.
    #[arg(long, default_value_t = 64)]
    at_a_time: u32,
    /// Runs of each server, in turns; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Handoffs of the measure `soak`.
    #[arg(long, default_value_t = 200_000)]
    soak: u32,
    /// Servers that the measure `handoff` takes; all if none is named. One alone is good to be profiled.
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// Where the servers are; by default beside this program.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// A setting of the relay, `section.key=value`; may be repeated.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Ends with 1 if a goal is missed.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Everything, one after the other.
    All,
    /// Processor time of a handoff.
    Handoff,
    /// Memory of a waiting session and of a joined pair.
    Memory,
    /// Latency of one relayed frame.
    Latency,
    /// Processor time of a handoff with few and with many sessions beside it.
    Growth,
    /// Thousands of handoffs that begin within a second.
    Burst,
    /// Memory over very many handoffs.
    Soak,
    /// Thousands of deadlines at once.
    Lurkers,
    /// Good handoffs beside bad connections.
    Abuse,
}

impl Measure {
    const EACH: [Self; 8] =
        [Self::Handoff, Self::Memory, Self::Latency, Self::Growth, Self::Burst, Self::Lurkers, Self::Abuse, Self::Soak];
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
    };
    let bench = Bench {
        folder,
        handoffs: args.handoffs,
        at_a_time: args.at_a_time,
        rounds: args.rounds.max(1),
        soak: args.soak,
        servers: if args.servers.is_empty() { Kind::ALL.to_vec() } else { args.servers },
        settings: args.settings,
    };
    let mut report = Report::default();
    for measure in Measure::EACH {
        if args.measures.contains(&measure) || args.measures.contains(&Measure::All) {
            let name = measure.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            eprintln!("measuring {name} ...");
            // A runtime each: nothing of one measure runs during the next.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let work = tokio::task::LocalSet::new();
            let measured = work.block_on(&runtime, bench.run(measure, &mut report));
            measured.with_context(|| format!("the measure {name} failed"))?;
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    let is_missed = report.figures.iter().any(|figure| figure.is_met() == Some(false));
    Ok(ExitCode::from(u8::from(args.check && is_missed)))
}
