//! The Prometheus recorder behind the `metrics` macros: installed once, rendered on request.
//!
//! Opens no listener; the edge serves the text.

use std::time::SystemTime;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::names::{ALL, BUILD_INFO, Kind, Metric, START_TIME};
use super::process;

/// Makes the process count, with every metric described and set to zero.
///
/// Somebody must call [`PrometheusHandle::run_upkeep`] every few seconds, or render: otherwise the samples of the
/// histograms pile up.
///
/// # Errors
/// [`BuildError`] if something else counts already.
pub fn install_metrics(started_at: SystemTime) -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    register(started_at);
    Ok(handle)
}

/// All metrics in Prometheus' text format, with the process's own measured now.
#[must_use]
pub fn render(handle: &PrometheusHandle) -> String {
    let mut text = handle.render();
    process::append(&mut text);
    text
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    ALL.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        // Without buckets a histogram would be rendered as a summary, which cannot be added up over nodes.
        Kind::Histogram(buckets) => builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets),
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

fn register(started_at: SystemTime) {
    for metric in ALL {
        describe(metric);
        for labels in label_sets(metric) {
            match metric.kind {
                Kind::Counter => metrics::counter!(metric.name, &labels).absolute(0),
                Kind::Gauge => metrics::gauge!(metric.name, &labels).set(0.0),
                Kind::Histogram(_) => drop(metrics::histogram!(metric.name, &labels)),
            }
        }
    }
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let since_1970 = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!(START_TIME).set(since_1970.as_secs_f64());
}

fn describe(metric: &Metric) {
    let unit = metric.unit.unwrap_or(metrics::Unit::Count);
    match metric.kind {
        Kind::Counter => describe_counter!(metric.name, unit, metric.help),
        Kind::Gauge => describe_gauge!(metric.name, unit, metric.help),
        Kind::Histogram(_) => describe_histogram!(metric.name, unit, metric.help),
    }
}

/// Every combination of the values of a metric's labels.
fn label_sets(metric: &Metric) -> Vec<Vec<(&'static str, &'static str)>> {
    metric.labels.iter().fold(vec![vec![]], |sets, label| {
        let extended = |set: &Vec<_>| {
            label.values().into_iter().map(|value| [set.as_slice(), &[(label.name(), value)]].concat()).collect()
        };
        sets.iter().flat_map(|set| -> Vec<_> { extended(set) }).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::telemetry::names;

    /// The text after `count` ran.
    fn rendered(count: impl FnOnce()) -> String {
        let recorder = builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let since_1970 = Duration::from_millis(1_800_000_000_500);
            register(SystemTime::UNIX_EPOCH.checked_add(since_1970).unwrap());
            count();
        });
        render(&recorder.handle())
    }

    /// A rendered text: its comments as (word, metric), and its samples.
    struct Parsed {
        comments: Vec<(String, String)>,
        samples: Vec<(String, f64)>,
    }

    impl Parsed {
        fn of(text: &str) -> Self {
            let (comments, samples): (Vec<&str>, Vec<&str>) =
                text.lines().filter(|line| !line.is_empty()).partition(|line| line.starts_with('#'));
            let comment = |line: &&str| {
                let [_, word, metric] = line.splitn(4, ' ').take(3).collect::<Vec<_>>().try_into().unwrap();
                (str::to_owned(word), str::to_owned(metric))
            };
            let sample = |line: &&str| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                (series.to_owned(), value.parse().unwrap())
            };
            Self { comments: comments.iter().map(comment).collect(), samples: samples.iter().map(sample).collect() }
        }

        fn comments(&self, word: &str, metric: &str) -> usize {
            self.comments.iter().filter(|(w, m)| w == word && m == metric).count()
        }

        fn value(&self, series: &str) -> Option<f64> {
            self.samples.iter().find(|(found, _)| found == series).map(|(_, value)| *value)
        }
    }

    #[test]
    fn every_metric_has_one_help_text_and_one_type_from_the_start() {
        let text = rendered(|| {
            for metric in ALL.iter().filter(|metric| matches!(metric.kind, Kind::Histogram(_))) {
                metrics::histogram!(metric.name).record(0.5);
            }
        });
        let parsed = Parsed::of(&text);
        for metric in ALL {
            assert_eq!(parsed.comments("HELP", metric.name), 1, "{}", metric.name);
            assert_eq!(parsed.comments("TYPE", metric.name), 1, "{}", metric.name);
        }
        let series: HashSet<&String> = parsed.samples.iter().map(|(series, _)| series).collect();
        assert_eq!(series.len(), parsed.samples.len(), "no series stands twice");
        for series in series {
            let name = series.split('{').next().unwrap();
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert_eq!(parsed.comments("HELP", base), 1, "{series}");
        }
    }

    #[test]
    fn a_metric_with_labels_starts_with_every_combination_at_zero() {
        let parsed = Parsed::of(&rendered(|| ()));
        let value = |series| parsed.value(series);
        assert_eq!(value("handoff_sessions_opened_total"), Some(0.0));
        assert_eq!(value("handoff_sessions{state=\"waiting\"}"), Some(0.0));
        assert_eq!(value("handoff_connections_closed_total{role=\"old\",reason=\"too_slow\"}"), Some(0.0));
        assert_eq!(value("handoff_sessions_ended_total{reason=\"scanned_twice\"}"), Some(0.0));
        assert_eq!(value("handoff_sessions_ended_total{reason=\"too_slow\"}"), None, "it ends a connection only");
    }

    #[test]
    fn what_is_counted_is_rendered() {
        let text = rendered(|| {
            metrics::counter!(names::FRAME_BYTES_RELAYED, "from" => "old").increment(4096);
            metrics::histogram!(names::SESSION_JOIN_WAIT).record(Duration::from_millis(7500));
        });
        for line in [
            "handoff_frame_bytes_relayed_total{from=\"old\"} 4096",
            "handoff_session_join_wait_seconds_bucket{le=\"5\"} 0",
            "handoff_session_join_wait_seconds_bucket{le=\"10\"} 1",
            "handoff_session_join_wait_seconds_sum 7.5",
            "process_start_time_seconds 1800000000.5",
            concat!("handoff_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let names: HashSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let name = metric.name;
            assert!(name.starts_with("handoff_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            if metric.unit == Some(metrics::Unit::Seconds) {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted(), "{name}");
            }
        }
    }

    #[test]
    fn a_node_has_few_series() {
        let series: usize = ALL.iter().map(|metric| label_sets(metric).len()).sum();
        assert!(series < 260, "{series}");
    }
}
