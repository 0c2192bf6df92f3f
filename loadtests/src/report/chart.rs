//! Line charts as inline SVG: axes, grid, legend, nothing that needs a script. Draws what it is given.

use std::fmt::Write as _;

use crate::num::{float, length};

/// Size of a chart in its own units; it grows with the page.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;

/// Room for the labels.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;

/// Lines of the grid, about.
const TICKS: f64 = 5.0;

/// One line of a chart: a value for each interval, or none.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// A class of the page's style sheet: `c0` and so on.
    pub(super) class: &'static str,
    pub(super) values: Vec<Option<f64>>,
}

/// The classes of lines, in order; the style sheet gives each its colour.
pub(super) const CLASSES: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

/// A chart over time.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What the vertical axis shows.
    pub(super) unit: &'static str,
    /// Seconds of each interval.
    pub(super) interval: f64,
    pub(super) lines: Vec<Line>,
    /// Powers of ten instead of even steps.
    pub(super) is_logarithmic: bool,
    /// Moments to mark, in seconds.
    pub(super) marks: Vec<f64>,
}

/// Where values lie on the picture.
struct Scale {
    lowest: f64,
    highest: f64,
    seconds: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic {
            (value.max(self.lowest) / self.lowest).log10() / (self.highest / self.lowest).log10()
        } else {
            value / self.highest
        };
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share)
    }

    /// Values that get a line of the grid.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = std::iter::successors(Some(self.lowest), |tick| Some(tick * 10.0));
            return decades.take_while(|tick| *tick <= self.highest * 1.001).collect();
        }
        even_ticks(self.highest)
    }
}

/// From 0 to `highest` in steps that people can add up.
fn even_ticks(highest: f64) -> Vec<f64> {
    let step = nice(highest / TICKS);
    let ticks = std::iter::successors(Some(0.0), |tick| Some(tick + step));
    ticks.take_while(|tick| *tick <= highest * 1.001).collect()
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn nice(value: f64) -> f64 {
    let decade = 10.0_f64.powf(value.max(1e-9).log10().floor());
    let nice = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * decade).find(|nice| *nice >= value * 0.999);
    nice.unwrap_or(10.0 * decade)
}

impl Chart {
    fn scale(&self) -> Scale {
        let values = || self.lines.iter().flat_map(|line| line.values.iter().flatten().copied());
        let intervals = self.lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
        let highest = values().fold(0.0, f64::max);
        let seconds = (float(length(intervals)) * self.interval).max(self.interval);
        if self.is_logarithmic {
            let lowest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            let lowest = if lowest.is_finite() { 10.0_f64.powf(lowest.log10().floor()) } else { 1.0 };
            let highest = 10.0_f64.powf(highest.max(lowest * 1.1).log10().ceil());
            return Scale { lowest, highest, seconds, is_logarithmic: true };
        }
        let step = nice(highest / TICKS);
        Scale { lowest: 0.0, highest: ((highest / step).ceil() * step).max(step), seconds, is_logarithmic: false }
    }

    /// The chart as a `figure`.
    pub(super) fn to_html(&self) -> String {
        let scale = self.scale();
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", self.title);
        for tick in scale.ticks() {
            let y = scale.y(tick);
            put(
                &mut svg,
                &format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT),
            );
            let label = number(tick);
            put(&mut svg, &format!("<text class=\"end\" x=\"{}\" y=\"{:.1}\">{label}</text>", LEFT - 6.0, y + 4.0));
        }
        for tick in even_ticks(scale.seconds) {
            let x = scale.x(tick);
            put(
                &mut svg,
                &format!("<text class=\"mid\" x=\"{x:.1}\" y=\"{}\">{} s</text>", HEIGHT - 8.0, number(tick)),
            );
        }
        for mark in self.marks.iter().filter(|mark| **mark <= scale.seconds) {
            let (x, bottom) = (scale.x(*mark), HEIGHT - BOTTOM);
            put(&mut svg, &format!("<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"));
        }
        for line in &self.lines {
            self.draw(&mut svg, &scale, line);
        }
        svg.push_str("</svg>");
        let legend = self.lines.iter().map(|line| format!("<li class=\"{}\">{}</li>", line.class, line.name));
        let legend: String = legend.collect();
        format!(
            "<figure><figcaption>{} <span>{}</span></figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>\n",
            self.title, self.unit
        )
    }

    /// A line, in pieces where values are missing; a dot where one stands alone.
    fn draw(&self, svg: &mut String, scale: &Scale, line: &Line) {
        let points = line.values.iter().enumerate().map(|(interval, value)| {
            let middle = (float(length(interval)) + 0.5) * self.interval;
            value.map(|value| (scale.x(middle), scale.y(value)))
        });
        let points: Vec<Option<(f64, f64)>> = points.collect();
        for piece in points.split(Option::is_none) {
            let coordinates: Vec<String> = piece.iter().flatten().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let element = match piece {
                [] => continue,
                [Some((x, y))] => format!("<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>", line.class),
                _ => format!("<polyline class=\"{}\" points=\"{}\"/>", line.class, coordinates.join(" ")),
            };
            put(svg, &element);
        }
    }
}

/// Adds an element.
pub(super) fn put(svg: &mut String, element: &str) {
    // Writing to a string cannot fail.
    let _infallible = write!(svg, "{element}").is_ok();
}

/// A number as short as it can be.
pub(super) fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", trimmed(value / 1e6))
    } else if value >= 1e4 {
        format!("{}k", trimmed(value / 1e3))
    } else {
        trimmed(value)
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbers_that_people_can_add_up() {
        for (value, step) in [(0.7, 1.0), (1.3, 2.0), (3.0, 5.0), (7.0, 10.0), (130.0, 200.0), (0.03, 0.05)] {
            assert!((nice(value) / step - 1.0).abs() < 1e-9, "{value}: {}", nice(value));
        }
        assert_eq!(even_ticks(10.0).len(), 6);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [(0.0, "0"), (0.25, "0.25"), (1500.0, "1500"), (25_000.0, "25k"), (2.5e6, "2.5M")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn every_value_lies_inside_the_picture_and_gaps_stay_gaps() {
        for is_logarithmic in [false, true] {
            let values = vec![Some(0.001), Some(5.0), None, Some(70_000.0), None, Some(3.0), Some(4.0)];
            let line = Line { name: "x".into(), class: "c0", values };
            let chart = Chart {
                title: "t".into(),
                unit: "u",
                interval: 1.0,
                lines: vec![line],
                is_logarithmic,
                marks: vec![2.0],
            };
            let html = chart.to_html();
            assert_eq!(html.matches("<polyline").count(), 2);
            assert_eq!(html.matches("<circle").count(), 1);
            let scale = chart.scale();
            for value in [0.001, 5.0, 70_000.0] {
                assert!((TOP..=HEIGHT - BOTTOM).contains(&scale.y(value)), "{value}: {}", scale.y(value));
            }
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }

    #[test]
    fn a_chart_of_nothing_is_drawn() {
        let chart = Chart {
            title: "t".into(),
            unit: "u",
            interval: 1.0,
            lines: Vec::new(),
            is_logarithmic: true,
            marks: Vec::new(),
        };
        assert!(!chart.to_html().contains("NaN"));
    }
}
