//! What was measured, as one table for people and JSON for machines.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// One figure, and the goal for it if there is one.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub measure: &'static str,
    pub what: String,
    pub value: f64,
    pub unit: &'static str,
    /// The most that is allowed.
    pub at_most: Option<f64>,
}

impl Figure {
    pub fn is_met(&self) -> Option<bool> {
        self.at_most.map(|most| self.value <= most)
    }
}

/// All figures of a run, in order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub figures: Vec<Figure>,
}

impl Report {
    /// Notes a figure.
    pub fn note(&mut self, measure: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { measure, what: what.into(), value, unit, at_most: None });
    }

    /// Notes a figure that has a goal.
    pub fn goal(
        &mut self,
        measure: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        at_most: f64,
    ) {
        self.figures.push(Figure { measure, what: what.into(), value, unit, at_most: Some(at_most) });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:9} {:52} {:>10} {:18} {:>8}", "measure", "what", "figure", "unit", "goal")?;
        for figure in &self.figures {
            let mut goal = String::new();
            if let (Some(most), Some(is_met)) = (figure.at_most, figure.is_met()) {
                write!(goal, "{most:8} {}", if is_met { "met" } else { "MISSED" })?;
            }
            let Figure { measure, what, value, unit, .. } = figure;
            writeln!(f, "{measure:9} {what:52} {value:10.3} {unit:18} {goal}")?;
        }
        Ok(())
    }
}
