//! Days on which things break, and what must hold on each of them.

use crate::{
    cluster::{
        Consumer,
        faults::{Outage, Plan},
    },
    policy::{Eyes, Policy},
    run::{Outcome, Setup, run},
    workload::Workload,
};

/// An outage lasts from one second to the other.
const OUTAGE: (u64, u64) = (5400, 5400 + 7200);
const HOUR: u64 = 3600;

/// A kind of bad day.
#[derive(Clone, Copy, Debug)]
pub struct BadDay {
    /// Its name in tables.
    pub name: &'static str,
    /// How long it is simulated, in hours.
    pub hours: u64,
    /// What is wrong.
    change: fn(Setup) -> Setup,
    /// What must hold besides what always must.
    holds: Invariants,
}

/// What must hold, of one run beside the oracle's.
#[derive(Clone, Copy, Debug)]
struct Invariants {
    /// Pods are at most so many times the oracle's.
    pods: f64,
    /// The age that 99 % of the time is not above, in thresholds; not asked in an outage.
    p99: Option<f64>,
    /// At most so many changes of the replicas an hour.
    changes: f64,
    /// Right-sizing may speak of an outage for so much of the time.
    alarms: f64,
    /// Shards wait for an owner for at most so many seconds.
    orphaned: u64,
}

const USUAL: Invariants = Invariants {
    pods: 2.5,
    p99: Some(6.0),
    changes: 6.0,
    alarms: 0.01,
    orphaned: 600,
};

/// What a bad day came to.
#[derive(Clone, Debug)]
pub struct Day {
    /// The run and the oracle's.
    pub outcome: Outcome,
    /// The oracle's.
    pub oracle: Outcome,
    /// From the end of an outage until nothing is older than the threshold, in seconds.
    pub drain: Option<(u64, u64)>,
    /// What did not hold.
    pub broken: Vec<String>,
}

/// All of them.
pub fn bad_days() -> Vec<BadDay> {
    let day = |name, change| BadDay {
        name,
        hours: 6,
        change,
        holds: USUAL,
    };
    let outage = |name, change| BadDay {
        holds: Invariants {
            pods: 3.0,
            p99: None,
            alarms: 1.0,
            ..USUAL
        },
        ..day(name, change)
    };
    // Until its leases expire, a dead pod is one that stands.
    let dead = |name, change| BadDay {
        holds: Invariants {
            pods: 3.5,
            alarms: 0.1,
            ..USUAL
        },
        ..day(name, change)
    };
    // An oracle that knows no strength or pause is no measure.
    let uneven = |name, change| BadDay {
        holds: Invariants { pods: 4.5, ..USUAL },
        ..day(name, change)
    };
    vec![
        outage("all pods stand for 2 h", |setup| {
            with_plan(setup, |plan| {
                plan.outage = Some((Outage::Total, OUTAGE.0, OUTAGE.1))
            })
        }),
        outage("half of the pods stand for 2 h", |setup| {
            with_plan(setup, |plan| {
                plan.outage = Some((Outage::Half, OUTAGE.0, OUTAGE.1))
            })
        }),
        day("a pod takes at most 4 leases of 12", |setup| {
            with_plan(setup, |plan| plan.lease_limit = Some(4))
        }),
        day("a rolling deploy every 30 min", |setup| {
            with_plan(setup, |plan| plan.rollout_every = Some(1800))
        }),
        day("a pod killed every 10 min", |setup| {
            with_plan(setup, |plan| {
                plan.kill_every = Some(600);
                plan.failover = 10;
            })
        }),
        dead("the same, failover time 60 s", |setup| Setup {
            eyes: Eyes {
                rhythm: Some(20),
                ..setup.eyes
            },
            ..with_plan(setup, |plan| {
                plan.kill_every = Some(600);
                plan.failover = 60;
            })
        }),
        BadDay {
            holds: Invariants {
                p99: None,
                pods: 3.0,
                alarms: 0.1,
                orphaned: 900,
                ..USUAL
            },
            ..day("a pod killed every hour, failover time 300 s", |setup| {
                Setup {
                    eyes: Eyes {
                        rhythm: Some(100),
                        ..setup.eyes
                    },
                    ..with_plan(setup, |plan| {
                        plan.kill_every = Some(3600);
                        plan.failover = 300;
                    })
                }
            })
        },
        uneven("pods carry 0.6 to 1.4, and less for 2 min", |setup| {
            with_plan(setup, |plan| {
                plan.unequal = true;
                plan.cold = 120;
            })
        }),
        uneven("each pod pauses for 20 s every 10 min", |setup| {
            with_plan(setup, |plan| plan.pause_every = Some(600))
        }),
        day("the scaler's clock 35 s ahead of AWS's", |setup| {
            with_clock(setup, -35)
        }),
        day("the scaler's clock 35 s behind AWS's", |setup| {
            with_clock(setup, 35)
        }),
        BadDay {
            hours: 9,
            holds: Invariants { pods: 3.5, ..USUAL },
            ..day("a poisoned shard for 6 h", |setup| Setup {
                stuck: Some(6 * HOUR),
                ..setup
            })
        },
        day("half of the probes throttled", |setup| Setup {
            eyes: Eyes {
                throttled: 0.5,
                ..setup.eyes
            },
            ..setup
        }),
        day("the scaler rolled out every 45 min", |setup| Setup {
            restart: Some(2700),
            ..setup
        }),
    ]
}

