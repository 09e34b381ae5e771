//! A small application, driven look by look.

use right_sizing::{Decision, Observation, Settings, ShardObservation, State, Step};

/// An application whose pods hold the shards in turn. Positions move as `gain` says.
pub(crate) struct Application {
    pub(crate) state: State,
    pub(crate) settings: Settings,
    pub(crate) at_ms: u64,
    pub(crate) owners: Vec<Option<u32>>,
    pub(crate) lags_ms: Vec<u64>,
    pub(crate) checkpoints: Vec<u64>,
    pub(crate) recording: String,
}

pub(crate) const START_MS: u64 = 1_700_000_000_000;
pub(crate) const REFRESH_MS: u64 = 15_000;

impl Application {
    pub(crate) fn new(shards: usize, pods: u32, settings: Settings) -> Self {
        let mut application = Self {
            state: State::default(),
            settings,
            at_ms: START_MS,
            owners: vec![None; shards],
            lags_ms: vec![500; shards],
            checkpoints: vec![0; shards],
            recording: String::new(),
        };
        application.deal(pods);
        application
    }

    pub(crate) fn deal(&mut self, pods: u32) {
        for (index, owner) in self.owners.iter_mut().enumerate() {
            *owner = (pods > 0).then(|| index as u32 % pods.max(1));
        }
    }

    pub(crate) fn seen(&self) -> Observation {
        let shards = (0..self.owners.len())
            .map(|i| ShardObservation {
                id: format!("shardId-{i:012}"),
                owner: self.owners[i].map(|pod| format!("pod-{pod}")),
                checkpoint: self.checkpoints[i].to_string(),
                unread_since_ms: (self.lags_ms[i] > 0).then(|| self.at_ms - self.lags_ms[i]),
                ..ShardObservation::default()
            })
            .collect();
        Observation {
            at_ms: self.at_ms,
            shards,
            ..Observation::default()
        }
    }

    pub(crate) fn decide(&mut self, seen: &Observation) -> Decision {
        let recorded = right_sizing::Recorded {
            settings: self.settings,
            observation: seen.clone(),
        };
        self.recording += &(serde_json::to_string(&recorded).unwrap() + "\n");
        self.state.decide(seen, &self.settings)
    }

    /// A refresh later; every held shard has gained `gain` seconds a second.
    pub(crate) fn look(&mut self, gain: f64) -> Decision {
        self.look_each(|_| gain)
    }

    pub(crate) fn look_each(&mut self, gain: impl Fn(usize) -> f64) -> Decision {
        self.at_ms += REFRESH_MS;
        for i in 0..self.owners.len() {
            let (gain, held) = (gain(i), self.owners[i].is_some());
            let change = (REFRESH_MS as f64 * (1.0 - if held { gain } else { 0.0 })) as i64;
            self.lags_ms[i] = self.lags_ms[i].saturating_add_signed(change).max(500);
            if held && gain > 0.0 {
                self.checkpoints[i] += 1;
            }
        }
        let seen = self.seen();
        self.decide(&seen)
    }

    /// Looks until one is anything but a hold, at most so many.
    pub(crate) fn until_a_step(&mut self, gain: f64, looks: u32) -> Decision {
        for _ in 1..looks {
            let decision = self.look(gain);
            if decision.step != Step::Hold {
                return decision;
            }
        }
        self.look(gain)
    }
}
