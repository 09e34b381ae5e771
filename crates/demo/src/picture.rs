//! The story as one picture: shards and pods, who read what, throughput and lag over time, with the
//! steps marked. SVG, written by hand.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

mod svg;

use self::svg::{
    CHART, FAINT, GAP, INK, LANE, NOBODY, PALETTE, Picture, RIGHT, WIDTH, dark, nice, steps,
};
use crate::{
    state::{Phase, Pod, Sample, State, short_shard},
    times::{clock, human},
};

const TOP: f64 = 118.0;

/// Writes the picture; returns where it is.
pub fn write(path: &Path, state: &State) -> Result<PathBuf> {
    fs::write(path, draw(state))
        .with_context(|| format!("cannot write the picture {}", path.display()))?;
    Ok(path.to_owned())
}

/// An SVG document.
pub fn draw(state: &State) -> String {
    let end = state
        .samples
        .last()
        .map_or(Duration::from_secs(1), |sample| sample.at);
    let mut picture = Picture {
        body: String::new(),
        y: TOP,
        seconds: end.as_secs_f64().max(1.0),
    };
    picture.shards_and_pods(&state.samples);
    picture.pods(&state.pods, end);
    picture.shards(state, end);
    picture.throughput(&state.samples);
    picture.lag(&state.samples);
    let bottom = picture.y - GAP + 8.0;
    let grid = picture.grid(state, bottom);
    picture.axis(bottom);
    let height = picture.legend(state, bottom + 46.0);
    let subtitle = format!(
        "{} users, {} shards in all, {} pods in all, {}; the times of a cluster are shortened",
        state.sent,
        state.shards.len(),
        state.pods.len(),
        human(Duration::from_secs(end.as_secs()))
    );
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="12" fill="{INK}">
{}
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="30" y="38" font-size="21" font-weight="600">KEDA scales Kinesis consumers</text>
<text x="30" y="60" fill="{FAINT}">{subtitle}</text>
{grid}{}</svg>
"##,
        dark(),
        picture.body
    )
}

impl Picture {
    fn shards_and_pods(&mut self, samples: &[Sample]) {
        let most = samples
            .iter()
            .map(|sample| sample.open_shards.max(sample.running))
            .fold(4, usize::max);
        let top = most as f64;
        let lines: Vec<f64> = (0..=most).map(|line| line as f64).collect();
        self.heading("Open shards, and pods that are ready");
        self.key(RIGHT, PALETTE[1], "pods");
        self.key(RIGHT - 44.0, PALETTE[0], "shards");
        self.scale(top, &lines, "");
        let shards = steps(&self.points(samples, top, |sample| sample.open_shards as f64));
        let pods = steps(&self.points(samples, top, |sample| sample.running as f64));
        if samples.iter().any(|sample| sample.wished.is_some()) {
            self.key(RIGHT - 100.0, PALETTE[3], "wished");
            let wished = |sample: &Sample| f64::from(sample.wished.unwrap_or(0));
            let wished = steps(&self.points(samples, top, wished));
            self.line(&wished, PALETTE[3], 4.0);
        }
        self.line(&shards, PALETTE[0], 5.0);
        self.line(&pods, PALETTE[1], 2.5);
        self.y += CHART + GAP;
    }

    fn pods(&mut self, pods: &[Pod], end: Duration) {
        self.heading("Pods, from start to end");
        for (index, pod) in pods.iter().enumerate() {
            let colour = PALETTE[index % PALETTE.len()];
            let ended = pod.ended.unwrap_or(end).min(end);
            self.bar(pod.started, ended, colour, 1.0);
            self.lane_name(&pod.name, colour);
            if pod.phase == Phase::Died {
                let (x, y) = (self.x(ended) + 5.0, self.y + LANE - 6.5);
                self.text(
                    x,
                    y,
                    r##"fill="#cf222e" font-weight="700" font-size="11""##,
                    "✕ kill -9",
                );
            }
            self.y += LANE;
        }
        self.y += GAP;
    }

