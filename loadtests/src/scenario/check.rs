//! Reads a scenario and refuses what makes no sense, with the name of what is wrong. Does not touch files.

use std::collections::BTreeSet;
use std::time::Duration;

use handoff_relay::protocol::limits;

use super::{Arrivals, Attacks, Group, Kind, Scenario, Stage, Time};
use crate::think::Think;

/// The longest run: a day, so that a slip of the pen does not become a year.
const LONGEST: Duration = Duration::from_hours(24);

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadScenario {
    /// Not TOML, or not of this shape; says where.
    #[error("{0}")]
    Unreadable(String),
    /// Of the right shape, but it makes no sense.
    #[error("{place}: {problem}")]
    Senseless {
        /// Which part.
        place: String,
        /// What about it.
        problem: String,
    },
}

impl Scenario {
    /// Reads a scenario file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, BadScenario> {
        let scenario: Self =
            toml::from_str(text).map_err(|problem| BadScenario::Unreadable(problem.to_string().trim().to_owned()))?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), BadScenario> {
        let names: BTreeSet<&str> = self.groups.iter().map(|group| group.name.as_str()).collect();
        if self.groups.is_empty() {
            return refuse("group", "there is none: say who arrives");
        }
        if names.len() < self.groups.len() {
            return refuse("group", "two have the same name");
        }
        if !(Duration::from_secs(1)..=limits::SESSION_LIFETIME).contains(&self.relay.lifetime.0) {
            return refuse("relay.lifetime", "a session lives 1 s to 180 s");
        }
        if !(limits::MIN_FRAME_INTERVAL..=self.relay.lifetime.0).contains(&self.relay.frame_interval.0) {
            return refuse("relay.frame_interval", "a QR frame is shown for 1 s, or longer, up to the lifetime");
        }
        for group in &self.groups {
            group.check()?;
        }
        for threshold in &self.thresholds {
            let Some(group) = self.groups.iter().find(|group| group.name == threshold.group()) else {
                return refuse(&format!("thresholds: \"{threshold}\""), "there is no group of that name");
            };
            if let Some(phase) = threshold.phase().filter(|phase| !phase.happens_to(group.kind)) {
                return refuse(&format!("thresholds: \"{threshold}\""), &format!("this group has no phase {phase}"));
            }
        }
        if self.end() > LONGEST {
            return refuse("group", "the run would take longer than a day");
        }
        Ok(())
    }

    /// From the start to the last arrival.
    pub(crate) fn duration(&self) -> Duration {
        self.groups.iter().map(|group| group.arrivals.duration()).max().unwrap_or_default()
    }

    /// From the start to the latest end.
    pub(crate) fn end(&self) -> Duration {
        self.duration().saturating_add(self.drain.0)
    }
}

impl Arrivals {
    /// From the start to the last arrival.
    pub(crate) fn duration(&self) -> Duration {
        match self {
            Self::Open { stages, after, .. } => {
                stages.iter().map(|stage| stage.duration().0).sum::<Duration>().saturating_add(after.0)
            }
            Self::Closed { lasting, .. } => lasting.0,
        }
    }
}

