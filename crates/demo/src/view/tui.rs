//! The live view: story, pods and their shards, what KEDA asked and was told, throughput and lag,
//! the latest lines.

#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use keda_rules::Why;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph, Sparkline, Wrap},
};
use tokio_util::sync::CancellationToken;

use crate::{
    autoscaler::pods,
    state::{Board, Phase, Pod, Source, State, Step},
    times::{Times, clock, human},
};

const FRAME: Duration = Duration::from_millis(120);
/// A pod that ended is shown for so long yet.
const AFTERGLOW: Duration = Duration::from_secs(6);
const PALETTE: [Color; 6] = [
    Color::Cyan,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::LightRed,
];

/// Draws until the story has ended. Blocks: give it a thread. `q` and Ctrl-C cancel `interrupted`.
pub fn run(board: &Board, times: &Times, interrupted: &CancellationToken) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = loop {
        let state = board.read().clone();
        if state.ended {
            break Ok(());
        }
        if let Err(error) = terminal.draw(|frame| draw(frame, &state, times, board.elapsed())) {
            break Err(error);
        }
        // The wait for a key is also the time between frames.
        match event::poll(FRAME).and_then(|ready| {
            if ready {
                event::read().map(Some)
            } else {
                Ok(None)
            }
        }) {
            Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => {
                let ctrl_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    interrupted.cancel();
                }
            }
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    shown
}

/// One frame.
pub fn draw(frame: &mut Frame<'_>, state: &State, times: &Times, now: Duration) {
    let steps = state.steps.len().max(1) as u16;
    let [title, upper, lower, lines, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(steps + 2),
        Constraint::Length(if state.wish.is_some() { 10 } else { 8 }),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let halves = [Constraint::Percentage(50), Constraint::Fill(1)];
    let [story, pods] = Layout::horizontal(halves).areas(upper);
    let [keda, charts] = Layout::horizontal(halves).areas(lower);

    draw_title(frame, title, now);
    frame.render_widget(
        Paragraph::new(story_lines(state, now, story.width.saturating_sub(2)))
            .block(panel("The story")),
        story,
    );
    let name = format!("Pods, and what they read of {} shards", state.open_shards());
    frame.render_widget(
        Paragraph::new(pod_lines(state, now)).block(panel(&name)),
        pods,
    );
    frame.render_widget(
        Paragraph::new(keda_lines(state))
            .wrap(Wrap { trim: false })
            .block(panel("KEDA asks, the scaler answers")),
        keda,
    );
    draw_charts(frame, charts, state);
    draw_log(frame, lines, state);
    frame.render_widget(Paragraph::new(footnote(times)).dark_gray(), foot);
}

fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dark_gray())
        .title(Line::from(vec![
            Span::raw(" "),
            Span::styled(title, Style::new().bold()),
            Span::raw(" "),
        ]))
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, now: Duration) {
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(18)]).areas(area);
    let title = Line::from(vec![
        " KEDA scales Kinesis consumers".bold(),
        ", on this machine".into(),
    ]);
    frame.render_widget(Paragraph::new(title), left);
    frame.render_widget(
        Paragraph::new(format!("{}   q: quit ", clock(now))).right_aligned(),
        right,
    );
}

fn story_lines(state: &State, now: Duration, width: u16) -> Vec<Line<'_>> {
    let line = |step: &Step| {
        let since = |end: Duration| human_short(end.saturating_sub(step.began.unwrap_or(end)));
        let (mark, style, time) = match (step.began, step.reached) {
            (_, Some(reached)) => ("✓", Style::new().green(), since(reached)),
            (Some(_), None) => ("▶", Style::new().yellow().bold(), since(now)),
            (None, None) => ("·", Style::new().dark_gray(), String::new()),
        };
        // Mark and time take nine columns. Half a goal would say nothing.
        let room = usize::from(width).saturating_sub(9);
        let whole = format!("{} → {}", step.title, step.goal);
        let text = if whole.chars().count() <= room {
            whole
        } else {
            step.title.clone()
        };
        let words = if step.reached.is_some() {
            Style::new()
        } else {
            style
        };
        Line::from(vec![
            Span::styled(format!(" {mark} "), style),
            Span::styled(format!("{text:<room$.room$}"), words),
            Span::styled(format!("{time:>5} "), style),
        ])
    };
    state.steps.iter().map(line).collect()
}

fn human_short(duration: Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64())
}

fn colour(state: &State, pod: &str) -> Color {
    let index = state
        .pods
        .iter()
        .position(|known| known.name == pod)
        .unwrap_or_default();
    PALETTE[index % PALETTE.len()]
}

fn pod_lines(state: &State, now: Duration) -> Vec<Line<'_>> {
    let shown = |pod: &&Pod| pod.exists() || pod.ended.is_some_and(|ended| ended + AFTERGLOW > now);
    let mut lines: Vec<Line<'_>> = state
        .pods
        .iter()
        .filter(shown)
        .map(|pod| pod_line(state, pod))
        .collect();
    let waiting: Vec<&str> = state
        .shards
        .iter()
        .filter(|shard| !shard.finished && shard.holder.is_none())
        .map(|shard| shard.short())
        .collect();
    if !waiting.is_empty() {
        lines.push(Line::from(format!(" nobody yet: {}", waiting.join(", "))).red());
    }
    lines
}

