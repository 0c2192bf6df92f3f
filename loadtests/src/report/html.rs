//! The report as one HTML file: no script, no font, no picture from elsewhere. The same facts as the text summary, and
//! how they came about over time.

use std::time::{Duration, SystemTime};

use super::chart::{CLASSES, Chart, Line};
use super::ranges::{Row, ranges};
use super::{maybe_time, time};
use crate::health::Health;
use crate::num::{float, length};
use crate::results::{Results, Verdict};
use crate::stats::{GroupStats, PERCENTILES, Phase};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(crate) fn page(results: &Results) -> String {
    let title = escape(&format!("{}: load test", results.scenario));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>\n{STYLE}</style></head><body>\n"
    );
    page.push_str(&head(results));
    page.push_str(&thresholds(results));
    results.groups.iter().for_each(|group| page.push_str(&group_section(results, group)));
    page.push_str(&generators(results));
    page.push_str("</body></html>\n");
    page
}

fn head(results: &Results) -> String {
    let verdict = results.judge();
    let class = match verdict {
        Verdict::Passed => "passed",
        Verdict::Missed => "missed",
        Verdict::NotToBeJudged => "not_to_be_judged",
    };
    let generators = results.generators.len();
    let mut head = format!(
        "<h1>{}</h1><p>{}</p><p class=\"soft\">{} &middot; {} &middot; {} cryptography &middot; {generators} generator{} &middot; began {}</p>\
         <p class=\"verdict {class}\">{}</p>{}",
        escape(&results.scenario),
        escape(&results.about),
        escape(&results.urls.join(", ")),
        time(Duration::from_millis(results.duration_ms)),
        escape(&results.crypto),
        if generators == 1 { "" } else { "s" },
        began(results.started_unix_ms),
        verdict.sentence(),
        if results.cuts_ms.is_empty() {
            ""
        } else {
            "<p class=\"soft\">Dashed lines: all phones' connections were cut.</p>"
        },
    );
    for problem in results.findings().iter().chain(&results.refusals()) {
        head.push_str("<p class=\"not_to_be_judged\">");
        head.push_str(&escape(problem));
        head.push_str("</p>");
    }
    head
}

/// As a date in UTC.
fn began(unix_ms: u64) -> String {
    let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    began.map_or_else(String::new, |began| humantime::format_rfc3339_seconds(began).to_string())
}

fn thresholds(results: &Results) -> String {
    let rows = results.outcomes().into_iter().map(|outcome| {
        let (class, word) = if outcome.holds { ("passed", "holds") } else { ("missed", "missed") };
        format!(
            "<tr><td class=\"text\">{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&outcome.threshold),
            escape(&outcome.measured)
        )
    });
    table("Thresholds", "<th>threshold</th><th>measured</th><th></th>", &rows.collect::<String>())
}

fn group_section(results: &Results, group: &GroupStats) -> String {
    let mut section = format!(
        "<h2>{}</h2><p>{} started, {} completed, {} failed.</p>",
        escape(&group.name),
        group.started(),
        group.completed(),
        group.failed()
    );
    section.push_str(&arrivals_chart(results, group).to_html());
    section.push_str(&in_flight_chart(results, group).to_html());
    section.push_str(&latency_chart(results, group).to_html());
    section.push_str(&phase_ranges(group));
    section.push_str(&phases(group));
    section.push_str(&counts("Failed, by reason", &group.failures));
    section.push_str(&counts("Setbacks on the way", &group.setbacks));
    section.push_str(&counts("How attacks were turned away", &group.answers));
    section
}

fn chart(results: &Results, title: &str, unit: &'static str, lines: Vec<Line>) -> Chart {
    Chart {
        title: title.to_owned(),
        unit,
        interval: results.interval().as_secs_f64(),
        lines,
        is_logarithmic: false,
        marks: results.cuts_ms.iter().map(|cut| float(*cut) / 1e3).collect(),
    }
}

fn line(number: usize, name: &str, values: impl Iterator<Item = Option<f64>>) -> Line {
    let class = CLASSES.get(number).copied().unwrap_or("c5");
    Line { name: name.to_owned(), class, values: values.collect() }
}

fn arrivals_chart(results: &Results, group: &GroupStats) -> Chart {
    let seconds = results.interval().as_secs_f64();
    let rate = |number, name, count: fn(&crate::stats::Bucket) -> u64| {
        line(number, name, group.series.iter().map(|bucket| Some(float(count(bucket)) / seconds)))
    };
    let lines = vec![
        rate(0, "started", |bucket| bucket.started),
        rate(1, "completed", |bucket| bucket.completed),
        rate(2, "failed", |bucket| bucket.failed),
    ];
    chart(results, "Arrivals and ends", "sessions a second", lines)
}

fn in_flight_chart(results: &Results, group: &GroupStats) -> Chart {
    let values = group.in_flight_series().into_iter().map(|count| Some(float(count)));
    chart(results, "On their way", "sessions", vec![line(3, "in flight at the end of each interval", values)])
}

