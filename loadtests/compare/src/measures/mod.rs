//! The measures, one function each: start servers, work, note figures.

mod crowds;
mod steady;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use crate::Measure;
use crate::phone::Script;
use crate::report::Report;
use crate::server::{Kind, Server};

/// What is measured with.
#[derive(Debug)]
pub struct Bench {
    pub folder: PathBuf,
    pub handoffs: u32,
    pub at_a_time: u32,
    pub rounds: usize,
    pub soak: u32,
    pub servers: Vec<Kind>,
    pub settings: Vec<String>,
}

/// The protocol's lifetime of a session.
const LIFETIME: Duration = Duration::from_mins(3);

impl Bench {
    pub async fn run(&self, measure: Measure, report: &mut Report) -> Result<()> {
        match measure {
            Measure::All => Ok(()),
            Measure::Handoff => self.handoff(report).await,
            Measure::Memory => self.memory(report).await,
            Measure::Latency => self.latency(report).await,
            Measure::Growth => self.growth(report).await,
            Measure::Burst => self.burst(report).await,
            Measure::Soak => self.soak(report).await,
            Measure::Lurkers => self.lurkers(report).await,
            Measure::Abuse => self.abuse(report).await,
        }
    }

    fn start(&self, kind: Kind, settings: &[&str]) -> Result<Server> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        Server::start(&self.folder, kind, &settings)
    }

    fn start_limited(&self, kind: Kind) -> Result<Server> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        Server::start_limited(&self.folder, kind, &settings)
    }
}

/// What phones send in sessions of the usual lifetime.
fn script() -> Rc<Script> {
    Rc::new(Script::new(LIFETIME))
}

/// The one in the middle.
fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
