//! From lag to replicas, with a memory for each distinct threshold and `shardCount`. The decision itself is `right_sizing`'s, and pure.

mod record;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use right_sizing::{Decision, Observation, Settings, State, Step};
use tokio::time::Instant;
use tracing::info;

pub use self::record::Recorder;
use crate::trigger::Source;

/// Settings that one application is decided with at a time. ScaledObjects rarely share an application, let alone differ about it.
const MOST: usize = 16;

/// Settings that nobody asked for in this long make room for others.
const IDLE: Duration = Duration::from_secs(600);

/// Settings that nobody asked for in this long are forgotten.
const FORGET: Duration = Duration::from_secs(3600);

/// The decisions about one application.
#[derive(Debug)]
pub struct RightSize {
    source: Source,
    recorder: Option<Arc<Recorder>>,
    memories: Mutex<HashMap<Key, Memory>>,
}

/// Settings, as a key.
type Key = (u64, u32, u64);

#[derive(Debug)]
struct Memory {
    settings: Settings,
    state: State,
    decision: Arc<Decision>,
    asked: Instant,
}

impl RightSize {
    /// Nothing decided yet.
    pub fn new(source: Source, recorder: Option<Arc<Recorder>>) -> Self {
        Self {
            source,
            recorder,
            memories: Mutex::default(),
        }
    }

    /// The decision from this observation: the same for everyone who asks with these settings.
    pub fn decide(&self, settings: Settings, observation: &Observation) -> Arc<Decision> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&settings);
        if let Some(memory) = memories.get_mut(&key) {
            memory.asked = Instant::now();
            return Arc::clone(&memory.decision);
        }
        memories.retain(|_, memory| memory.asked.elapsed() < FORGET);
        if memories.len() >= MOST {
            let longest_unasked = memories.iter().min_by_key(|(_, memory)| memory.asked);
            let idle = longest_unasked.filter(|(_, memory)| memory.asked.elapsed() > IDLE);
            match idle.map(|(key, _)| *key) {
                Some(key) => drop(memories.remove(&key)),
                // Somebody asks with ever new settings: he gets a first decision each time, and the others keep their memories.
                None => return Arc::new(State::default().decide(observation, &settings)),
            }
        }
        self.record(settings, observation);
        let mut state = State::default();
        let decision = Arc::new(state.decide(observation, &settings));
        self.log(&decision);
        memories.insert(
            key,
            Memory {
                settings,
                state,
                decision: Arc::clone(&decision),
                asked: Instant::now(),
            },
        );
        decision
    }

    /// A refresh: decides anew for everyone.
    pub fn observe(&self, observation: &Observation) {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.retain(|_, memory| memory.asked.elapsed() < FORGET);
        for memory in memories.values_mut() {
            self.record(memory.settings, observation);
            let decision = Arc::new(memory.state.decide(observation, &memory.settings));
            let before = &memory.decision;
            if decision.replicas != before.replicas || decision.active != before.active {
                self.log(&decision);
            }
            memory.decision = decision;
        }
    }

    fn record(&self, settings: Settings, observation: &Observation) {
        if let Some(recorder) = &self.recorder {
            recorder.record(&self.source, settings, observation);
        }
    }

    fn log(&self, decision: &Decision) {
        let Source {
            stream,
            region,
            lease_table,
            ..
        } = &self.source;
        let table = lease_table.as_ref().map(|table| table.name.as_str());
        let Decision {
            replicas,
            active,
            reason,
            running,
            step,
            ..
        } = decision;
        let tried = matches!(step, Step::In | Step::Back);
        info!(%stream, region, table, replicas, active, running, tried, "{reason}");
    }
}

fn key(settings: &Settings) -> Key {
    let Settings {
        lag_threshold_ms,
        shard_count,
        activation_lag_threshold_ms,
    } = *settings;
    (lag_threshold_ms, shard_count, activation_lag_threshold_ms)
}
