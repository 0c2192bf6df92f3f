//! The process's own metrics, under the names that every Prometheus client library uses.
//!
//! Written as text, not counted through `metrics`: its counters are whole numbers, and CPU seconds are not. What the
//! operating system does not tell (`/proc` is Linux') is left out.

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Appends the metrics as they are now.
pub(super) fn append(text: &mut String) {
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n").ok();
        }
    };
    metric("process_cpu_seconds_total", "counter", "User and system CPU time spent, in seconds.", cpu_seconds());
    metric("process_resident_memory_bytes", "gauge", "Resident memory, in bytes.", resident_bytes());
    metric("process_open_fds", "gauge", "Open file descriptors.", open_fds());
    metric("process_max_fds", "gauge", "Most file descriptors that may be open.", max_open_files().map(to_f64));
}

/// The limit of open files of this process; `None` where there is none.
#[must_use]
pub fn max_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[expect(clippy::unnecessary_wraps, reason = "like the others")]
fn cpu_seconds() -> Option<f64> {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let whole = u32::try_from(spent.tv_sec).ok().map(f64::from);
    let nanos = u32::try_from(spent.tv_nsec).ok().map(f64::from);
    Some(whole.unwrap_or(0.0) + nanos.unwrap_or(0.0) / 1e9)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(to_f64(kibibytes.saturating_mul(1024)))
}

fn open_fds() -> Option<f64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // The directory itself was open while it was counted.
    Some(to_f64(u64::try_from(entries).ok()?.saturating_sub(1)))
}

/// Exact up to 2^53, far beyond what is measured here.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "there is no lossless conversion")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn the_process_is_measured_when_it_is_asked() {
        let mut before = String::new();
        append(&mut before);
        assert!(value(&before, "process_cpu_seconds_total") > 0.0);
        assert!(value(&before, "process_resident_memory_bytes") > 1e6);
        assert!(value(&before, "process_max_fds") >= value(&before, "process_open_fds"));
        let held: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let mut after = String::new();
        append(&mut after);
        // Other tests open and close files meanwhile.
        assert!(value(&after, "process_open_fds") > value(&before, "process_open_fds") + 50.0);
        drop(held);
    }
}
