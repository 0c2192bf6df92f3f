//! Results for people: on a terminal while they come in, as text at the end, as one HTML file to keep. Computes
//! nothing that is not shown.

mod chart;
pub(crate) mod html;
pub(crate) mod live;
mod ranges;
pub(crate) mod text;

use std::time::Duration;

/// A duration in the unit that people would choose.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 100.0 {
        format!("{seconds:.0} s")
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

/// A duration, or a dash where there is none.
pub(crate) fn maybe_time(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), time)
}
