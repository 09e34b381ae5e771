//! Step charts as SVG: a value holds until the next one. Lines differ by dashes and labels too, not
//! by colour alone.

use maud::{Markup, html};

/// Inside the drawing, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 96.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// The time that is drawn, in seconds: an hour, or less where less is known.
const LONGEST: u64 = 3_600;
const SHORTEST: u64 = 60;

/// A line of the chart.
pub(super) struct Line {
    pub(super) label: &'static str,
    /// (Seconds ago, value), oldest first. No value: a gap.
    pub(super) points: Vec<(u64, Option<f64>)>,
}

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) lines: Vec<Line>,
    /// A horizontal line to compare with: its name and its value.
    pub(super) level: Option<(&'a str, f64)>,
    /// How a value is written.
    pub(super) unit: fn(f64) -> String,
    /// The last values hold until so many seconds ago.
    pub(super) until: u64,
}

impl Chart<'_> {
    /// The chart; nothing, if there is no value at all.
    pub(super) fn draw(&self) -> Markup {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let (mut oldest, mut highest) = (0, f64::NAN);
        for (ago, value) in points {
            oldest = oldest.max(*ago);
            highest = value.map_or(highest, |value| value.max(highest));
        }
        if highest.is_nan() {
            return html! {};
        }
        let level = self.level.map(|(_, level)| level);
        let top = nice(highest.max(level.unwrap_or(0.0)));
        let span = oldest.clamp(SHORTEST, LONGEST);
        let x = |ago: u64| {
            let ago = ago.min(span) as f64;
            LEFT + (WIDTH - LEFT - RIGHT) * (1.0 - ago / span as f64)
        };
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value.max(0.0) / top);
        let labels = labels(&self.lines, y);
        html! {
            figure {
                figcaption { (self.title) }
                svg class="chart" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                    @for value in [0.0, top / 2.0, top] {
                        line class="grid" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y(value))) y2=(at(y(value))) {}
                        text class="axis" x=(LEFT - 6.0) y=(at(y(value) + 4.0)) text-anchor="end" { ((self.unit)(value)) }
                    }
                    @for (ago, anchor) in [(span, "start"), (span / 2, "middle"), (0, "end")] {
                        text class="axis" x=(at(x(ago))) y=(HEIGHT - 6.0) text-anchor=(anchor) { (moment(ago)) }
                    }
                    @if let Some((_, level)) = self.level {
                        line class="level" x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(y(level))) y2=(at(y(level))) {}
                    }
                    @for (n, line) in self.lines.iter().enumerate() {
                        path class=(format!("line line{n}")) d=(path(&line.points, self.until, x, y)) {}
                    }
                    @if let Some((name, level)) = self.level {
                        text class="axis over" x=(LEFT + 4.0) y=(at(beside(y(level)))) { (name) " " ((self.unit)(level)) }
                    }
                    @for (n, text, height) in labels {
                        text class=(format!("label label{n}")) x=(WIDTH - RIGHT + 6.0) y=(at(height)) { (text) " " ((self.unit)(last(&self.lines[n]).unwrap_or_default())) }
                    }
                }
            }
        }
    }
}

/// As path data: a horizontal line for each value, upright ones between them, nothing in a gap.
fn path(
    points: &[(u64, Option<f64>)],
    until: u64,
    x: impl Fn(u64) -> f64,
    y: impl Fn(f64) -> f64,
) -> String {
    let mut data = String::new();
    let mut drawn = false;
    for (n, (ago, value)) in points.iter().enumerate() {
        let next = points.get(n + 1).map_or(until, |(ago, _)| *ago);
        let Some(value) = value else {
            drawn = false;
            continue;
        };
        let (from, to, height) = (at(x(*ago)), at(x(next)), at(y(*value)));
        data += &if drawn {
            format!("V{height}H{to}")
        } else {
            format!("M{from} {height}H{to}")
        };
        drawn = true;
    }
    data
}

/// The lines' names beside their ends, pushed apart where they would cover each other: (line, name,
/// height).
fn labels(lines: &[Line], y: impl Fn(f64) -> f64) -> Vec<(usize, &'static str, f64)> {
    const APART: f64 = 14.0;
    let ends = lines.iter().enumerate();
    let mut labels: Vec<_> = ends
        .filter_map(|(n, line)| Some((n, line.label, y(last(line)?) + 4.0)))
        .collect();
    labels.sort_by(|(.., one), (.., other)| one.total_cmp(other));
    for n in 1..labels.len() {
        labels[n].2 = labels[n].2.max(labels[n - 1].2 + APART);
    }
    labels
}

/// Where a level's name stands: above it, or below where it would leave the drawing.
fn beside(height: f64) -> f64 {
    let above = height - 4.0;
    if above < TOP + 4.0 {
        height + 12.0
    } else {
        above
    }
}

fn last(line: &Line) -> Option<f64> {
    line.points.last().and_then(|(_, value)| *value)
}

/// The next of 2, 4, 6, 10 times a power of ten, so that its half is a round number too.
fn nice(highest: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for factor in [2.0, 4.0, 6.0, 10.0] {
            if highest <= factor * step {
                return factor * step;
            }
        }
        step *= 10.0;
    }
}

fn moment(ago: u64) -> String {
    match ago {
        0 => "now".to_owned(),
        1..120 => format!("{ago} s ago"),
        _ => format!("{} min ago", ago / 60),
    }
}

/// Rounds to tenths, which are enough in a drawing.
fn at(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_until_the_next_and_an_error_is_a_gap() {
        let points = [(30, Some(1.0)), (20, Some(3.0)), (10, None), (5, Some(2.0))];
        let data = path(&points, 0, |ago| 100.0 - ago as f64, |value| 10.0 * value);
        assert_eq!(data, "M70 10H80V30H90M95 20H100");
    }

    #[test]
    fn the_scale_ends_above_the_highest_at_a_round_number() {
        let tops: Vec<_> = [0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 11.0, 59.0, 999.0]
            .into_iter()
            .map(nice)
            .collect();
        assert_eq!(tops, [2.0, 2.0, 2.0, 4.0, 6.0, 10.0, 20.0, 60.0, 1000.0]);
    }

    #[test]
    fn labels_do_not_cover_each_other() {
        let line = |label| Line {
            label,
            points: vec![(0, Some(1.0))],
        };
        let labels = labels(&[line("wished"), line("running")], |_| 50.0);
        assert_eq!(labels, [(0, "wished", 54.0), (1, "running", 68.0)]);
    }

    #[test]
    fn without_a_value_there_is_no_chart() {
        let chart = Chart {
            title: "Replicas",
            lines: vec![Line {
                label: "wished",
                points: vec![(10, None)],
            }],
            level: None,
            unit: |value| value.to_string(),
            until: 0,
        };
        assert_eq!(chart.draw().into_string(), "");
    }
}
