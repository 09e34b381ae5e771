//! Workloads by chance, so that rules are not tuned to the ones that somebody thought of. The same
//! seed is the same workload.

use std::f64::consts::TAU;

use fastrand::Rng;

use crate::workload::{Reshard, Workload};

/// Seconds simulated.
const LONG: f64 = 4.0 * 3600.0;

/// The total load of a generated workload: a level, and what is put on it.
#[derive(Clone, Debug)]
pub struct Load {
    level: f64,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// Times 1 + `depth` × sine.
    Wave { depth: f64, period: f64, phase: f64 },
    /// Times `factor` from one second to another, which is reached in `ramp` seconds.
    Plateau {
        factor: f64,
        from: f64,
        to: f64,
        ramp: f64,
    },
    /// Times `factor` for `long` seconds in each `period`.
    Bursts { factor: f64, period: f64, long: f64 },
    /// Nothing from one second to another.
    Silence { from: f64, to: f64 },
}

impl Load {
    /// Records a second.
    pub fn at(&self, second: f64) -> f64 {
        self.parts
            .iter()
            .fold(self.level, |load, part| load * part.factor(second))
    }
}

impl Part {
    fn factor(&self, t: f64) -> f64 {
        match *self {
            Self::Wave {
                depth,
                period,
                phase,
            } => 1.0 + depth * (TAU * t / period + phase).sin(),
            Self::Plateau {
                factor,
                from,
                to,
                ramp,
            } => {
                let up = ((t - from) / ramp).clamp(0.0, 1.0);
                let down = ((t - to) / ramp).clamp(0.0, 1.0);
                1.0 + (factor - 1.0) * (up - down)
            }
            Self::Bursts {
                factor,
                period,
                long,
            } => {
                if t % period < long {
                    factor
                } else {
                    1.0
                }
            }
            Self::Silence { from, to } => {
                if (from..to).contains(&t) {
                    0.0
                } else {
                    1.0
                }
            }
        }
    }

    fn random(rng: &mut Rng) -> Self {
        let from = rng.f64() * LONG * 0.7;
        match rng.u8(0..5) {
            0 | 1 => Self::Wave {
                depth: 0.2 + 0.7 * rng.f64(),
                period: 3600.0 * (0.5 + 3.5 * rng.f64()),
                phase: TAU * rng.f64(),
            },
            2 => Self::Plateau {
                factor: 0.3 + 3.0 * rng.f64(),
                from,
                to: from + LONG * (0.1 + 0.5 * rng.f64()),
                ramp: 1.0 + 1800.0 * rng.f64().powi(2),
            },
            3 => Self::Bursts {
                factor: 1.5 + 2.0 * rng.f64(),
                period: 900.0 + 4500.0 * rng.f64(),
                long: 60.0 + 900.0 * rng.f64(),
            },
            _ => Self::Silence {
                from,
                to: from + 600.0 + 3000.0 * rng.f64(),
            },
        }
    }
}

/// The workload of a seed: 3 to 48 shards of at most 600 records a second, a pod's 1,000, on
/// average.
pub fn generated(seed: u64) -> Workload {
    let mut rng = Rng::with_seed(seed ^ 0x9e4e);
    let shards = [3, 6, 12, 12, 24, 48][rng.usize(0..6)];
    let parts = (0..rng.usize(1..=3))
        .map(|_| Part::random(&mut rng))
        .collect();
    let mut load = Load { level: 1.0, parts };
    let most = (0..LONG as u64)
        .step_by(30)
        .map(|t| load.at(t as f64))
        .fold(0.01, f64::max);
    let reshards: &[(u64, Reshard)] = match rng.u8(0..8) {
        0 if shards < 48 => &[(7200, Reshard::Split)],
        1 if shards > 6 => &[(5400, Reshard::Merge)],
        _ => &[],
    };
    // No shard is too big for a pod, after a merge neither.
    let fewest = match reshards {
        [(_, Reshard::Merge)] => shards / 2,
        _ => shards,
    };
    load.level = f64::from(fewest) * (100.0 + 500.0 * rng.f64()) / most;
    let mut workload = Workload::of_load("generated", load, shards);
    workload.noise = 0.3 * rng.f64();
    if rng.u8(0..4) == 0 {
        workload.walk = 0.3 * rng.f64();
    }
    if rng.u8(0..5) == 0 {
        workload.hot_key = Some((200.0 + 300.0 * rng.f64(), rng.f64()));
    }
    workload.reshards = reshards;
    workload
}
