//! Frames on a screen in memory.

use keda_rules::Decision;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    args::{Pace, Scene},
    state::{Shard, Tick, Wish},
};

fn state() -> State {
    let seconds = Duration::from_secs;
    let step = |title: &str, goal: &str, began, reached| Step {
        title: title.into(),
        goal: goal.into(),
        began,
        reached,
    };
    let pod = |name: &str, phase| Pod {
        name: name.into(),
        phase,
        started: seconds(1),
        ended: (phase == Phase::Died).then_some(seconds(8)),
        processed: 100,
        repeated: 0,
        per_second: 24.6,
    };
    let shard = |id: usize, open, holder: Option<&str>| Shard {
        id: format!("shardId-{id:012}"),
        open,
        holder: holder.map(str::to_owned),
        finished: false,
    };
    State {
        steps: vec![
            step(
                "deploy one pod",
                "1 pod reads both shards",
                Some(seconds(0)),
                Some(seconds(4)),
            ),
            step("reshard to 3", "3 pods", Some(seconds(5)), None),
            step("stop sending", "every user is in the table", None, None),
        ],
        pods: vec![
            pod("consumer-bcdfg", Phase::Running),
            pod("consumer-hjklm", Phase::Died),
        ],
        shards: vec![
            shard(0, false, Some("consumer-bcdfg")),
            shard(12, true, Some("consumer-bcdfg")),
            shard(13, true, None),
        ],
        tick: Some(Tick {
            metric: "aws-kinesis-kinesis-keda-demo".into(),
            value: 2.0,
            target: 1.0,
            active: true,
            current: 3,
            decision: Decision {
                replicas: 3,
                wanted: 2,
                why: Why::Stabilising(seconds(4)),
            },
        }),
        sent_per_second: 50.0,
        stored_per_second: 49.0,
        lag: Duration::from_millis(420),
        ..State::default()
    }
}

#[test]
fn a_frame_shows_all_of_it_on_80_columns() {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let times = Times::new(Scene::Shards, Pace::parse("normal").unwrap());
    terminal
        .draw(|frame| draw(frame, &state(), &times, Duration::from_secs(9)))
        .unwrap();
    let screen = terminal.backend().to_string();
    for wanted in [
        "00:09",
        "✓ deploy one pod  ",
        "▶ reshard to 3 → 3 pods",
        "· stop sending",
        "● consumer-bcdfg  25/s (0)  12 ",
        "✕ consumer-hjklm Died",
        "nobody yet: 13",
        "aws-kinesis-kinesis-keda-demo",
        "GetMetrics    2 shards",
        "ceil(2 / 1) = 2 pods",
        "stays at 3: may scale down in 4 s",
        "Users/s: 50 sent, 49 stored",
        "Lag: 420 ms",
        "Shortened: poll 1 s (30 s), scale-down 6 s (5 min), failover 3 s (10 s)",
    ] {
        assert!(screen.contains(wanted), "no {wanted:?} in\n{screen}");
    }
}

#[test]
fn a_decision_on_lag_is_shown_with_its_reason() {
    let mut terminal = Terminal::new(TestBackend::new(80, 26)).unwrap();
    let times = Times::new(Scene::Lag, Pace::parse("normal").unwrap());
    let wish = Wish {
        replicas: 3,
        active: true,
        reason: "late: shard 4 is 7 s old; so 2 shards a pod".into(),
    };
    let state = State {
        wish: Some(wish),
        ..state()
    };
    terminal
        .draw(|frame| draw(frame, &state, &times, Duration::from_secs(9)))
        .unwrap();
    let screen = terminal.backend().to_string();
    for wanted in ["late: shard 4 is 7 s old", "so 2 shards"] {
        assert!(screen.contains(wanted), "no {wanted:?} in\n{screen}");
    }
}

#[test]
fn a_tiny_terminal_does_no_harm() {
    let mut terminal = Terminal::new(TestBackend::new(10, 3)).unwrap();
    let times = Times::new(Scene::Shards, Pace::parse("fast").unwrap());
    terminal
        .draw(|frame| draw(frame, &state(), &times, Duration::ZERO))
        .unwrap();
    terminal
        .draw(|frame| draw(frame, &State::default(), &times, Duration::ZERO))
        .unwrap();
}
