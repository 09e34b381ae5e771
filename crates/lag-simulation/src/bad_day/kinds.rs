//! The kinds of bad days, a line of the table each.

use super::{BadDay, Invariants};
use crate::{
    cluster::faults::{Outage, Plan},
    policy::Eyes,
    run::Setup,
    workload::Reshard,
};

/// An outage lasts from one second to the other.
const OUTAGE: (u64, u64) = (5400, 5400 + 7200);
/// A key is denied from one second to the other.
const DENIED: (u64, u64) = (5400, 5400 + HOUR);
const HOUR: u64 = 3600;

/// 4 shards are 256, doubled a minute apart.
const TO_256: [(u64, Reshard); 6] = [
    (6000, Reshard::Split),
    (6060, Reshard::Split),
    (6120, Reshard::Split),
    (6180, Reshard::Split),
    (6240, Reshard::Split),
    (6300, Reshard::Split),
];

const USUAL: Invariants = Invariants {
    pods: 2.5,
    p99: Some(6.0),
    changes: 6.0,
    alarms: 0.01,
    keeps: false,
    orphaned: 600,
};

/// All of them.
pub fn bad_days() -> Vec<BadDay> {
    let day = |name, change| BadDay {
        name,
        hours: 6,
        change,
        shards: None,
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
        outage(
            "all stand for 2 h, and are replaced every 30 min",
            |setup| {
                with_plan(setup, |plan| {
                    plan.outage = Some((Outage::Total, OUTAGE.0, OUTAGE.1));
                    plan.rollout_every = Some(1800);
                })
            },
        ),
        outage(
            "a fourth of the pods, of a shard each, stand for 2 h",
            |setup| {
                with_plan(setup, |plan| {
                    plan.outage = Some((Outage::Quarter, OUTAGE.0, OUTAGE.1));
                    plan.weak = true;
                })
            },
        ),
        BadDay {
            shards: Some((4, &TO_256)),
            // A pod for each shard reads what came meanwhile.
            holds: Invariants {
                pods: 4.0,
                p99: None,
                alarms: 1.0,
                ..USUAL
            },
            ..outage("all stand for 2 h, and 4 shards become 256", |setup| {
                with_plan(setup, |plan| {
                    plan.outage = Some((Outage::Total, OUTAGE.0, OUTAGE.1))
                })
            })
        },
        outage("the key is denied for 1 h, to the scaler too", |setup| {
            with_plan(setup, |plan| {
                plan.outage = Some((Outage::Denied, DENIED.0, DENIED.1))
            })
        }),
        outage("the same for half of the shards", |setup| {
            with_plan(setup, |plan| {
                plan.outage = Some((Outage::HalfDenied, DENIED.0, DENIED.1))
            })
        }),
        outage(
            "the lease table restored: checkpoints of 1 h before",
            |setup| with_plan(setup, |plan| plan.restored = Some((OUTAGE.0, HOUR))),
        ),
        outage("pods carry half for 2 h", |setup| {
            with_plan(setup, |plan| plan.halved = Some(OUTAGE))
        }),
        BadDay {
            holds: Invariants {
                p99: None,
                alarms: 1.0,
                keeps: true,
                ..USUAL
            },
            ..day("no checkpoint is ever written", |setup| {
                with_plan(setup, |plan| plan.no_checkpoints = true)
            })
        },
        // A scaler that has just started takes who is far behind, and stands, for an outage.
        BadDay {
            holds: Invariants {
                alarms: 0.05,
                ..USUAL
            },
            ..day(
                "checkpoints every 5 min, `lagThreshold` 10 min, the scaler rolled out every 45 min",
                |setup| Setup {
                    checkpoint: 300,
                    threshold: 600,
                    restart: Some(2700),
                    ..setup
                },
            )
        },
        day("a pod takes at most 4 leases of 12", |setup| {
            with_plan(setup, |plan| plan.lease_limit = Some(4))
        }),
        BadDay {
            // Nobody reads what those that start are to take.
            holds: Invariants {
                p99: Some(18.0),
                ..USUAL
            },
            ..day("the same, and starts 5 min later", |setup| {
                with_plan(setup, |plan| {
                    plan.lease_limit = Some(4);
                    plan.late_start = 300;
                })
            })
        },
        day("a rolling deploy every 30 min", |setup| {
            with_plan(setup, |plan| plan.rollout_every = Some(1800))
        }),
        BadDay {
            // What a killed pod had stands until others read it.
            holds: Invariants {
                alarms: 0.02,
                ..USUAL
            },
            ..day("a pod killed every 10 min", |setup| {
                with_plan(setup, |plan| {
                    plan.kill_every = Some(600);
                    plan.failover = 10;
                })
            })
        },
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
