//! An application that is driven look by look.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use right_sizing::{Decision, Observation, Settings, ShardObservation, State};

pub const START_MS: u64 = 1_764_100_000_000;
pub const REFRESH_MS: u64 = 15_000;

/// An application whose pods hold the shards in turn.
pub struct Day {
    pub state: State,
    pub settings: Settings,
    pub seen: Observation,
}

impl Day {
    pub fn new(shards: usize, pods: usize) -> Self {
        let shard = |number: usize| ShardObservation {
            id: format!("shardId-{number:012}"),
            owner: Some(format!("pod-{}", number % pods)),
            ..ShardObservation::default()
        };
        let mut seen = Observation {
            at_ms: START_MS,
            ..Observation::default()
        };
        seen.shards = (0..shards).map(shard).collect();
        Self {
            state: State::default(),
            settings: Settings::new(30_000, 1),
            seen,
        }
    }

    /// So many refreshes; `change` does what happened to each shard since the one before.
    pub fn look(
        &mut self,
        refreshes: usize,
        mut change: impl FnMut(usize, &mut ShardObservation, u64),
    ) -> Vec<Decision> {
        let refresh = |_| {
            self.seen.at_ms += REFRESH_MS;
            let at_ms = self.seen.at_ms;
            for (number, shard) in self.seen.shards.iter_mut().enumerate() {
                change(number, shard, at_ms);
            }
            self.state.decide(&self.seen, &self.settings)
        };
        (0..refreshes).map(refresh).collect()
    }

    /// The same, the last of them.
    pub fn last(
        &mut self,
        refreshes: usize,
        change: impl FnMut(usize, &mut ShardObservation, u64),
    ) -> Decision {
        self.look(refreshes, change).pop().unwrap()
    }
}

/// Read to within a second.
pub fn reads(shard: &mut ShardObservation, at_ms: u64) {
    shard.checkpoint = at_ms.to_string();
    shard.unread_since_ms = Some(at_ms - 1_000);
    shard.as_of_ms = None;
}

/// A day with this threshold, on which all is on time for so many looks.
pub fn healthy(shards: usize, pods: usize, threshold_s: u64, looks: usize) -> Day {
    let mut day = Day::new(shards, pods);
    day.settings = Settings::new(threshold_s * 1000, 1);
    day.look(looks, |_, shard, at_ms| reads(shard, at_ms));
    day
}