impl Stage {
    fn duration(&self) -> Time {
        match *self {
            Self::Constant { lasting, .. }
            | Self::Ramp { lasting, .. }
            | Self::Spike { lasting, .. }
            | Self::Step { lasting, .. } => lasting,
            Self::Burst { within, .. } => within,
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let rates = match *self {
            Self::Constant { rate, .. } => [rate, rate],
            Self::Ramp { from, to, .. } | Self::Step { from, to, .. } => [from, to],
            Self::Spike { base, peak, .. } => [base, peak],
            Self::Burst { .. } => [0.0, 0.0],
        };
        if self.duration().0.is_zero() {
            Some("a stage takes some time")
        } else if !rates.iter().all(|rate| (0.0..=1e6).contains(rate)) {
            Some("a rate is 0 to 1,000,000 a second")
        } else if matches!(self, Self::Step { steps: 0, .. } | Self::Burst { count: 0, .. }) {
            Some("`steps` and `count` are at least 1")
        } else {
            None
        }
    }
}

impl Group {
    fn check(&self) -> Result<(), BadScenario> {
        let place = |field: &str| format!("group \"{}\": {field}", self.name);
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(is_word) {
            return refuse(&place("name"), "lower-case letters, digits, - and _ only");
        }
        if let Arrivals::Closed { users: 0, .. } = self.arrivals {
            return refuse(&place("arrivals.users"), "at least 1");
        }
        if let Arrivals::Closed { pause, .. } = &self.arrivals {
            self.check_think("arrivals.pause", pause)?;
        }
        if let Arrivals::Open { stages, .. } = &self.arrivals {
            if stages.is_empty() {
                return refuse(&place("arrivals.stages"), "there is none");
            }
            if let Some(problem) = stages.iter().find_map(Stage::problem) {
                return refuse(&place("arrivals.stages"), problem);
            }
        }
        self.check_think("phone.scan", &self.phone.scan)?;
        self.check_think("phone.type_code", &self.phone.type_code)?;
        if self.phone.credential > limits::MAX_CREDENTIAL_BYTES {
            return refuse(&place("phone.credential"), "more than 256 KiB");
        }
        if self.phone.type_code.most() >= limits::CHECK_CODE_TIMEOUT {
            return refuse(&place("phone.type_code"), "the code must be typed within 60 s");
        }
        let wanted = self.kind == Kind::Abuse;
        if wanted != (self.attacks != Attacks::default()) {
            let problem = if wanted { "say which, with weights" } else { "only for `kind = \"abuse\"`" };
            return refuse(&place("attacks"), problem);
        }
        Ok(())
    }

    fn check_think(&self, field: &str, think: &Think) -> Result<(), BadScenario> {
        match think.problem() {
            Some(problem) => refuse(&format!("group \"{}\": {field}", self.name), problem),
            None => Ok(()),
        }
    }
}

fn refuse<T>(place: &str, problem: &str) -> Result<T, BadScenario> {
    Err(BadScenario::Senseless { place: place.to_owned(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::BUILT_IN;
    use super::*;

    const GOOD: &str = r#"
        name = "test"
        about = "nothing"
        drain = "10s"
        thresholds = ["handoffs.total.p99 < 500ms", "handoffs.failed == 0"]

        [[group]]
        name = "handoffs"
        kind = "handoff"
        arrivals = { model = "open", stages = [{ kind = "constant", rate = 5.0, for = "10s" }] }
    "#;

    fn problem(change: impl Fn(&str) -> String) -> String {
        Scenario::parse(&change(GOOD)).unwrap_err().to_string()
    }

    #[test]
    fn every_built_in_scenario_is_valid_and_has_its_files_name() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.thresholds.is_empty(), "{name} judges nothing");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_its_name_and_line() {
        for (old, new, key) in [
            ("drain =", "drian =", "drian"),
            ("rate =", "rat =", "rat"),
            ("kind = \"handoff\"", "kind = \"handoff\"\nphone = { scann = {} }", "scann"),
            ("[[group]]", "[relay]\nlife = \"1s\"\n[[group]]", "life"),
            ("model = \"open\"", "model = \"open\", when = 1", "when"),
        ] {
            let problem = problem(|good| good.replace(old, new));
            assert!(problem.contains(&format!("unknown field `{key}`")), "{problem}");
            assert!(problem.contains("line "), "{problem}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (old, new, place) in [
            ("rate = 5.0", "rate = -5.0", "arrivals.stages"),
            ("for = \"10s\"", "for = \"0s\"", "arrivals.stages"),
            ("name = \"handoffs\"", "name = \"A b\"", "name"),
            ("< 500ms", "<~ 500ms", "<~"),
            ("handoffs.failed", "others.failed", "others.failed"),
            ("total.p99", "ended.p99", "no phase ended"),
            ("kind = \"handoff\"", "kind = \"abuse\"", "attacks"),
            ("[[group]]", "[relay]\nlifetime = \"10m\"\n[[group]]", "relay.lifetime"),
            ("drain = \"10s\"", "drain = \"10\"", "not a duration"),
            ("for = \"10s\"", "for = \"25h\"", "longer than a day"),
        ] {
            let problem = problem(|good| good.replacen(old, new, 1));
            assert!(problem.contains(place), "{new}: {problem}");
        }
    }
}
