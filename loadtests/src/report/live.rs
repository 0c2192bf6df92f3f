//! What a run looks like while it goes on: a table in place on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::execute;
use crossterm::style::Print;
use crossterm::terminal::{Clear, ClearType};
use tokio::time::{Instant, sleep_until};

use super::{maybe_time, time};
use crate::run::{Run, Snapshot};
use crate::stats::GroupStats;

/// How often the table is drawn anew.
const REDRAW: Duration = Duration::from_millis(250);

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Failures that are named; the report has them all.
const FAILURES_SHOWN: usize = 4;

/// Shows a run until it is dropped.
pub(crate) async fn show(run: Run, whole: Duration) {
    let is_terminal = stderr().is_terminal();
    let every = if is_terminal { REDRAW } else { LINE };
    let mut view = View { lines: 0 };
    let mut due = Instant::now();
    loop {
        due = due.checked_add(every).unwrap_or(due);
        sleep_until(due).await;
        let snapshot = run.recorder().snapshot();
        let usage = run.network().usage();
        if is_terminal {
            view.draw(&table(&snapshot, usage.most_open, whole));
        } else {
            let lines = snapshot.groups.iter().map(|group| format!("{} {}", time(snapshot.since_start), plain(group)));
            write(&lines.collect::<Vec<_>>());
        }
    }
}

/// What stands on the screen.
#[derive(Debug)]
struct View {
    lines: u16,
}

impl View {
    /// Replaces what was drawn before. A terminal that is gone is no reason to end a run.
    fn draw(&mut self, lines: &[String]) {
        let mut out = stderr().lock();
        if self.lines > 0 {
            execute!(out, MoveUp(self.lines)).ok();
        }
        for line in lines {
            execute!(out, MoveToColumn(0), Clear(ClearType::CurrentLine), Print(line), Print("\n")).ok();
        }
        self.lines = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    }
}

fn write(lines: &[String]) {
    let mut out = stderr().lock();
    lines.iter().for_each(|line| drop(writeln!(out, "{line}")));
}

/// One line for a group.
fn plain(group: &GroupStats) -> String {
    let latency = group.phases.get(&group.main_phase());
    let at = |percent| maybe_time(latency.and_then(|latency| latency.percentile(percent)));
    format!(
        "{}: {} started, {} in flight, {} completed, {} failed, p50 {}, p99 {}",
        group.name,
        group.started(),
        group.in_flight(),
        group.completed(),
        group.failed(),
        at(50.0),
        at(99.0)
    )
}

fn table(snapshot: &Snapshot, most_open: u64, whole: Duration) -> Vec<String> {
    let lag = maybe_time(snapshot.start_lag.percentile(99.0));
    let mut lines = vec![
        format!(
            "{} of at most {}   {most_open} connections at most   starts {lag} late (p99)",
            time(snapshot.since_start),
            time(whole)
        ),
        "group            started  per s   in flight  completed  failed       p50       p99".to_owned(),
    ];
    for group in &snapshot.groups {
        let latency = group.phases.get(&group.main_phase());
        let at = |percent| maybe_time(latency.and_then(|latency| latency.percentile(percent)));
        lines.push(format!(
            "{:<14} {:>9} {:>6} {:>11} {:>10} {:>7} {:>9} {:>9}",
            group.name,
            group.started(),
            per_interval(group),
            group.in_flight(),
            group.completed(),
            group.failed(),
            at(50.0),
            at(99.0)
        ));
        let mut worst: Vec<(&String, &u64)> = group.failures.iter().collect();
        worst.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in worst.into_iter().take(FAILURES_SHOWN) {
            lines.push(format!("  {count:>7} {reason}"));
        }
    }
    lines
}

/// Arrivals of the last whole interval.
fn per_interval(group: &GroupStats) -> u64 {
    group.series.iter().rev().nth(1).map_or(0, |bucket| bucket.started)
}
