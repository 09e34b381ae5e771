//! Every time of the story, beside the one that a real cluster has. Shortened, and the screen says
//! so.

use std::time::Duration;

use crate::args::{Pace, Scene};

/// The shortened times.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The scene that they are for.
    pub scene: Scene,
    /// The HPA's sync period, and KEDA's `pollingInterval` while pods run.
    pub poll: Duration,
    /// KEDA's `pollingInterval` at zero, where a push is faster.
    pub polling_interval: Duration,
    /// `lagThreshold`. Not scaled: right-sizing's own times are not either.
    pub threshold: Duration,
    /// The HPA's scale-down stabilisation.
    pub stabilisation: Duration,
    /// KEDA's `cooldownPeriod`.
    pub cooldown: Duration,
    /// The scaler's `refresh`: how often it asks Kinesis.
    pub refresh: Duration,
    /// The consumers' failover time: how long the shards of a dead pod wait.
    pub failover: Duration,
    /// The pod's `terminationGracePeriodSeconds`. Not scaled: a busy machine needs its time.
    pub grace: Duration,
    /// How often the demo looks at shards, leases, table and pods.
    pub observe: Duration,
    /// How long each step is shown after its goal is reached.
    pub hold: Duration,
    /// A step that takes longer has failed. Not scaled.
    pub give_up: Duration,
}

impl Times {
    /// The times of a story told at that pace.
    pub fn new(scene: Scene, pace: Pace) -> Self {
        let millis = |normal| pace.of(Duration::from_millis(normal));
        Self {
            scene,
            polling_interval: millis(30_000),
            threshold: Duration::from_secs(5),
            poll: millis(1_000),
            stabilisation: millis(6_000),
            // A pod must start within it.
            cooldown: millis(6_000).max(Duration::from_secs(4)),
            refresh: millis(500),
            failover: millis(3_000).max(Duration::from_secs(2)),
            grace: Duration::from_secs(10),
            observe: Duration::from_millis(500),
            hold: millis(5_500),
            give_up: match scene {
                Scene::Shards => Duration::from_secs(60),
                // A backlog is to be drained.
                Scene::Lag => Duration::from_secs(180),
            },
        }
    }

    /// What is shortened: what, here, on a cluster.
    pub fn notes(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut notes = vec![
            (
                "KEDA asks the scaler",
                format!("every {}", human(self.poll)),
                "every 30 s, and the HPA every 15 s",
            ),
            (
                "the scaler asks Kinesis",
                format!("every {}", human(self.refresh)),
                "every 15 s",
            ),
            (
                "the HPA waits before scaling down",
                human(self.stabilisation),
                "5 min",
            ),
            ("a dead pod's shards wait", human(self.failover), "10 s"),
        ];
        notes.push(match self.scene {
            Scene::Shards => (
                "a reshard takes",
                "no time".to_owned(),
                "half a minute or more, and its short-lived shards count, too",
            ),
            Scene::Lag => ("lagThreshold", human(self.threshold), "30 s"),
        });
        if self.scene == Scene::Lag {
            let going = "KEDA waits before going to zero";
            notes.push((going, human(self.cooldown), "5 min"));
            let own = "the scaler waits after a change";
            notes.push((own, "2 min".to_owned(), "the same: its own times are real"));
        }
        notes
    }
}

/// `4.5 s`, `450 ms`, `1 min 15 s`: for people.
pub fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", millis / 60_000, millis / 1_000 % 60),
    }
}

/// `00:07`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}
