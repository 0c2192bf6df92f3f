//! What a run came to: the document that `--json` writes, its merging, and its judgement. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::num::index;
use crate::stats::GroupStats;
use crate::threshold::Threshold;

/// The version of the document; another one is refused.
pub(crate) const SCHEMA: u32 = 1;

/// Everything that is known after a run, or after several that were merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Results {
    /// [`SCHEMA`].
    pub(crate) schema: u32,
    /// The scenario's name.
    pub(crate) scenario: String,
    /// What it shows.
    pub(crate) about: String,
    /// Where the relay was.
    pub(crate) urls: Vec<String>,
    /// `real` or `replay`.
    pub(crate) crypto: String,
    /// When the run began, in milliseconds since 1970.
    pub(crate) started_unix_ms: u64,
    /// How long it took.
    pub(crate) duration_ms: u64,
    /// The length of an interval of the series.
    pub(crate) interval_ms: u64,
    /// When connections were cut, since the start.
    pub(crate) cuts_ms: Vec<u64>,
    /// The scenario's thresholds.
    pub(crate) thresholds: Vec<String>,
    /// By group.
    pub(crate) groups: Vec<GroupStats>,
    /// Each generator's.
    pub(crate) generators: Vec<Health>,
    /// What the program that wrote this thought of it. Not read: it is computed anew.
    #[serde(default)]
    pub(crate) verdict: Verdict,
}

/// What a run says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All thresholds hold.
    Passed,
    /// One does not.
    Missed,
    /// A generator was the bottleneck, or something else makes it worthless.
    #[default]
    NotToBeJudged,
}

/// One threshold and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) threshold: String,
    pub(crate) holds: bool,
    pub(crate) measured: String,
}

/// Why documents cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotMergeable {
    /// Nothing to merge.
    #[error("there is nothing to merge")]
    Nothing,
    /// They are about different things.
    #[error("the runs have different {0}: only runs of one scenario can be merged")]
    Different(&'static str),
    /// Made by another version of this program.
    #[error("the document has schema {0}, and this program knows only {SCHEMA}")]
    Schema(u32),
}

