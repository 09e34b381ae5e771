//! A run as a picture: load and pods above, ages below.

use std::fmt::Write as _;

use crate::run::Outcome;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
/// Upper and lower panel: from the top, and how high.
const PODS: (f64, f64) = (50.0, 170.0);
const AGES: (f64, f64) = (262.0, 130.0);

/// Each colour that a dark page needs another for, and that one.
const DARK: [(&str, &str); 10] = [
    ("#fff", "#0d1117"),
    ("#222", "#e6edf3"),
    ("#444", "#c9d1d9"),
    ("#666", "#9198a1"),
    ("#e6e6e6", "#21262d"),
    ("#c9d6e2", "#2c3a49"),
    ("#999", "#8b949e"),
    ("#0a6ebd", "#58a6ff"),
    ("#d2691e", "#f0883e"),
    ("#b33", "#ff7b72"),
];

/// One line of a picture: its name, its colour and the run it is of.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// In the legend.
    pub name: &'a str,
    /// As SVG has it.
    pub colour: &'a str,
    /// The run.
    pub outcome: &'a Outcome,
}

/// An SVG document: the load of the first line's run in thousands, which is pods kept busy, and
/// every line's pods and ages.
pub fn svg(title: &str, lines: &[Line<'_>], threshold: u64) -> String {
    let moments = || lines.iter().flat_map(|line| &line.outcome.moments);
    let end = moments().map(|moment| moment.second).max().unwrap_or(1) as f64;
    let most_pods = moments()
        .map(|m| f64::from(m.replicas).max(m.load / 1000.0))
        .fold(1.0, f64::max)
        .ceil();
    let most_age = moments()
        .map(|moment| moment.age)
        .max()
        .unwrap_or(1)
        .max(threshold * 2) as f64;
    let x = |second: u64| LEFT + second as f64 / end * (WIDTH - LEFT - RIGHT);
    let y = |panel: (f64, f64), part: f64| panel.0 + panel.1 * (1.0 - part);

    let mut dark = String::new();
    for (light, other) in DARK {
        let _ = write!(
            dark,
            "[fill=\"{light}\"]{{fill:{other}}}[stroke=\"{light}\"]{{stroke:{other}}}"
        );
    }
    let height = AGES.0 + AGES.1 + 34.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>@media (prefers-color-scheme: dark){{{dark}}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\" fill=\"#222\">{title}</text>\n"
    );
    let mut legend = LEFT;
    let load = [("load, in pods kept busy", "#c9d6e2")];
    for (name, colour) in load
        .into_iter()
        .chain(lines.iter().map(|line| (line.name, line.colour)))
    {
        let _ = writeln!(
            svg,
            "<rect x=\"{legend}\" y=\"31\" width=\"14\" height=\"6\" fill=\"{colour}\"/><text x=\"{}\" y=\"38\" fill=\"#444\">{name}</text>",
            legend + 19.0
        );
        legend += 40.0 + 6.6 * name.len() as f64;
    }

    let axis = |svg: &mut String, panel: (f64, f64), most: f64, step: f64, unit: &str| {
        let mut tick = 0.0;
        while tick <= most {
            let at = y(panel, tick / most);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e6e6e6\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{tick}{unit}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
            tick += step;
        }
    };
    axis(&mut svg, PODS, most_pods, (most_pods / 5.0).ceil(), "");
    axis(
        &mut svg,
        AGES,
        most_age,
        30.0 * (most_age / 150.0).ceil(),
        " s",
    );
    for (panel, name) in [(PODS, "pods"), (AGES, "age of the oldest unread record")] {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" fill=\"#222\">{name}</text>",
            panel.0 + 12.0
        );
    }
    let hours = (end / 3600.0).ceil() as u64;
    for hour in 0..=hours {
        let at = x((hour * 3600).min(end as u64));
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{hour} h</text>",
            height - 12.0
        );
    }

    if let Some(first) = lines.first() {
        let mut area = format!("{LEFT:.1},{:.1}", y(PODS, 0.0));
        for m in &first.outcome.moments {
            let _ = write!(
                area,
                " {:.1},{:.1}",
                x(m.second),
                y(PODS, m.load / 1000.0 / most_pods)
            );
        }
        let _ = writeln!(
            svg,
            "<polygon points=\"{area} {:.1},{:.1}\" fill=\"#c9d6e2\"/>",
            WIDTH - RIGHT,
            y(PODS, 0.0)
        );
    }
    let at = y(AGES, threshold as f64 / most_age);
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#b33\" stroke-dasharray=\"5 4\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#b33\">lagThreshold</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        at - 4.0
    );
    for line in lines {
        let mut pods = String::new();
        let mut ages = String::new();
        let mut before = None;
        for m in &line.outcome.moments {
            // Pods change in steps.
            let level = y(PODS, f64::from(m.replicas) / most_pods);
            if before.is_some_and(|before| before != level) {
                let _ = write!(pods, " {:.1},{:.1}", x(m.second), before.unwrap_or(level));
            }
            if before != Some(level) {
                let _ = write!(pods, " {:.1},{level:.1}", x(m.second));
            }
            before = Some(level);
            let _ = write!(
                ages,
                " {:.1},{:.1}",
                x(m.second),
                y(AGES, m.age as f64 / most_age)
            );
        }
        if let Some(level) = before {
            let _ = write!(pods, " {:.1},{level:.1}", WIDTH - RIGHT);
        }
        for points in [pods, ages] {
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"/>",
                points.trim_start(),
                line.colour
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
