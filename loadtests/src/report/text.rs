//! The summary at the end of a run, in plain text. The same facts as the HTML report.

use std::fmt::Write as _;
use std::time::Duration;

use super::{maybe_time, time};
use crate::results::Results;
use crate::stats::{GroupStats, PERCENTILES, Phase};

/// The whole summary.
pub(crate) fn summary(results: &Results) -> String {
    let mut text = String::new();
    line(&mut text, &format!("{}: {}", results.scenario, results.about));
    let took = time(Duration::from_millis(results.duration_ms));
    line(&mut text, &format!("{} in {took}, {} cryptography", results.urls.join(", "), results.crypto));
    results.groups.iter().for_each(|group| add_group(&mut text, group));
    line(&mut text, "\nThe generator");
    for health in &results.generators {
        line(
            &mut text,
            &format!(
                "  {:.0}% of {} cores ({:.0}% in the busiest 10 s), timers {} late at p99, sessions {}; {} connections, {} at once; {} files allowed; {} source {}",
                health.cpu_mean * 100.0,
                health.cores,
                health.cpu_worst * 100.0,
                maybe_time(health.timer_lag.percentile(99.0)),
                maybe_time(health.start_lag.percentile(99.0)),
                health.connections,
                health.most_connections,
                health.files,
                health.sources,
                if health.sources == 1 { "address" } else { "addresses" },
            ),
        );
    }
    add_list(&mut text, "Turned away by the relay's limits", &results.refusals());
    let outcomes = results.outcomes();
    let judged = outcomes.iter().map(|outcome| {
        let word = if outcome.holds { "holds " } else { "MISSED" };
        format!("{word}  {:<42} measured {}", outcome.threshold, outcome.measured)
    });
    add_list(&mut text, "Thresholds", &judged.collect::<Vec<_>>());
    add_list(&mut text, "Not to be judged, because", &results.findings());
    line(&mut text, &format!("\n{}", results.judge().sentence()));
    text
}

fn add_group(text: &mut String, group: &GroupStats) {
    line(
        text,
        &format!(
            "\n{}: {} started, {} completed, {} failed",
            group.name,
            group.started(),
            group.completed(),
            group.failed()
        ),
    );
    if group.phases.values().any(|latency| latency.len() > 0) {
        line(text, "  phase            count      p50      p90      p95      p99    p99.9      max");
    }
    for phase in Phase::ALL {
        let Some(latency) = group.phases.get(phase) else { continue };
        let mut row = format!("  {:<12} {:>9}", phase.label(), latency.len());
        for percent in PERCENTILES {
            pad(&mut row, &maybe_time(latency.percentile(percent)));
        }
        pad(&mut row, &maybe_time(latency.max()));
        line(text, &row);
    }
    for (title, counts) in [("failed", &group.failures), ("setbacks", &group.setbacks), ("answers", &group.answers)] {
        if !counts.is_empty() {
            let all: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            line(text, &format!("  {title}: {}", all.join(", ")));
        }
    }
}

fn add_list(text: &mut String, title: &str, items: &[String]) {
    if !items.is_empty() {
        line(text, &format!("\n{title}"));
        items.iter().for_each(|item| line(text, &format!("  {item}")));
    }
}

fn pad(row: &mut String, cell: &str) {
    // Writing to a string cannot fail.
    let _infallible = write!(row, " {cell:>8}").is_ok();
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
