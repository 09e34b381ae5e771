//! A workload, a consumer and a policy, second by second, and what came of it.

use std::time::Duration;

use keda_rules::{Autoscaling, Limits};
use right_sizing::Settings;

use crate::{
    cluster::{Cluster, Consumer, Placement, faults::Plan},
    policy::{Answer, Eyes, Policy, Scaler},
    workload::{Load, Reshard, Workload},
};

/// Everything about a run but its workload, policy and seed.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Who reads.
    pub consumer: Consumer,
    /// By what leases are dealt.
    pub placement: Placement,
    /// `lagThreshold`, in seconds.
    pub threshold: u64,
    /// `shardCount`.
    pub shard_count: u32,
    /// Seconds between checkpoints.
    pub checkpoint: u64,
    /// How well the scaler sees.
    pub eyes: Eyes,
    /// The scaler forgets everything every so many seconds.
    pub restart: Option<u64>,
    /// A second scaler, started later, answers in turn with the first.
    pub two_scalers: bool,
    /// `scaleDown.stabilizationWindowSeconds`.
    pub stabilisation: u64,
    /// `external-push`: activity is told at each refresh and not asked for every 30 s.
    pub push: bool,
    /// A shard's processor fails on a record for so many seconds, from the first hour on.
    pub stuck: Option<u64>,
    /// What goes wrong with the pods.
    pub plan: Plan,
}

impl Setup {
    /// The defaults of everything: checkpoints at each second by ours, at each ten by a Java-like
    /// one.
    pub fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            placement: Placement::Number,
            threshold: 30,
            shard_count: 1,
            checkpoint: match consumer {
                Consumer::Own => 1,
                Consumer::Java => 10,
            },
            eyes: Eyes {
                jitter: 2,
                ..Eyes::default()
            },
            restart: None,
            two_scalers: false,
            stabilisation: 300,
            push: true,
            stuck: None,
            plan: Plan::default(),
        }
    }
}

/// One moment of a run, for pictures.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the start.
    pub second: u64,
    /// Pods there are.
    pub replicas: u32,
    /// Age of the oldest record nobody has read.
    pub age: u64,
    /// Records that arrive, a second.
    pub load: f64,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Pod hours.
    pub pod_hours: f64,
    /// Seconds at each age of the oldest record: index is the age.
    pub ages: Vec<u64>,
    /// How often the replicas changed, an hour.
    pub changes: f64,
    /// Leases that moved between pods that ran, an hour.
    pub moves: f64,
    /// Each quarter of a minute.
    pub moments: Vec<Moment>,
    /// Seconds in which right-sizing spoke of an outage.
    pub alarms: u64,
    /// The longest time in seconds for which shards with something to read had no living owner
    /// while pods ran.
    pub orphaned: u64,
    /// What right-sizing said each time it changed its mind.
    pub story: Vec<(u64, String)>,
}

impl Outcome {
    /// The age that 99 % of the time is not above.
    pub fn p99(&self) -> u64 {
        let all: u64 = self.ages.iter().sum();
        let mut above = 0;
        for (age, seconds) in self.ages.iter().enumerate().rev() {
            above += seconds;
            if above * 100 > all {
                return age as u64;
            }
        }
        0
    }

    /// The worst age.
    pub fn max(&self) -> u64 {
        self.ages.len() as u64 - 1
    }

    /// Part of the time in which the oldest record was older than `age`, in percent.
    pub fn above(&self, age: u64) -> f64 {
        let all: u64 = self.ages.iter().sum();
        let above: u64 = self.ages.iter().skip(age as usize + 1).sum();
        above as f64 * 100.0 / all as f64
    }
}

