//! Loads: how many records a second, over the key space and time.

use std::f64::consts::TAU;

use fastrand::Rng;

use crate::generator;

/// A change of the stream's shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reshard {
    /// Every open shard becomes two.
    Split,
    /// Every two become one.
    Merge,
}

/// The total load, in records a second at a second.
#[derive(Clone, Debug)]
enum Shape {
    Function(fn(second: f64) -> f64),
    Generated(generator::Load),
}

impl Shape {
    fn at(&self, second: f64) -> f64 {
        match self {
            Self::Function(function) => function(second),
            Self::Generated(load) => load.at(second),
        }
    }
}

/// What is sent to a stream.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// In a few words.
    pub what: &'static str,
    /// The same all the time: at most one change an hour is wanted.
    pub steady: bool,
    /// Hours simulated.
    pub hours: u64,
    /// Shards at the start.
    pub shards: u32,
    shape: Shape,
    /// Sent to one key beside the rest: records a second, and the key, 0 to 1, at a second.
    hot: Option<fn(f64) -> (f64, f64)>,
    /// The same all the time: records a second, and the key.
    pub(crate) hot_key: Option<(f64, f64)>,
    /// Lognormal noise of each shard, its sigma, over about a minute.
    pub(crate) noise: f64,
    /// The total walks at random, this far in an hour, lognormal.
    pub(crate) walk: f64,
    /// At a second.
    pub reshards: &'static [(u64, Reshard)],
}

const HOUR: f64 = 3600.0;

impl Workload {
    fn new(name: &'static str, what: &'static str, shape: fn(f64) -> f64) -> Self {
        Self::shaped(name, what, Shape::Function(shape))
    }

    /// Four hours of this load on so many shards.
    pub fn of_load(name: &'static str, load: generator::Load, shards: u32) -> Self {
        Self::shaped(name, "by chance", Shape::Generated(load)).shards(shards)
    }

    fn shaped(name: &'static str, what: &'static str, shape: Shape) -> Self {
        Self {
            name,
            what,
            steady: false,
            hours: 4,
            shards: 12,
            shape,
            hot: None,
            hot_key: None,
            noise: 0.1,
            walk: 0.0,
            reshards: &[],
        }
    }

    fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    fn noise(mut self, sigma: f64) -> Self {
        self.noise = sigma;
        self
    }

    fn hot(mut self, hot: fn(f64) -> (f64, f64)) -> Self {
        self.hot = Some(hot);
        self
    }

    fn reshards(mut self, reshards: &'static [(u64, Reshard)]) -> Self {
        self.reshards = reshards;
        self
    }

    fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    fn hours(mut self, hours: u64) -> Self {
        self.hours = hours;
        self
    }
}

/// The workloads that the rules were tuned on, with other seeds than reported. A pod carries 1,000
/// records a second.
pub fn known() -> Vec<Workload> {
    let w = Workload::new;
    vec![
        w("steady30", "1,200/s", |_| 1200.0).steady(),
        w("steady60", "2,400/s", |_| 2400.0).steady(),
        w("steady90", "3,600/s: 4 pods at 90 %", |_| 3600.0).steady(),
        w("step", "1,000/s, × 4 after 1 h, back after 2½ h", |t| {
            if (HOUR..2.5 * HOUR).contains(&t) {
                4000.0
            } else {
                1000.0
            }
        }),
        w("diurnal", "a sine from 500 to 5,500/s in 4 h", |t| {
            3000.0 - 2500.0 * (TAU * t / (4.0 * HOUR)).cos()
        }),
        w(
            "bursts",
            "3,600/s for 10 min in each 50, else nothing",
            |t| {
                if t % 3000.0 < 600.0 { 3600.0 } else { 0.0 }
            },
        ),
        w("drift", "1,000 to 5,000/s in 4 h", |t| {
            1000.0 + 1000.0 * t / HOUR
        }),
        w("hot", "100/s a shard, one 700/s", |_| 1200.0).hot(|_| (600.0, 0.3)),
        w(
            "reshard",
            "3,600/s, 12 shards become 24 after 1½ h",
            |_| 3600.0,
        )
        .reshards(&[(5400, Reshard::Split)]),
        w(
            "noisy",
            "3,000/s, each shard's noise lognormal, sigma 0.5",
            |_| 3000.0,
        )
        .noise(0.5),
        w(
            "flights",
            "two steep peaks, synthetic: a day in 4 h",
            flights,
        ),
    ]
}

