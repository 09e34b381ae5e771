//! The primitives of the picture: text, lines, areas, bars, over one time axis, as SVG elements.

use std::{fmt::Write as _, time::Duration};

use crate::state::Sample;

pub(super) const WIDTH: f64 = 1080.0;
pub(super) const LEFT: f64 = 150.0;
pub(super) const RIGHT: f64 = 1050.0;
pub(super) const GAP: f64 = 46.0;
pub(super) const CHART: f64 = 96.0;
pub(super) const LANE: f64 = 17.0;
pub(super) const PALETTE: [&str; 8] = [
    "#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#edc948", "#9c755f",
];
pub(super) const INK: &str = "#24292f";
pub(super) const FAINT: &str = "#8c959f";
pub(super) const NOBODY: &str = "#d0d7de";
/// Each colour that a dark page needs another for, and that one.
const DARK: [(&str, &str); 9] = [
    ("#ffffff", "#0d1117"),
    (INK, "#e6edf3"),
    (FAINT, "#9198a1"),
    (NOBODY, "#3d444d"),
    ("#afb8c1", "#656c76"),
    ("#eaeef2", "#21262d"),
    ("#cf222e", "#ff7b72"),
    (PALETTE[0], "#79a6d8"),
    (PALETTE[7], "#c39a83"),
];

/// A picture in the making: panels from top to bottom over one time axis.
pub(super) struct Picture {
    pub(super) body: String,
    /// Where the next panel begins.
    pub(super) y: f64,
    pub(super) seconds: f64,
}

impl Picture {
    pub(super) fn x(&self, at: Duration) -> f64 {
        LEFT + (RIGHT - LEFT) * (at.as_secs_f64() / self.seconds).min(1.0)
    }

    pub(super) fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub(super) fn text(&mut self, x: f64, y: f64, attributes: &str, text: &str) {
        self.element(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" {attributes}>{}</text>"#,
            escape(text)
        ));
    }

    pub(super) fn heading(&mut self, text: &str) {
        let y = self.y - 10.0;
        // With a white edge, so that the dashed lines pass behind the letters.
        self.text(
            LEFT,
            y,
            r##"font-weight="600" stroke="#ffffff" stroke-width="4" paint-order="stroke""##,
            text,
        );
    }

    /// Names a line of the chart, right-aligned in the heading's row.
    pub(super) fn key(&mut self, right: f64, colour: &str, text: &str) {
        let y = self.y - 10.0;
        self.text(
            right,
            y,
            &format!(r#"text-anchor="end" fill="{colour}" font-weight="600""#),
            text,
        );
    }

    /// Horizontal lines with their values, for a chart from 0 to `top`.
    pub(super) fn scale(&mut self, top: f64, steps: &[f64], unit: &str) {
        for value in steps {
            let y = self.y + CHART * (1.0 - value / top);
            self.element(format_args!(
                r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1}" y2="{y:.1}" stroke="#eaeef2"/>"##
            ));
            self.text(
                LEFT - 10.0,
                y + 4.0,
                &format!(r#"text-anchor="end" fill="{FAINT}""#),
                &format!("{value}{unit}"),
            );
        }
    }

    /// The points of a chart's line.
    pub(super) fn points(
        &self,
        samples: &[Sample],
        top: f64,
        value: impl Fn(&Sample) -> f64,
    ) -> Vec<(f64, f64)> {
        let point = |sample: &Sample| {
            (
                self.x(sample.at),
                self.y + CHART * (1.0 - (value(sample) / top).min(1.0)),
            )
        };
        samples.iter().map(point).collect()
    }

    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let path = path(points);
        self.element(format_args!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"/>"#
        ));
    }

    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let floor = self.y + CHART;
        let path = path(points);
        self.element(format_args!(
            r#"<path d="{path} L{:.1} {floor:.1} L{:.1} {floor:.1} Z" fill="{colour}" fill-opacity="0.18"/>"#,
            last.0, first.0
        ));
    }

    pub(super) fn bar(&mut self, from: Duration, to: Duration, colour: &str, opacity: f64) {
        let (left, right, y) = (self.x(from), self.x(to), self.y);
        let (width, height) = ((right - left).max(1.5), LANE - 4.0);
        self.element(format_args!(
            r#"<rect x="{left:.1}" y="{y:.1}" width="{width:.1}" height="{height}" rx="2" fill="{colour}" fill-opacity="{opacity}"/>"#
        ));
    }

    pub(super) fn lane_name(&mut self, text: &str, colour: &str) {
        let y = self.y + LANE - 7.0;
        self.text(
            LEFT - 10.0,
            y,
            &format!(r#"text-anchor="end" font-size="11" fill="{colour}""#),
            text,
        );
    }
}

/// The colours on a dark page. Viewers that know no style sheets show the light ones.
pub(super) fn dark() -> String {
    let mut rules = String::new();
    for (light, dark) in DARK {
        for of in ["fill", "stroke"] {
            // Writing to a string does not fail.
            let _ = write!(rules, "[{of}=\"{light}\"]{{{of}:{dark}}}");
        }
    }
    format!("<style>@media (prefers-color-scheme: dark){{{rules}}}</style>")
}

/// A path through the points.
fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { " L" });
    }
    path
}

/// A line that keeps its value until the next point: counts do not glide.
pub(super) fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(_, before)) = steps.last() {
            steps.push((x, before));
        }
        steps.push((x, y));
    }
    steps
}

/// The next larger of 1, 2, 4, 6, 8, 10, 20, …: an axis with a whole middle or a tidy one.
pub(super) fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_tidy() {
        for (value, want) in [
            (1.0, 1.0),
            (1.1, 2.0),
            (55.0, 60.0),
            (61.0, 80.0),
            (99.0, 100.0),
            (0.3, 0.4),
        ] {
            assert!(
                (nice(value) - want).abs() < 1e-9,
                "{value}: {}",
                nice(value)
            );
        }
    }

    #[test]
    fn counts_do_not_glide() {
        assert_eq!(
            steps(&[(0.0, 2.0), (1.0, 3.0)]),
            [(0.0, 2.0), (1.0, 2.0), (1.0, 3.0)]
        );
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a < \"b\" & c"), "a &lt; &quot;b&quot; &amp; c");
    }
}