/// Runs it. The deployment starts with the replicas that the oracle would start with.
pub fn run(workload: &Workload, policy: Policy, setup: &Setup, seed: u64) -> Outcome {
    let settings = Settings::new(setup.threshold * 1000, setup.shard_count);
    let load = Load::new(workload, seed);
    let mut cluster = Cluster::new(
        setup.consumer,
        workload.shards,
        start(
            workload,
            &load,
            if setup.plan.weak { 250.0 } else { 1000.0 },
        ),
        setup.checkpoint,
        seed,
    );
    if let Some(long) = setup.stuck {
        cluster.shards[1].stuck = Some((3600, 3600 + long));
    }
    cluster.deal_by(setup.placement);
    cluster.break_by(setup.plan, seed);
    let scaler = |n: u64| Scaler::new(policy, settings, setup.eyes, seed + n * 1000);
    let mut scalers = vec![scaler(0)];
    let mut next = vec![0];
    let mut answers: Vec<Option<Answer>> = vec![None];
    let mut keda = Autoscaling::new(Limits {
        stabilisation: Duration::from_secs(setup.stabilisation),
        ..Limits::defaults(u32::from(policy == Policy::IteratorAge), 1000)
    });
    let (mut active, mut turn) = (true, 0);
    let mut outcome = Outcome {
        pod_hours: 0.0,
        ages: Vec::new(),
        changes: 0.0,
        moves: 0.0,
        moments: Vec::new(),
        alarms: 0,
        orphaned: 0,
        story: Vec::new(),
    };
    let mut orphaned_since = None;
    let seconds = workload.hours * 3600;
    for second in 0..seconds {
        for (at, reshard) in workload.reshards {
            if *at == second {
                match reshard {
                    Reshard::Split => cluster.split_all(),
                    Reshard::Merge => cluster.merge_all(),
                }
            }
        }
        if setup.two_scalers && second == 5400 {
            scalers.push(scaler(1));
            next.push(second);
            answers.push(None);
        }
        if setup
            .restart
            .is_some_and(|every| second > 0 && second.is_multiple_of(every))
        {
            scalers[0] = scaler(2 + second);
        }
        let mut arriving = 0.0;
        let mut index = 0;
        let numbers: Vec<usize> = (0..cluster.shards.len())
            .filter(|i| cluster.shards[*i].is_open())
            .collect();
        cluster.step(|shard| {
            let rate = load.at(second, numbers[index], shard.keys);
            index += 1;
            arriving += rate;
            rate
        });
        for (n, scaler) in scalers.iter_mut().enumerate() {
            if second >= next[n] {
                next[n] = scaler.next_refresh(second);
                let answer = scaler.refresh(second + 1, &cluster, &load);
                if scaler.looks_soon() {
                    next[n] -= 10;
                }
                if let Some(decision) = &scaler.decision
                    && decision.step != right_sizing::Step::Hold
                {
                    outcome.story.push((
                        second,
                        format!("→ {} {}", decision.replicas, decision.reason),
                    ));
                }
                if setup.push {
                    active = answer.active;
                    if active && cluster.replicas() == 0 {
                        outcome.changes += 1.0 / workload.hours as f64;
                        cluster.scale(1);
                    }
                }
                answers[n] = Some(answer);
            }
        }
        if second % 15 == 7 {
            turn = (turn + 1) % answers.len();
            if let Some(answer) = answers[turn] {
                if second % 30 == 7 {
                    active = answer.active;
                }
                let current = cluster.replicas();
                let now = Duration::from_secs(second);
                let decided = keda.decide(now, current, answer.value, answer.target, active);
                if decided.replicas != current {
                    outcome.changes += 1.0 / workload.hours as f64;
                    cluster.scale(decided.replicas);
                }
            }
        }
        let alarm = |scaler: &Scaler| {
            let decision = scaler.decision.as_ref();
            decision.is_some_and(|decision| decision.outage.is_some())
        };
        outcome.alarms += u64::from(scalers.iter().any(alarm));
        if cluster.replicas() > 0 && cluster.has_orphan() {
            let since = *orphaned_since.get_or_insert(second);
            outcome.orphaned = outcome.orphaned.max(second - since);
        } else {
            orphaned_since = None;
        }
        outcome.pod_hours += f64::from(cluster.replicas()) / 3600.0;
        let age = cluster.oldest_unread();
        let slot = age as usize;
        if outcome.ages.len() <= slot {
            outcome.ages.resize(slot + 1, 0);
        }
        outcome.ages[slot] += 1;
        if second.is_multiple_of(15) {
            outcome.moments.push(Moment {
                second,
                replicas: cluster.replicas(),
                age,
                load: arriving,
            });
        }
    }
    outcome.moves = cluster.moves as f64 / workload.hours as f64;
    outcome
}

/// The pods that run when the simulation begins: the fewest that carry its first two minutes.
fn start(workload: &Workload, load: &Load, capacity: f64) -> u32 {
    let width = 1.0 / f64::from(workload.shards);
    let needs: Vec<f64> = (0..workload.shards)
        .map(|i| {
            let keys = (f64::from(i) * width, f64::from(i + 1) * width);
            (0..120)
                .map(|second| load.at(second, i as usize, keys))
                .sum::<f64>()
                / 120.0
        })
        .collect();
    (1..workload.shards)
        .find(|pods| {
            let pods = *pods as usize;
            (0..pods).all(|pod| needs.iter().skip(pod).step_by(pods).sum::<f64>() <= capacity)
        })
        .unwrap_or(workload.shards)
}
