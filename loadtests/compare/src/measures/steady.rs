//! What does not depend on crowds: processor time, memory and latency of the usual work.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Bench, median, script};
use crate::handoff::{self, Servers, many, percentile};
use crate::phone::{Phone, Script, numbered_frame};
use crate::report::Report;
use crate::server::{Kind, Server};

/// Sessions for which memory is measured.
const SESSIONS: u32 = 4000;

/// Handshakes at a time while sessions are opened for a measure.
const OPENERS: u32 = 64;

/// Pairs between which latency is measured, and frames a second over all of them.
const PAIRS: u32 = 200;
const FRAMES_PER_SECOND: u32 = 1000;

/// How long latency is measured.
const LATENCY_SECONDS: u32 = 10;

/// The server's processor seconds for 1000 handoffs.
async fn cost(server: &Server, script: &Rc<Script>, count: u32, at_a_time: u32) -> Result<f64> {
    let before = server.cpu()?;
    many(server.servers, script, count, at_a_time).await?;
    let spent = server.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1000.0 / f64::from(count))
}

/// So many sessions, opened and waiting.
pub async fn waiting(servers: Servers, script: &Rc<Script>, count: u32) -> Result<Vec<Phone>> {
    at_once(count, || {
        let script = Rc::clone(script);
        async move { handoff::open(servers, &script, Uuid::new_v4()).await }
    })
    .await
}

/// So many sessions, joined.
async fn joined(servers: Servers, script: &Rc<Script>, count: u32) -> Result<Vec<(Phone, Phone)>> {
    at_once(count, || {
        let script = Rc::clone(script);
        async move { handoff::pair(servers, &script).await }
    })
    .await
}

/// Does something so many times, [`OPENERS`] of them at a time.
async fn at_once<T: 'static, F: Future<Output = Result<T>> + 'static>(
    count: u32,
    mut work: impl FnMut() -> F,
) -> Result<Vec<T>> {
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    for _ in 0..count {
        if running.len() >= OPENERS as usize {
            done.extend(running.join_next().await.transpose()?.transpose()?);
        }
        running.spawn_local(work());
    }
    while let Some(result) = running.join_next().await {
        done.push(result??);
    }
    Ok(done)
}

impl Bench {
    pub(super) async fn handoff(&self, report: &mut Report) -> Result<()> {
        let script = script();
        let servers = self.servers.iter().map(|&kind| anyhow::Ok((kind, self.start(kind, &[])?, Vec::new())));
        let mut servers = servers.collect::<Result<Vec<_>>>()?;
        for (_, server, _) in &servers {
            handoff::until_ready(server.servers, &script).await?;
            many(server.servers, &script, self.handoffs / 10, self.at_a_time).await?;
        }
        for _ in 0..self.rounds {
            for (kind, server, costs) in &mut servers {
                costs.push(cost(server, &script, self.handoffs, self.at_a_time).await.with_context(|| kind.name())?);
            }
        }
        let mut reference = None;
        for (kind, _, mut costs) in servers {
            let cost = median(&mut costs);
            report.note("handoff", kind.name(), cost, "CPU s / 1000");
            let most = match kind {
                Kind::Reference => {
                    reference = Some(cost);
                    continue;
                }
                Kind::Memory => 1.3,
                Kind::Redis => 1.7,
                Kind::TwoNodes => 3.0,
            };
            if let Some(reference) = reference {
                report.goal("handoff", format!("{}, to the reference", kind.name()), cost / reference, "times", most);
            }
        }
        Ok(())
    }

    pub(super) async fn memory(&self, report: &mut Report) -> Result<()> {
        let script = script();
        for kind in [Kind::Reference, Kind::Memory] {
            let (most_waiting, most_joined) = if kind == Kind::Memory { (13.0, 26.0) } else { (f64::MAX, f64::MAX) };
            let server = self.start(kind, &[])?;
            // What is there once, whatever comes.
            many(server.servers, &script, 1000, self.at_a_time).await?;
            let each = |before: f64, after: f64| (after - before) / f64::from(SESSIONS);
            let note = |report: &mut Report, what: &str, each: f64, most: f64| {
                let what = format!("{}, {what}", kind.name());
                if most < f64::MAX {
                    report.goal("memory", what, each, "KiB", most);
                } else {
                    report.note("memory", what, each, "KiB");
                }
            };
            let before = server.resident_kib()?;
            let phones = waiting(server.servers, &script, SESSIONS).await?;
            note(report, "a waiting session", each(before, server.resident_kib()?), most_waiting);
            drop(phones);
            drop(server);
            // Another process: what the first one kept must not count against what the second needs.
            let server = self.start(kind, &[])?;
            many(server.servers, &script, 1000, self.at_a_time).await?;
            let before = server.resident_kib()?;
            let phones = joined(server.servers, &script, SESSIONS).await?;
            note(report, "a joined pair", each(before, server.resident_kib()?), most_joined);
            drop(phones);
        }
        Ok(())
    }