/// Workloads that nothing was tuned on.
pub fn held_out() -> Vec<Workload> {
    let w = Workload::new;
    vec![
        w(
            "ramp",
            "500 to 6,000/s in 20 min, after 1 h; back in 20 min, after 2½ h",
            |t| {
                let up = ((t - HOUR) / 1200.0).clamp(0.0, 1.0);
                let down = ((t - 2.5 * HOUR) / 1200.0).clamp(0.0, 1.0);
                500.0 + 5500.0 * (up - down)
            },
        ),
        w("spikes", "1,500/s, 5,000/s for 2 min in each 37", |t| {
            if (1200.0..1320.0).contains(&(t % 2220.0)) {
                5000.0
            } else {
                1500.0
            }
        }),
        w("walk", "a random walk around 2,500/s", |_| 2500.0).walk(0.4),
        w(
            "moving hot",
            "150/s a shard, 600/s more at another each hour",
            |_| 1800.0,
        )
        .hot(|t| (600.0, ((t / HOUR).floor() * 0.37 + 0.04).fract())),
        w("3 shards", "600 to 2,400/s, a sine in 2 h", |t| {
            1500.0 - 900.0 * (TAU * t / (2.0 * HOUR)).cos()
        })
        .shards(3),
        w("100 shards", "5,000 to 25,000/s, a sine in 4 h", |t| {
            15000.0 - 10000.0 * (TAU * t / (4.0 * HOUR)).cos()
        })
        .shards(100),
        w("merge", "2,500/s, 24 shards become 12 after 2 h", |_| {
            2500.0
        })
        .shards(24)
        .reshards(&[(7200, Reshard::Merge)]),
        w("day", "two peaks, synthetic, in 24 h", |t| flights(t / 6.0)).hours(24),
        w("steady50", "2,000/s, sigma 0.3", |_| 2000.0)
            .noise(0.3)
            .steady(),
    ]
}

impl Workload {
    fn walk(mut self, sigma: f64) -> Self {
        self.walk = sigma;
        self
    }
}

/// A quiet night, a steep morning, a dip, an evening. Made up, no airport's.
fn flights(second: f64) -> f64 {
    let hour = second / (4.0 * HOUR) * 24.0 % 24.0;
    let peak = |at: f64, width: f64, height: f64| height * (-((hour - at) / width).powi(2)).exp();
    200.0 + peak(7.5, 1.8, 4200.0) + peak(12.5, 3.0, 2000.0) + peak(18.0, 2.2, 4600.0)
}

/// A workload with its chance drawn: loads per shard, second by second.
#[derive(Debug)]
pub struct Load {
    workload: Workload,
    /// Shards there will ever be.
    shards: usize,
    /// Factors, of every shard at every second.
    noise: Vec<f32>,
    /// Factors of all, at every second.
    walk: Vec<f32>,
    /// The total without its factors, at every second.
    total: Vec<f64>,
}

impl Load {
    /// All of it, so that an oracle can look ahead.
    pub fn new(workload: &Workload, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x10ad);
        let mut shards = workload.shards as usize;
        let mut open = shards;
        for (_, reshard) in workload.reshards {
            open = match reshard {
                Reshard::Split => open * 2,
                Reshard::Merge => open / 2,
            };
            shards += open;
        }
        let sigma = workload.noise;
        let mut states: Vec<f64> = (0..shards).map(|_| gauss(&mut rng)).collect();
        let mut walked = 0.0f64;
        let (mut noise, mut walk) = (Vec::new(), Vec::new());
        // Ornstein-Uhlenbeck processes: each shard's of deviation 1, forgetting in a minute; the
        // walk's in two hours.
        let (keep, fresh) = (1.0 - 1.0 / 60.0, (2.0f64 / 60.0).sqrt());
        for _ in 0..workload.hours * 3600 {
            for state in &mut states {
                *state = *state * keep + gauss(&mut rng) * fresh;
                noise.push((*state * sigma - sigma * sigma / 2.0).exp() as f32);
            }
            walked += gauss(&mut rng) * workload.walk / HOUR.sqrt() - walked / (2.0 * HOUR);
            walk.push(walked.exp() as f32);
        }
        let total = (0..walk.len()).map(|second| workload.shape.at(second as f64).max(0.0));
        Self {
            workload: workload.clone(),
            shards,
            noise,
            walk,
            total: total.collect(),
        }
    }

    /// What arrives in a second at the shard `index` with these keys.
    pub fn at(&self, second: u64, index: usize, keys: (f64, f64)) -> f64 {
        let second = (second as usize).min(self.walk.len() - 1);
        let even = self.total[second] * (keys.1 - keys.0);
        let hot_function = self.workload.hot.map(|hot| hot(second as f64));
        let hot = hot_function.or(self.workload.hot_key);
        let hot = hot.map_or(0.0, |(rate, key)| {
            if (keys.0..keys.1).contains(&key) {
                rate
            } else {
                0.0
            }
        });
        let noise = self.noise[second * self.shards + index];
        (even + hot) * f64::from(noise) * f64::from(self.walk[second])
    }
}

/// Deviation 1, by Box and Muller.
fn gauss(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (TAU * rng.f64()).cos()
}