impl Results {
    /// Reads a document.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        // Asked first, so that a newer document is not refused for a field that nobody has heard of.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.schema != SCHEMA {
            return Err(NotMergeable::Schema(head.schema).into());
        }
        Ok(serde_json::from_str(text)?)
    }

    /// One document of several generators that ran at the same time.
    pub(crate) fn merge(all: Vec<Self>) -> Result<Self, NotMergeable> {
        let start = all.iter().map(|one| one.started_unix_ms).min().ok_or(NotMergeable::Nothing)?;
        let mut rest = all.into_iter();
        let mut merged = rest.next().ok_or(NotMergeable::Nothing)?;
        merged.shift_to(start);
        for other in rest {
            merged.take(&other)?;
        }
        Ok(merged.judged())
    }

    fn take(&mut self, other: &Self) -> Result<(), NotMergeable> {
        let names =
            |results: &Self| results.groups.iter().map(|group| (group.name.clone(), group.kind)).collect::<Vec<_>>();
        for (what, is_same) in [
            ("scenarios", self.scenario == other.scenario),
            ("thresholds", self.thresholds == other.thresholds),
            ("intervals", self.interval_ms == other.interval_ms),
            ("kinds of cryptography", self.crypto == other.crypto),
            ("groups", names(self) == names(other)),
        ] {
            if !is_same {
                return Err(NotMergeable::Different(what));
            }
        }
        let later_ms = other.started_unix_ms.saturating_sub(self.started_unix_ms);
        let later = self.intervals_in(later_ms);
        for (mine, theirs) in self.groups.iter_mut().zip(&other.groups) {
            mine.merge(theirs, later);
        }
        self.cuts_ms.extend(other.cuts_ms.iter().map(|cut| cut.saturating_add(later_ms)));
        self.duration_ms = self.duration_ms.max(later_ms.saturating_add(other.duration_ms));
        self.generators.extend(other.generators.iter().cloned());
        for url in &other.urls {
            if !self.urls.contains(url) {
                self.urls.push(url.clone());
            }
        }
        Ok(())
    }

    /// Places everything on the clock of a generator that began earlier.
    fn shift_to(&mut self, start: u64) {
        let later = self.started_unix_ms.saturating_sub(start);
        let intervals = self.intervals_in(later);
        self.groups.iter_mut().for_each(|group| group.delay(intervals));
        self.cuts_ms.iter_mut().for_each(|cut| *cut = cut.saturating_add(later));
        self.duration_ms = self.duration_ms.saturating_add(later);
        self.started_unix_ms = start;
    }

    fn intervals_in(&self, millis: u64) -> usize {
        let width = self.interval_ms.max(1);
        index(millis.saturating_add(width / 2).checked_div(width).unwrap_or_default())
    }

    /// How each threshold came out.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let judge = |text: &String| {
            let Ok(threshold) = text.parse::<Threshold>() else {
                return Outcome { threshold: text.clone(), holds: false, measured: "cannot be read".to_owned() };
            };
            let group = self.groups.iter().find(|group| group.name == threshold.group());
            let (holds, measured) = group.map_or_else(
                || (false, "no such group".to_owned()),
                |group| {
                    let judged = threshold.judge(group);
                    (judged.holds, judged.measured)
                },
            );
            Outcome { threshold: text.clone(), holds, measured }
        };
        self.thresholds.iter().map(judge).collect()
    }

    /// Why nothing must be concluded; empty if something may.
    pub(crate) fn findings(&self) -> Vec<String> {
        let several = self.generators.len() > 1;
        let numbered = self.generators.iter().enumerate().flat_map(|(number, health)| {
            health.findings().into_iter().map(move |finding| {
                if several { format!("generator {}: {finding}", number.saturating_add(1)) } else { finding }
            })
        });
        numbered.collect()
    }

    /// What the relay's limits turned away, in words; empty if nothing.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let count = |names: &[&str]| -> u64 {
            let setbacks = self.groups.iter().flat_map(|group| group.setbacks.iter().chain(&group.answers));
            setbacks.filter(|(name, _)| names.contains(&name.as_str())).map(|(_, count)| *count).sum()
        };
        let mut refusals = Vec::new();
        for (names, text) in [
            (
                ["http_429"].as_slice(),
                "connections were refused with HTTP 429: the relay's limits for one address (limits.*_per_address). Raise them for the test, or use more --source-addresses",
            ),
            (
                ["http_503"].as_slice(),
                "connections were refused with HTTP 503: the relay is at limits.connections or limits.sessions, is shutting down, or has no Redis",
            ),
            (
                ["overloaded"].as_slice(),
                "sessions were turned away with `overloaded`: the relay is at limits.sessions or limits.opens_*, or its Redis does not answer",
            ),
        ] {
            let count = count(names);
            if count > 0 {
                refusals.push(format!("{count} {text}"));
            }
        }
        refusals
    }

    /// What the run says.
    pub(crate) fn judge(&self) -> Verdict {
        let nothing_happened = self.groups.iter().all(|group| group.started() == 0);
        if nothing_happened || !self.findings().is_empty() {
            Verdict::NotToBeJudged
        } else if self.outcomes().iter().all(|outcome| outcome.holds) {
            Verdict::Passed
        } else {
            Verdict::Missed
        }
    }

    /// The same, with its judgement written down.
    pub(crate) fn judged(mut self) -> Self {
        self.verdict = self.judge();
        self
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

impl Verdict {
    /// In one sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Passed => "PASSED: all thresholds hold",
            Self::Missed => "MISSED: at least one threshold does not hold",
            Self::NotToBeJudged => "NOT TO BE JUDGED: the generator was the bottleneck, or nothing was measured",
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Missed => 1,
            Self::NotToBeJudged => 2,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::{Seen, Usage};
    use crate::scenario::{GeneratorLimits, Kind};
    use crate::stats::{Latency, Phase};

    const START: u64 = 1_700_000_000_000;

    /// What a generator saw that completed a hundred handoffs, each `factor` times as slow as in the first.
    pub(crate) fn results(factor: u64) -> Results {
        let mut group = GroupStats::new("handoffs", Kind::Handoff);
        for number in 1..=100 {
            group.start(0);
            group.end(1, Ok(Some(Duration::from_millis(number * factor))));
        }
        let health =
            Health::new(GeneratorLimits::default(), Seen::default(), Latency::new(), Usage::default(), 1024, false);
        Results {
            schema: SCHEMA,
            scenario: "test".to_owned(),
            about: "nothing".to_owned(),
            urls: vec!["ws://127.0.0.1:1".to_owned()],
            crypto: "real".to_owned(),
            started_unix_ms: START,
            duration_ms: 2000,
            interval_ms: 1000,
            cuts_ms: Vec::new(),
            thresholds: vec!["handoffs.total.p99 < 150ms".to_owned(), "handoffs.failed == 0".to_owned()],
            groups: vec![group],
            generators: vec![health],
            verdict: Verdict::default(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let results = results(1).judged();
        assert_eq!(results.verdict, Verdict::Passed);
        assert_eq!(Results::parse(&serde_json::to_string(&results).unwrap()).unwrap(), results);
    }

    #[test]
    fn merged_results_are_judged_by_all_of_them() {
        let merged = Results::merge(vec![results(1), results(2)]).unwrap();
        assert_eq!(merged.groups[0].completed(), 200);
        assert_eq!(merged.groups[0].phases[&Phase::Total].len(), 200);
        assert_eq!(merged.verdict, Verdict::Missed);
        assert_eq!(merged.generators.len(), 2);
    }

    #[test]
    fn a_generator_that_began_later_is_placed_later_whatever_the_order() {
        let mut late = results(1);
        late.started_unix_ms = START + 3000;
        for all in [vec![results(1), late.clone()], vec![late.clone(), results(1)]] {
            let merged = Results::merge(all).unwrap();
            let started: Vec<u64> = merged.groups[0].series.iter().map(|bucket| bucket.started).collect();
            let completed: Vec<u64> = merged.groups[0].series.iter().map(|bucket| bucket.completed).collect();
            assert_eq!(started, [100, 0, 0, 100, 0]);
            assert_eq!(completed, [0, 100, 0, 0, 100]);
            assert_eq!((merged.started_unix_ms, merged.duration_ms), (START, 5000));
        }
    }

    #[test]
    fn runs_of_different_things_are_not_merged() {
        let changes: [(&str, fn(&mut Results)); 4] = [
            ("scenarios", |results| results.scenario = "other".to_owned()),
            ("thresholds", |results| results.thresholds.clear()),
            ("intervals", |results| results.interval_ms = 5),
            ("groups", |results| results.groups.clear()),
        ];
        for (what, change) in changes {
            let mut other = results(1);
            change(&mut other);
            assert_eq!(Results::merge(vec![results(1), other]), Err(NotMergeable::Different(what)));
        }
        assert_eq!(Results::merge(Vec::new()), Err(NotMergeable::Nothing));
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        let problem = Results::parse("{\"schema\": 2, \"new\": true}").unwrap_err().to_string();
        assert!(problem.contains("schema 2"), "{problem}");
    }

    #[test]
    fn a_generator_that_did_not_keep_up_makes_a_run_worthless_even_if_thresholds_were_missed() {
        let mut results = results(2);
        assert_eq!(results.judge(), Verdict::Missed);
        results.generators[0].out_of_ports = 1;
        assert_eq!(results.judge(), Verdict::NotToBeJudged);
        let nobody = Results { groups: vec![GroupStats::new("handoffs", Kind::Handoff)], ..self::results(1) };
        assert_eq!(nobody.judge(), Verdict::NotToBeJudged);
    }

    #[test]
    fn refusals_by_limits_are_told_in_words() {
        let mut results = results(1);
        assert!(results.refusals().is_empty());
        results.groups[0].setback("http_429");
        results.groups[0].answer("http_429");
        results.groups[0].setback("overloaded");
        let refusals = results.refusals();
        assert!(refusals[0].starts_with("2 connections") && refusals[0].contains("limits.*_per_address"));
        assert!(refusals[1].starts_with("1 sessions"));
    }
}