    pub(super) async fn latency(&self, report: &mut Report) -> Result<()> {
        let mut servers = [Kind::Reference, Kind::Memory].map(|kind| (kind, Vec::new(), Vec::new()));
        let script = script();
        for _ in 0..self.rounds {
            for (kind, typical, late) in &mut servers {
                let server = self.start(*kind, &[])?;
                let mut times = latencies(server.servers, &script).await?;
                typical.push(percentile(&mut times, 50).as_secs_f64() * 1e6);
                late.push(percentile(&mut times, 99).as_secs_f64() * 1e6);
            }
        }
        let [(_, mut p50, mut p99), (_, mut our_p50, mut our_p99)] = servers;
        let figures = [
            ("p50", median(&mut p50), median(&mut our_p50), 1.5),
            ("p99", median(&mut p99), median(&mut our_p99), 2.0),
        ];
        for (name, reference, ours, most) in figures {
            report.note("latency", format!("{}, {name}", Kind::Reference.name()), reference, "us");
            report.note("latency", format!("{}, {name}", Kind::Memory.name()), ours, "us");
            report.goal("latency", format!("{name}, to the reference"), ours / reference, "times", most);
        }
        Ok(())
    }

    pub(super) async fn growth(&self, report: &mut Report) -> Result<()> {
        let script = script();
        let mut costs = [(100, Vec::new()), (SESSIONS, Vec::new())];
        for _ in 0..self.rounds {
            for (live, costs) in &mut costs {
                let server = self.start(Kind::Memory, &[])?;
                many(server.servers, &script, self.handoffs / 10, self.at_a_time).await?;
                // Half of them wait, half of them are joined.
                let waiting = waiting(server.servers, &script, *live / 2).await?;
                let joined = joined(server.servers, &script, *live / 2).await?;
                costs.push(cost(&server, &script, self.handoffs, self.at_a_time).await?);
                drop((waiting, joined));
            }
        }
        let [(_, mut few), (_, mut much)] = costs;
        let (few, much) = (median(&mut few), median(&mut much));
        report.note("growth", "beside 100 sessions", few, "CPU s / 1000");
        report.note("growth", "beside 4000 sessions", much, "CPU s / 1000");
        report.goal("growth", "beside 4000, to beside 100", much / few, "times", 1.15);
        Ok(())
    }

    /// Twice the same, each time until all is forgotten: what the second half leaves more than the first is lost for good.
    pub(super) async fn soak(&self, report: &mut Report) -> Result<()> {
        let script = Rc::new(Script::new(Duration::from_secs(5)));
        let server = self.start(Kind::Memory, &["session.lifetime=5s"])?;
        many(server.servers, &script, 1000, self.at_a_time).await?;
        let (mut most, mut left) = ([0.0_f64; 2], [0.0; 2]);
        for half in 0..2 {
            for part in 1..=5 {
                many(server.servers, &script, self.soak / 10, self.at_a_time).await?;
                let resident = server.resident_kib()? / 1024.0;
                most[half] = most[half].max(resident);
                let done = usize::try_from(self.soak / 10)? * (5 * half + part);
                report.note("soak", format!("resident after {done} handoffs"), resident, "MiB");
            }
            // Records are forgotten 30 s after the deadline; a sweep comes every five seconds.
            tokio::time::sleep(Duration::from_secs(45)).await;
            left[half] = server.resident_kib()? / 1024.0;
            report.note("soak", "resident when all is forgotten", left[half], "MiB");
        }
        report.goal("soak", "most in the second half, to the first", most[1] / most[0], "times", 1.1);
        report.goal("soak", "left by the second half, to the first", left[1] / left[0], "times", 1.1);
        Ok(())
    }
}

/// How long frames take from one phone to the other.
async fn latencies(servers: Servers, script: &Rc<Script>) -> Result<Vec<Duration>> {
    let started = Instant::now();
    let times = Rc::new(RefCell::new(Vec::new()));
    let mut senders = Vec::new();
    let mut others = JoinSet::new();
    for (old, mut new) in joined(servers, script, PAIRS).await? {
        let times = Rc::clone(&times);
        senders.push(old);
        others.spawn_local(async move {
            while let Ok(frame) = new.data().await {
                let sent = frame.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                times.borrow_mut().push(started.elapsed().saturating_sub(Duration::from_nanos(sent)));
            }
        });
    }
    let frames = FRAMES_PER_SECOND * LATENCY_SECONDS;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / FRAMES_PER_SECOND);
    for number in 0..frames {
        pace.tick().await;
        let many = senders.len();
        let sender = senders.get_mut(number as usize % many).context("there are no pairs")?;
        let now = u64::try_from(started.elapsed().as_nanos())?;
        sender.send(&numbered_frame(now)).await?;
    }
    let patience = Instant::now();
    while times.borrow().len() < frames as usize && patience.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    others.abort_all();
    let times = times.borrow().clone();
    anyhow::ensure!(times.len() == frames as usize, "{} of {frames} frames arrived", times.len());
    Ok(times)
}
