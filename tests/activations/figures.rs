//! Times, and what is said of them.

use std::collections::BTreeMap;
use std::time::Duration;

/// Times by what took them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(BTreeMap<&'static str, Vec<Duration>>);

impl Times {
    pub(crate) fn note(&mut self, what: &'static str, time: Duration) {
        self.0.entry(what).or_default().push(time);
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (what, times) in other.0 {
            self.0.entry(what).or_default().extend(times);
        }
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.0.get(what).map_or(0, Vec::len)
    }

    /// One line for each of these, in this order.
    pub(crate) fn print(&mut self, order: &[&'static str]) {
        for what in order {
            let times = self.0.get_mut(what).unwrap();
            println!("  {what:22} {}", quantiles(times));
        }
    }
}

/// Median, 99 of a hundred, and the longest.
pub(crate) fn quantiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |of: usize| times[(times.len() * of / 100).min(times.len() - 1)];
    let ms = |time: Duration| format!("{:8.1} ms", time.as_secs_f64() * 1000.0);
    format!("median {}, p99 {}, longest {}  ({} of them)", ms(at(50)), ms(at(99)), ms(at(100)), times.len())
}