    /// One lane for each shard, in the colour of the pod that holds its lease; pale once the shard
    /// is closed; grey while the holder is nobody, or dead.
    fn shards(&mut self, state: &State, end: Duration) {
        self.heading(
            "Shards, in the colour of the pod that reads them; pale: closed, being read to its end; grey: nobody reads",
        );
        for shard in &state.shards {
            self.lane_name(&format!("shard {}", short_shard(&shard.id)), INK);
            let seen = |sample: &Sample| {
                sample
                    .shards
                    .iter()
                    .find(|seen| seen.id == shard.id)
                    .cloned()
            };
            let mut samples = state.samples.iter().peekable();
            while let Some(sample) = samples.next() {
                let Some(first) = seen(sample).filter(|seen| !seen.finished) else {
                    continue;
                };
                // One bar for as long as nothing changes.
                while samples
                    .next_if(|next| seen(next).as_ref() == Some(&first))
                    .is_some()
                {}
                let until = samples.peek().map_or(end, |next| next.at);
                let holder = state
                    .pods
                    .iter()
                    .position(|pod| first.holder.as_deref() == Some(&pod.name));
                let colour = holder.map_or(NOBODY, |pod| PALETTE[pod % PALETTE.len()]);
                let opacity = if first.open { 1.0 } else { 0.45 };
                // A dead pod holds its lease until it expires.
                let ended = holder
                    .and_then(|pod| state.pods[pod].ended)
                    .unwrap_or(until);
                let read_until = ended.clamp(sample.at, until);
                if read_until > sample.at {
                    self.bar(sample.at, read_until, colour, opacity);
                }
                if read_until < until {
                    self.bar(read_until, until, NOBODY, opacity);
                }
            }
            self.y += LANE;
        }
        self.y += GAP;
    }

    fn throughput(&mut self, samples: &[Sample]) {
        let most = samples
            .iter()
            .map(|sample| sample.sent_per_second.max(sample.stored_per_second))
            .fold(10.0, f64::max);
        let top = nice(most * 1.1);
        self.heading("Users a second");
        self.key(RIGHT, PALETTE[2], "stored");
        self.key(RIGHT - 56.0, INK, "sent");
        self.scale(top, &[0.0, top / 2.0, top], "");
        let stored = self.points(samples, top, |sample| sample.stored_per_second);
        let sent = self.points(samples, top, |sample| sample.sent_per_second);
        self.area(&stored, PALETTE[2]);
        self.line(&stored, PALETTE[2], 2.0);
        self.line(&sent, INK, 1.2);
        self.y += CHART + GAP;
    }

    fn lag(&mut self, samples: &[Sample]) {
        let most = samples
            .iter()
            .map(|sample| sample.lag.as_secs_f64())
            .fold(1.0, f64::max);
        let top = nice(most * 1.1);
        self.heading("Lag: the age of the oldest user that is not in the table yet");
        self.scale(top, &[0.0, top / 2.0, top], " s");
        let lag = self.points(samples, top, |sample| sample.lag.as_secs_f64());
        self.area(&lag, PALETTE[3]);
        self.line(&lag, PALETTE[3], 2.0);
        self.y += CHART + GAP;
    }

    /// A dashed line for each step, its number on top.
    fn grid(&self, state: &State, bottom: f64) -> String {
        let mut grid = String::new();
        for (index, step) in state.steps.iter().enumerate() {
            let Some(began) = step.began else { continue };
            let (x, top) = (self.x(began), TOP - 26.0);
            let number = index + 1;
            let _ = writeln!(
                grid,
                r##"<line x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{bottom:.1}" stroke="#afb8c1" stroke-dasharray="3 4"/>
<circle cx="{x:.1}" cy="{:.1}" r="10" fill="{INK}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" font-size="11" font-weight="600" fill="#ffffff">{number}</text>"##,
                top - 6.0,
                top - 2.0,
            );
        }
        grid
    }

    fn axis(&mut self, bottom: f64) {
        let every = if self.seconds > 100.0 {
            20
        } else if self.seconds > 40.0 {
            10
        } else {
            5
        };
        for second in (0..=self.seconds as u64).step_by(every) {
            let x = self.x(Duration::from_secs(second));
            let text = clock(Duration::from_secs(second));
            self.text(
                x,
                bottom + 18.0,
                &format!(r#"text-anchor="middle" fill="{FAINT}""#),
                &text,
            );
        }
    }

    /// The steps in words, in two columns. Returns where it ends.
    fn legend(&mut self, state: &State, top: f64) -> f64 {
        let rows = state.steps.len().div_ceil(2);
        for (index, step) in state.steps.iter().enumerate() {
            let x = if index < rows {
                30.0
            } else {
                WIDTH / 2.0 + 10.0
            };
            let y = top + 24.0 * (index % rows) as f64;
            self.element(format_args!(
                r#"<circle cx="{:.1}" cy="{:.1}" r="9" fill="{INK}"/>"#,
                x + 9.0,
                y - 4.0
            ));
            self.text(
                x + 9.0,
                y,
                r##"text-anchor="middle" font-size="11" font-weight="600" fill="#ffffff""##,
                &(index + 1).to_string(),
            );
            let took = step
                .began
                .zip(step.reached)
                .map(|(began, reached)| human(reached.saturating_sub(began)));
            let outcome = took.map_or_else(
                || "not reached".to_owned(),
                |took| format!("{} after {took}", step.goal),
            );
            self.text(x + 26.0, y, "", &format!("{}: {outcome}", step.title));
        }
        top + 24.0 * rows as f64 + 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_still_a_picture() {
        let svg = draw(&State::default());
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
    }
}