fn latency_chart(results: &Results, group: &GroupStats) -> Chart {
    let percentiles = [50.0, 90.0, 99.0, 100.0].into_iter().enumerate();
    let lines = percentiles.map(|(number, percent)| {
        let name = if percent < 100.0 { format!("p{percent}") } else { "longest".to_owned() };
        let values = group.series.iter().map(|bucket| {
            let latency = if percent < 100.0 { bucket.total.percentile(percent) } else { bucket.total.max() };
            latency.map(|latency| latency.as_secs_f64() * 1e3)
        });
        line(number, &name, values)
    });
    let title = format!("Time of what was completed: {}", group.main_phase());
    let mut chart = chart(results, &title, "milliseconds, logarithmic", lines.collect());
    chart.is_logarithmic = true;
    chart
}

fn phase_ranges(group: &GroupStats) -> String {
    let percentiles = [50.0, 90.0, 99.0, 99.9];
    let rows = Phase::ALL.iter().filter_map(|phase| {
        let latency = group.phases.get(phase)?;
        let values = percentiles.iter().filter_map(|percent| latency.percentile(*percent));
        Some(Row { name: phase.to_string(), values: values.map(|value| value.as_secs_f64() * 1e3).collect() })
    });
    let names = percentiles.map(|percent| format!("p{percent}"));
    ranges("Percentiles by phase", "milliseconds, logarithmic", &names, &rows.collect::<Vec<_>>())
}

fn phases(group: &GroupStats) -> String {
    let rows = Phase::ALL.iter().filter_map(|phase| {
        let latency = group.phases.get(phase)?;
        let cells = PERCENTILES.iter().map(|percent| maybe_time(latency.percentile(*percent)));
        let cells = cells.chain([maybe_time(latency.max())]).map(|cell| format!("<td>{cell}</td>"));
        let people = if phase.is_machine_time() { "" } else { " (people's time included)" };
        Some(format!(
            "<tr><td title=\"{}\">{phase}{people}</td><td>{}</td>{}<td class=\"text soft\">{}</td></tr>",
            phase.meaning(),
            latency.len(),
            cells.collect::<String>(),
            phase.meaning()
        ))
    });
    let head = PERCENTILES.map(|percent| format!("<th>p{percent}</th>")).concat();
    let head = format!("<th>phase</th><th>count</th>{head}<th>max</th><th class=\"text\">measured</th>");
    table("Times by phase", &head, &rows.collect::<String>())
}

fn counts(title: &str, counts: &std::collections::BTreeMap<String, u64>) -> String {
    let most = counts.values().copied().max().unwrap_or(1);
    let rows = counts.iter().map(|(name, count)| {
        let share = float(*count) / float(most) * 100.0;
        format!(
            "<tr><td>{}</td><td>{count}</td><td class=\"text\" style=\"width:60%\"><span class=\"bar\" style=\"width:{share:.1}%\"></span></td></tr>",
            escape(name)
        )
    });
    table(title, "<th>reason</th><th>count</th><th></th>", &rows.collect::<String>())
}

fn generators(results: &Results) -> String {
    let rows = results.generators.iter().enumerate().map(|(number, health)| {
        let word = if health.findings().is_empty() { "kept up" } else { "bottleneck" };
        format!("<tr><td>{}</td>{}<td class=\"text\">{word}</td></tr>", length(number).saturating_add(1), cells(health))
    });
    let head = "<th>no.</th><th>cores</th><th>CPU mean</th><th>busiest 10 s</th><th>timers late p99</th><th>starts late p99</th>\
                <th>connections</th><th>at once</th><th>files allowed</th><th>sources</th><th>out of files</th><th>out of ports</th><th></th>";
    let table = table("", head, &rows.collect::<String>());
    format!(
        "<h2>The generator</h2><p class=\"soft\">A run in which it did not keep up says nothing about the relay.</p>{table}"
    )
}

fn cells(health: &Health) -> String {
    let cells = [
        format!("{}", health.cores),
        format!("{:.0}%", health.cpu_mean * 100.0),
        format!("{:.0}%", health.cpu_worst * 100.0),
        maybe_time(health.timer_lag.percentile(99.0)),
        maybe_time(health.start_lag.percentile(99.0)),
        health.connections.to_string(),
        health.most_connections.to_string(),
        health.files.to_string(),
        health.sources.to_string(),
        health.out_of_files.to_string(),
        health.out_of_ports.to_string(),
    ];
    cells.map(|cell| format!("<td>{cell}</td>")).concat()
}

/// A table, or nothing if it has no rows.
fn table(title: &str, head: &str, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let title = if title.is_empty() { String::new() } else { format!("<h3>{title}</h3>") };
    format!("{title}<div class=\"wide\"><table><tr>{head}</tr>{rows}</table></div>\n")
}

/// Text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn the_report_needs_nothing_from_elsewhere() {
        let page = page(&results(1));
        for foreign in ["<script", "http://", "https://", "url(", "<link", "<img", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let mut results = results(1);
        results.about = "<b>&\"".to_owned();
        results.groups[0].end(0, Err("<i>reason"));
        let page = page(&results);
        assert!(page.contains("&lt;b&gt;&amp;&quot;") && page.contains("&lt;i&gt;reason"));
        assert!(!page.contains("<b>") && !page.contains("<i>"));
    }
}
