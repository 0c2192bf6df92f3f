//! Whether the generator itself kept up: a run in which it did not says nothing about the relay. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::num::{float, length, micros};
use crate::run::{Seen, Usage, cores};
use crate::scenario::GeneratorLimits;
use crate::stats::Latency;

/// Seconds over which CPU use is averaged: one busy second delays, ten busy ones falsify.
const CPU_WINDOW: usize = 10;

/// How one generator fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// Cores it may use.
    pub(crate) cores: f64,
    /// Share of them that it used on average.
    pub(crate) cpu_mean: f64,
    /// And in the busiest ten seconds.
    pub(crate) cpu_worst: f64,
    /// How late its timers fired.
    pub(crate) timer_lag: Latency,
    /// How late sessions started.
    pub(crate) start_lag: Latency,
    /// Files it may open.
    pub(crate) files: u64,
    /// Connections that it made.
    pub(crate) connections: u64,
    /// And had open at once.
    pub(crate) most_connections: u64,
    /// Loopback source addresses that it used in the end.
    pub(crate) sources: u64,
    /// Connections it could not make because it had too many files open.
    pub(crate) out_of_files: u64,
    /// Connections it could not make because all ports were taken.
    pub(crate) out_of_ports: u64,
    /// Somebody has ended the run early.
    pub(crate) interrupted: bool,
    /// What it must not exceed.
    pub(crate) limits: Limits,
}

/// Bounds of a generator's health.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Share of its cores in any ten seconds.
    pub(crate) cpu: f64,
    /// The 99th percentile of timers' lateness, in microseconds.
    pub(crate) timer_lag_us: u64,
    /// The 99th percentile of late starts, in microseconds.
    pub(crate) start_lag_us: u64,
}

impl Health {
    pub(crate) fn new(
        limits: GeneratorLimits,
        seen: Seen,
        start_lag: Latency,
        usage: Usage,
        files: u64,
        interrupted: bool,
    ) -> Self {
        let cores = cores();
        Self {
            cores,
            cpu_mean: mean(&seen.cores_used) / cores,
            cpu_worst: worst(&seen.cores_used) / cores,
            timer_lag: seen.timer_lag,
            start_lag,
            files,
            connections: usage.connections,
            most_connections: usage.most_open,
            sources: usage.sources,
            out_of_files: usage.out_of_files,
            out_of_ports: usage.out_of_ports,
            interrupted,
            limits: Limits {
                cpu: limits.cpu.0,
                timer_lag_us: micros(limits.timer_lag.0),
                start_lag_us: micros(limits.start_lag.0),
            },
        }
    }

    /// Why the run must not be judged; empty if it may.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let Limits { cpu, timer_lag_us, start_lag_us } = self.limits;
        if self.cpu_worst > cpu {
            findings.push(format!(
                "the generator used {:.0}% of its {} cores in its busiest {CPU_WINDOW} seconds (limit {:.0}%): give it more cores, run several generators, or use --crypto replay",
                self.cpu_worst * 100.0,
                self.cores,
                cpu * 100.0
            ));
        }
        for (what, lag, limit) in [
            ("its timers fired", &self.timer_lag, timer_lag_us),
            ("its sessions started", &self.start_lag, start_lag_us),
        ] {
            let limit = Duration::from_micros(limit);
            if let Some(late) = lag.percentile(99.0).filter(|late| *late > limit) {
                findings.push(format!(
                    "{what} {late:.0?} late at the 99th percentile (limit {limit:.0?}): the generator, or the machine it runs on, was overloaded"
                ));
            }
        }
        if self.out_of_files > 0 {
            findings.push(format!(
                "{} connections were not made because the generator may open only {} files: raise the limit (ulimit -n)",
                self.out_of_files, self.files
            ));
        }
        if self.out_of_ports > 0 {
            findings.push(format!(
                "{} connections were not made because all local ports were taken: run generators on several machines, or widen net.ipv4.ip_local_port_range",
                self.out_of_ports
            ));
        }
        if self.interrupted {
            findings.push("the run was interrupted".to_owned());
        }
        findings
    }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / float(length(values.len())) }
}

/// The highest average over a window, or over everything if that is shorter.
fn worst(values: &[f64]) -> f64 {
    let window = CPU_WINDOW.min(values.len()).max(1);
    values.windows(window).map(mean).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(change: impl FnOnce(&mut Seen, &mut Usage)) -> Vec<String> {
        let (mut seen, mut usage) = (Seen::default(), Usage::default());
        seen.timer_lag.record(Duration::from_millis(1));
        change(&mut seen, &mut usage);
        Health::new(GeneratorLimits::default(), seen, Latency::new(), usage, 1024, false).findings()
    }

    #[test]
    fn a_generator_that_kept_up_has_no_findings() {
        assert_eq!(health(|_, _| {}), Vec::<String>::new());
    }

    #[test]
    fn whatever_ran_out_is_named() {
        let findings = health(|seen, usage| {
            seen.cores_used = vec![cores(); 10];
            seen.timer_lag.record(Duration::from_secs(1));
            (usage.out_of_files, usage.out_of_ports) = (3, 4);
        });
        for (finding, word) in findings.iter().zip(["busiest", "timers", "1024 files", "ports"]) {
            assert!(finding.contains(word), "{finding}");
        }
        assert_eq!(findings.len(), 4);
    }

    #[test]
    fn one_busy_second_is_not_the_busiest_ten() {
        let mut used = vec![0.1; 30];
        used[7] = 10.0;
        assert!((worst(&used) - 1.09).abs() < 1e-9, "{}", worst(&used));
        assert!((worst(&[0.5, 1.5]) - 1.0).abs() < 1e-9);
        assert!(worst(&[]).abs() < 1e-9);
    }
}
