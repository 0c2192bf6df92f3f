//! A picture of several distributions side by side, as inline SVG: one row each, with a dot for every percentile on a
//! logarithmic axis. Draws what it is given.

use super::chart::{CLASSES, number, put};
use crate::num::{float, length};

const WIDTH: f64 = 900.0;
const ROW: f64 = 26.0;
const LEFT: f64 = 100.0;
const RIGHT: f64 = 20.0;
const BOTTOM: f64 = 26.0;

/// One row: its name, and a value for each percentile, all more than 0.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) values: Vec<f64>,
}

/// The picture as a `figure`; nothing if there is nothing to show. `percentiles` names the dots, `unit` the axis.
pub(super) fn ranges(title: &str, unit: &str, percentiles: &[String], rows: &[Row]) -> String {
    let values = || rows.iter().flat_map(|row| row.values.iter().copied());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if !low.is_finite() || low <= 0.0 {
        return String::new();
    }
    let low = low.log10().floor();
    let high = high.log10().ceil().max(low + 1.0);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value.log10() - low) / (high - low);
    let bottom = ROW * float(length(rows.len()));
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}\">", bottom + BOTTOM);
    let decades = std::iter::successors(Some(low), |decade| Some(decade + 1.0)).take_while(|decade| *decade <= high);
    for tick in decades.map(|decade| 10.0_f64.powf(decade)) {
        let at = x(tick);
        put(&mut svg, &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{bottom}\"/>"));
        put(&mut svg, &format!("<text class=\"mid\" x=\"{at:.1}\" y=\"{}\">{}</text>", bottom + 18.0, number(tick)));
    }
    for (which, row) in rows.iter().enumerate() {
        svg.push_str(&draw(row, ROW * (float(length(which)) + 0.5), x));
    }
    let legend = percentiles.iter().zip(CLASSES).map(|(name, class)| format!("<li class=\"{class}\">{name}</li>"));
    let legend: Vec<String> = legend.collect();
    format!(
        "<figure><figcaption>{title} <span>{unit}</span></figcaption>{svg}</svg><ul class=\"legend\">{}</ul></figure>\n",
        legend.concat()
    )
}

fn draw(row: &Row, y: f64, x: impl Fn(f64) -> f64) -> String {
    let mut svg = format!("<text class=\"end\" x=\"{}\" y=\"{}\">{}</text>", LEFT - 10.0, y + 4.0, row.name);
    if let (Some(first), Some(last)) = (row.values.first(), row.values.last()) {
        let (from, to) = (x(*first), x(*last));
        put(&mut svg, &format!("<line class=\"grid\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y}\" y2=\"{y}\"/>"));
    }
    // The lowest last, so that it is seen where all are the same.
    for (value, class) in row.values.iter().zip(CLASSES).rev() {
        put(&mut svg, &format!("<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y}\" r=\"4.5\"/>", x(*value)));
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_a_dot_inside_the_picture() {
        let names = ["p50", "p99"].map(str::to_owned);
        let rows = [("open", vec![0.2, 3.0]), ("join", vec![5.0, 5.0])]
            .map(|(name, values)| Row { name: name.to_owned(), values });
        let html = ranges("t", "ms", &names, &rows);
        assert_eq!(html.matches("<circle").count(), 4);
        for at in html.split("cx=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap()) {
            assert!((LEFT..=WIDTH - RIGHT).contains(&at), "{at}");
        }
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }

    #[test]
    fn nothing_is_no_picture() {
        assert_eq!(ranges("t", "ms", &[], &[]), "");
    }
}