fn pod_line<'a>(state: &'a State, pod: &'a Pod) -> Line<'a> {
    let own = Style::new().fg(colour(state, &pod.name));
    let (mark, style) = match pod.phase {
        Phase::Running => ("●", Style::new().green()),
        Phase::Starting | Phase::Terminating => ("◌", Style::new().yellow()),
        Phase::Died => ("✕", Style::new().red().bold()),
        Phase::Gone => ("○", Style::new().dark_gray()),
    };
    let mut spans = vec![
        Span::styled(format!(" {mark} "), style),
        Span::styled(format!("{} ", pod.name), own),
    ];
    if pod.phase == Phase::Running {
        spans.push(Span::raw(format!("{:>3.0}/s ", pod.per_second)));
    } else {
        spans.push(Span::styled(format!("{} ", pod.phase.name()), style));
    }
    for shard in state.held_by(&pod.name) {
        // A closed shard, still being read to its end, is in brackets.
        let text = if shard.open {
            format!(" {} ", shard.short())
        } else {
            format!("({})", shard.short())
        };
        spans.extend([
            Span::styled(text, own.add_modifier(Modifier::REVERSED)),
            Span::raw(" "),
        ]);
    }
    Line::from(spans)
}

fn keda_lines(state: &State) -> Vec<Line<'_>> {
    let Some(tick) = &state.tick else {
        return vec![Line::from(" no ScaledObject yet: nobody asks").dark_gray()];
    };
    let row = |question: &'static str, answer: String| {
        Line::from(vec![
            Span::styled(format!(" {question:<14}"), Style::new().dark_gray()),
            Span::raw(answer),
        ])
    };
    let decision = &tick.decision;
    let outcome = match decision.why {
        Why::Stabilising(left) => Line::from(format!(
            " stays at {}: may scale down in {}",
            decision.replicas,
            human_short(left)
        ))
        .yellow(),
        _ if decision.replicas == tick.current => {
            Line::from(format!(" {}", pods(decision.replicas))).green()
        }
        _ => Line::from(format!(" {} → {}", tick.current, pods(decision.replicas)))
            .yellow()
            .bold(),
    };
    let mut lines = vec![
        row("GetMetricSpec", format!("target {}, for", tick.target)),
        Line::from(format!("   {}", tick.metric)).cyan(),
        row("GetMetrics", format!("{} shards", tick.value)),
        row("IsActive", tick.active.to_string()),
        row(
            "HPA",
            format!(
                "ceil({} / {}) = {}",
                tick.value,
                tick.target,
                pods(decision.wanted)
            ),
        ),
        outcome,
    ];
    lines.extend(
        state
            .wish
            .as_ref()
            .map(|wish| Line::from(format!(" {}", wish.reason)).cyan()),
    );
    lines
}

fn draw_charts(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let [throughput, lag] =
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let width = usize::from(area.width.saturating_sub(2));
    let latest = |value: fn(&crate::state::Sample) -> u64| {
        let skipped = state.samples.len().saturating_sub(width);
        state
            .samples
            .iter()
            .skip(skipped)
            .map(value)
            .collect::<Vec<_>>()
    };
    let title = format!(
        "Users/s: {:.0} sent, {:.0} stored",
        state.sent_per_second, state.stored_per_second
    );
    let stored = latest(|sample| sample.stored_per_second as u64);
    frame.render_widget(
        Sparkline::default()
            .block(panel(&title))
            .data(stored)
            .style(Style::new().cyan()),
        throughput,
    );
    let title = format!("Lag: {}", human(state.lag));
    let lags = latest(|sample| sample.lag.as_millis() as u64);
    // Below three seconds is a low line, not a mountain.
    let top = lags.iter().copied().max().unwrap_or_default().max(3_000);
    frame.render_widget(
        Sparkline::default()
            .block(panel(&title))
            .data(lags)
            .max(top)
            .style(Style::new().magenta()),
        lag,
    );
}

fn draw_log(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let height = usize::from(area.height.saturating_sub(2));
    let skipped = state.lines.len().saturating_sub(height);
    let line = |line: &crate::state::Line| {
        let colour = match line.source {
            Source::Story => Color::Yellow,
            Source::Keda | Source::Hpa | Source::Scaler => Color::Cyan,
            Source::Pod => Color::Green,
            Source::Shard => Color::Magenta,
            Source::Demo => Color::DarkGray,
        };
        Line::from(vec![
            Span::styled(format!(" {} ", clock(line.at)), Style::new().dark_gray()),
            Span::styled(
                format!("{:<7}", line.source.name()),
                Style::new().fg(colour),
            ),
            Span::raw(line.text.clone()),
        ])
    };
    let lines: Vec<Line<'_>> = state.lines.iter().skip(skipped).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(panel("What happens")), area);
}

fn footnote(times: &Times) -> String {
    format!(
        " Shortened: poll {} (30 s), scale-down {} (5 min), failover {} (10 s)",
        human(times.poll),
        human(times.stabilisation),
        human(times.failover)
    )
}