fn with_plan(setup: Setup, change: impl Fn(&mut Plan)) -> Setup {
    let mut plan = setup.plan;
    change(&mut plan);
    Setup { plan, ..setup }
}

fn with_clock(setup: Setup, skew: i64) -> Setup {
    Setup {
        eyes: Eyes {
            skew,
            knows_time: true,
            ..setup.eyes
        },
        ..setup
    }
}

impl BadDay {
    /// Runs it, beside an oracle that meets the same.
    pub fn run(&self, workload: &Workload, consumer: Consumer, seed: u64) -> Day {
        let mut workload = workload.clone();
        workload.hours = self.hours;
        let setup = (self.change)(Setup::new(consumer));
        let outage = setup.plan.outage.map(|(kind, from, to)| (kind, (from, to)));
        let patient = Setup {
            eyes: Eyes {
                patience: outage.map(|(_, span)| span),
                ..Eyes::default()
            },
            restart: None,
            ..setup
        };
        let outcome = run(&workload, Policy::Lag, &setup, seed);
        let oracle = run(&workload, Policy::Oracle, &patient, seed);
        let drained = |outcome: &Outcome| {
            let mut after = outcome.moments.iter().filter(|it| it.second >= OUTAGE.1);
            let young = after.find(|moment| moment.age <= setup.threshold);
            young.map_or(u64::MAX, |moment| moment.second - OUTAGE.1)
        };
        let drain = outage.map(|_| (drained(&outcome), drained(&oracle)));
        let mut day = Day {
            outcome,
            oracle,
            drain,
            broken: Vec::new(),
        };
        day.check(self.holds, outage, &setup);
        day
    }
}

impl Day {
    /// Pod hours beside the oracle's.
    pub fn pods(&self) -> f64 {
        self.outcome.pod_hours / self.oracle.pod_hours
    }

    fn check(&mut self, holds: Invariants, outage: Option<(Outage, (u64, u64))>, setup: &Setup) {
        let java = if setup.consumer == Consumer::Java {
            1.5
        } else {
            1.0
        };
        let Self { outcome, drain, .. } = self;
        let seconds: u64 = outcome.ages.iter().sum();
        let alarms = outcome.alarms as f64 / seconds as f64;
        let p99 = outcome.p99() as f64 / setup.threshold as f64;
        let mut broken = Vec::new();
        let mut need = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        need(
            alarms <= holds.alarms,
            format!("an outage for {alarms:.3} of the time"),
        );
        need(
            outcome.changes <= holds.changes,
            format!("{:.1} changes an hour", outcome.changes),
        );
        need(
            outcome.orphaned <= holds.orphaned,
            format!("without owner for {} s", outcome.orphaned),
        );
        if let Some(most) = holds.p99 {
            need(p99 <= most * java, format!("p99 {} s", outcome.p99()));
        }
        if let Some((kind, (from, to))) = outage {
            let during = |moment: &&crate::run::Moment| (from..to).contains(&moment.second);
            let replicas = || outcome.moments.iter().filter(during).map(|it| it.replicas);
            let before = replicas().next().unwrap_or(0);
            let least = replicas().min().unwrap_or(0);
            need(
                least >= before,
                format!("{least} pods of {before} in the outage"),
            );
            need(
                outcome.alarms + 300 >= to - from || kind == Outage::Half,
                format!("an outage of {} s told for {} s", to - from, outcome.alarms),
            );
            need(
                outcome.alarms > 600,
                format!("told for {} s", outcome.alarms),
            );
        }
        if let Some((ours, oracles)) = *drain {
            need(
                ours <= oracles.saturating_add(900).saturating_add(oracles / 2),
                format!("drained in {ours} s, the oracle in {oracles} s"),
            );
        }
        let pods = self.pods();
        need(pods <= holds.pods, format!("{pods:.2} × the oracle's pods"));
        self.broken = broken;
    }
}
