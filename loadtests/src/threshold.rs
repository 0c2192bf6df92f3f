//! What must hold after a run: `group.phase.percentile < duration` or `group.count < number`. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::num::float;
use crate::scenario::{Share, Time};
use crate::stats::{GroupStats, Phase};

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    group: String,
    metric: Metric,
    comparison: Comparison,
    bound: Bound,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Time(Phase, Statistic),
    Count(Counter),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Percentile(f64),
    Max,
    Mean,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Started,
    Completed,
    Failed,
    Setbacks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Time(Duration),
    Number(f64),
    /// Of the sessions that were started.
    Share(f64),
}

/// How a threshold came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Whether it holds.
    pub(crate) holds: bool,
    /// What was measured, for people.
    pub(crate) measured: String,
}

impl Threshold {
    /// The group it is about.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The phase it is about, if it is about a time.
    pub(crate) fn phase(&self) -> Option<Phase> {
        match self.metric {
            Metric::Time(phase, _) => Some(phase),
            Metric::Count(_) => None,
        }
    }

    /// Whether it holds. What was never measured does not.
    pub(crate) fn judge(&self, group: &GroupStats) -> Judged {
        let (value, bound, measured) = match (self.metric, self.bound) {
            (Metric::Time(phase, statistic), Bound::Time(bound)) => {
                let Some(time) = statistic.of(group, phase) else {
                    return Judged { holds: false, measured: "nothing was measured".to_owned() };
                };
                (time.as_secs_f64(), bound.as_secs_f64(), format!("{time:.1?}"))
            }
            (Metric::Count(counter), Bound::Share(share)) => {
                let (count, all) = (float(counter.of(group)), float(group.started()));
                if all == 0.0 {
                    return Judged { holds: false, measured: "nothing was started".to_owned() };
                }
                (count / all, share, format!("{:.2}%", count / all * 100.0))
            }
            (Metric::Count(counter), Bound::Number(number)) => {
                (float(counter.of(group)), number, counter.of(group).to_string())
            }
            (Metric::Time(..), Bound::Number(_) | Bound::Share(_)) | (Metric::Count(_), Bound::Time(_)) => {
                return Judged { holds: false, measured: "cannot be compared".to_owned() };
            }
        };
        Judged { holds: self.comparison.holds(value, bound), measured }
    }
}

impl Statistic {
    fn of(self, group: &GroupStats, phase: Phase) -> Option<Duration> {
        let latency = group.phases.get(&phase)?;
        match self {
            Self::Percentile(percent) => latency.percentile(percent),
            Self::Max => latency.max(),
            Self::Mean => latency.mean(),
        }
    }
}

impl Counter {
    fn of(self, group: &GroupStats) -> u64 {
        match self {
            Self::Started => group.started(),
            Self::Completed => group.completed(),
            Self::Failed => group.failed(),
            Self::Setbacks => group.setbacks.values().sum(),
        }
    }
}

impl Comparison {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Less => value < bound,
            Self::LessOrEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterOrEqual => value >= bound,
            Self::Equal => (value - bound).abs() < f64::EPSILON,
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        let [subject, comparison, bound] = words.as_slice() else {
            return Err(format!("\"{text}\" is no threshold; write it like \"handoffs.total.p99 < 500ms\""));
        };
        let parts: Vec<&str> = subject.split('.').collect();
        let (group, metric) = match parts.as_slice() {
            [group, counter] => (*group, Metric::Count(counter.parse()?)),
            [group, phase, statistic] => (*group, Metric::Time(phase.parse()?, statistic.parse()?)),
            // A percentile with a decimal point.
            [group, phase, whole, decimals] => {
                (*group, Metric::Time(phase.parse()?, format!("{whole}.{decimals}").parse()?))
            }
            _ => return Err(format!("\"{subject}\" names neither group.phase.percentile nor group.count")),
        };
        let bound = match metric {
            Metric::Time(..) => Bound::Time(bound.parse::<Time>()?.0),
            Metric::Count(_) if bound.ends_with('%') => Bound::Share(bound.parse::<Share>()?.0),
            Metric::Count(_) => Bound::Number(
                bound.parse::<u32>().map_err(|_| format!("\"{bound}\" is neither a number nor a share"))?.into(),
            ),
        };
        Ok(Self { group: group.to_owned(), metric, comparison: comparison.parse()?, bound, text: text.to_owned() })
    }
}

impl FromStr for Comparison {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "<" => Ok(Self::Less),
            "<=" => Ok(Self::LessOrEqual),
            ">" => Ok(Self::Greater),
            ">=" => Ok(Self::GreaterOrEqual),
            "==" => Ok(Self::Equal),
            _ => Err(format!("\"{text}\" is no comparison; there are <, <=, >, >= and ==")),
        }
    }
}

impl FromStr for Counter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "started" => Ok(Self::Started),
            "completed" => Ok(Self::Completed),
            "failed" => Ok(Self::Failed),
            "setbacks" => Ok(Self::Setbacks),
            _ => Err(format!("there is no count `{text}`; there are started, completed, failed and setbacks")),
        }
    }
}

impl FromStr for Statistic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => return Ok(Self::Max),
            "mean" => return Ok(Self::Mean),
            _ => {}
        }
        let percent = text.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        percent
            .map(Self::Percentile)
            .ok_or_else(|| format!("there is no statistic `{text}`; write p50, p99.9, max or mean"))
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Kind;

    fn stats() -> GroupStats {
        let mut stats = GroupStats::new("handoffs", Kind::Handoff);
        for number in 1..=100 {
            stats.start(0);
            let ending = if number > 98 { Err("expired") } else { Ok(Some(Duration::from_millis(number))) };
            stats.end(0, ending);
        }
        stats
    }

    fn judge(text: &str) -> Judged {
        text.parse::<Threshold>().unwrap().judge(&stats())
    }

    #[test]
    fn a_threshold_compares_what_was_measured() {
        for (text, holds) in [
            ("handoffs.total.p50 < 51ms", true),
            ("handoffs.total.p50 < 49ms", false),
            ("handoffs.total.p99.9 <= 99ms", true),
            ("handoffs.total.max > 99ms", false),
            ("handoffs.total.mean >= 40ms", true),
            ("handoffs.failed == 2", true),
            ("handoffs.failed < 2%", false),
            ("handoffs.failed <= 2%", true),
            ("handoffs.completed >= 98%", true),
            ("handoffs.started == 100", true),
            ("handoffs.setbacks == 0", true),
        ] {
            assert_eq!(judge(text).holds, holds, "{text}: {}", judge(text).measured);
        }
    }

    #[test]
    fn what_was_never_measured_does_not_hold() {
        assert_eq!(judge("handoffs.resume.p99 < 1h"), Judged { holds: false, measured: "nothing was measured".into() });
        let nobody = GroupStats::new("handoffs", Kind::Handoff);
        assert!(!"handoffs.failed < 1%".parse::<Threshold>().unwrap().judge(&nobody).holds);
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_its_word() {
        for (text, word) in [
            ("handoffs.total.p99", "handoffs.total.p99"),
            ("handoffs < 3", "handoffs"),
            ("handoffs.total.q99 < 3ms", "q99"),
            ("handoffs.total.p101 < 3ms", "p101"),
            ("handoffs.totl.p99 < 3ms", "totl"),
            ("handoffs.lost < 3", "lost"),
            ("handoffs.total.p99 < 3", "\"3\""),
            ("handoffs.failed < 3ms", "3ms"),
            ("handoffs.failed != 3", "!="),
        ] {
            let problem = text.parse::<Threshold>().unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
