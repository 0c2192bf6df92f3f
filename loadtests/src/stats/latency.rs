//! A histogram of durations that can be written, read and merged without losing anything. Not a time series.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::num::{count, micros};

/// The longest duration that is told apart, in microseconds: an hour.
const HIGHEST: u64 = 3_600_000_000;

/// Significant decimal digits of each value.
const DIGITS: u8 = 3;

/// Durations in microseconds, to three digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Latency(Option<Histogram<u64>>);

impl Latency {
    /// Nothing measured yet. A histogram takes its memory with the first value.
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Adds one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, HIGHEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros(duration).max(1));
        }
    }

    /// Adds all durations of another one. Both have the same bounds, so nothing is rounded again.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (None, Some(_)) => self.0.clone_from(&other.0),
            (Some(mine), Some(theirs)) => {
                for value in theirs.iter_recorded() {
                    mine.saturating_record_n(value.value_iterated_to(), value.count_at_value());
                }
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The duration below which this share of them lies; `None` if there is none.
    pub(crate) fn percentile(&self, percent: f64) -> Option<Duration> {
        self.measured(|histogram| histogram.value_at_percentile(percent))
    }

    /// The longest.
    pub(crate) fn max(&self) -> Option<Duration> {
        self.measured(Histogram::max)
    }

    /// The average.
    pub(crate) fn mean(&self) -> Option<Duration> {
        self.measured(|histogram| count(histogram.mean()))
    }

    fn measured(&self, value: impl Fn(&Histogram<u64>) -> u64) -> Option<Duration> {
        self.0
            .as_ref()
            .filter(|histogram| !histogram.is_empty())
            .map(|histogram| Duration::from_micros(value(histogram)))
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(histogram) = &self.0 else { return serializer.serialize_none() };
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_some(&base64(&bytes))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Self(None)) };
        let bytes = from_base64(&text).ok_or_else(|| D::Error::custom("a histogram is not base64"))?;
        let read: Histogram<u64> =
            HdrReader::new().deserialize(&mut bytes.as_slice()).map_err(|_| D::Error::custom("not a V2 histogram"))?;
        if read.sigfig() != DIGITS || read.high() > HIGHEST {
            return Err(D::Error::custom("a histogram has other bounds than 1 microsecond to 1 hour with 3 digits"));
        }
        let mut latency = Self(None);
        latency.merge(&Self(Some(read)));
        Ok(latency)
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The percentiles of reports.
pub(crate) const PERCENTILES: [f64; 5] = [50.0, 90.0, 95.0, 99.0, 99.9];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Latency {
        let mut latency = Latency::new();
        micros.iter().for_each(|value| latency.record(Duration::from_micros(*value)));
        latency
    }

    proptest! {
        #[test]
        fn merged_histograms_are_those_of_the_union(
            a in proptest::collection::vec(0..5_000_000_000_u64, 0..300),
            b in proptest::collection::vec(0..5_000_000_u64, 0..300),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let union = of(&[a, b].concat());
            prop_assert_eq!(&merged, &union);
            for percent in PERCENTILES {
                prop_assert_eq!(merged.percentile(percent), union.percentile(percent));
            }
        }

        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::vec(0..4_000_000_000_u64, 0..300)) {
            let latency = of(&values);
            let text = serde_json::to_string(&latency).unwrap();
            let read: Latency = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read, latency);
        }

        #[test]
        fn a_percentile_is_right_to_three_digits(mut values in proptest::collection::vec(1..3_000_000_000_u64, 1..300)) {
            let latency = of(&values);
            values.sort_unstable();
            let wanted = values[(values.len() - 1) / 2] as f64;
            let median = latency.percentile(50.0).unwrap().as_micros() as f64;
            prop_assert!((median / wanted - 1.0).abs() < 0.001, "{median} instead of {wanted}");
        }
    }

    #[test]
    fn nothing_measured_has_no_percentile() {
        assert_eq!(Latency::new().percentile(50.0), None);
        assert_eq!(serde_json::to_string(&Latency::new()).unwrap(), "null");
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for bad in ["\"%\"", "\"AAAA\"", "7"] {
            assert!(serde_json::from_str::<Latency>(bad).is_err(), "{bad}");
        }
    }
}
