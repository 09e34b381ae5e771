//! From lag to replicas, with a memory for each distinct threshold and `shardCount`. The decision
//! itself is `right_sizing`'s.

use std::{sync::Arc, time::Duration};

use right_sizing::{Decision, Observation, Settings, State, Unknown};

use crate::trigger::{Measure, ScaleOn, Trigger, Work};

/// The settings that a trigger's lag is decided with; `None`: it does not measure lag.
pub fn settings(trigger: &Trigger) -> Option<Settings> {
    match &trigger.scale_on {
        ScaleOn::OpenShards { .. } => None,
        ScaleOn::Application(work) => settings_of_work(work, trigger.shard_count),
    }
}

/// The same of an application's work.
pub(super) fn settings_of_work(work: &Work, shard_count: i64) -> Option<Settings> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match work.measure {
        Measure::ReadableShards { .. } => None,
        Measure::Lag {
            threshold,
            activation,
        } => Some(Settings {
            lag_threshold_ms: millis(threshold),
            shard_count: u32::try_from(shard_count).unwrap_or(u32::MAX),
            activation_lag_threshold_ms: millis(activation),
        }),
    }
}

/// What is decided of one snapshot, by settings.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    by_settings: Vec<(Settings, Arc<Decision>)>,
    /// Why nothing can be decided of it; the decisions are of an earlier one then.
    unknown: Option<Unknown>,
}

impl Decisions {
    /// The decision with these settings, where it was made.
    pub fn get(&self, settings: &Settings) -> Option<&Arc<Decision>> {
        let mut all = self.by_settings.iter();
        all.find_map(|(its, decision)| (its == settings).then_some(decision))
    }

    /// The settings that were decided with.
    pub fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.by_settings.iter().map(|(settings, _)| settings)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Decision> {
        self.by_settings.iter().map(|(_, decision)| &**decision)
    }

    /// Why nothing can be decided now, if so.
    pub fn unknown(&self) -> Option<Unknown> {
        self.unknown
    }

    /// The same, while nothing can be decided.
    #[must_use]
    pub fn while_unknown(&self, unknown: Unknown) -> Self {
        Self {
            by_settings: self.by_settings.clone(),
            unknown: Some(unknown),
        }
    }
}

impl FromIterator<(Settings, Arc<Decision>)> for Decisions {
    fn from_iter<T: IntoIterator<Item = (Settings, Arc<Decision>)>>(decisions: T) -> Self {
        Self {
            by_settings: decisions.into_iter().collect(),
            unknown: None,
        }
    }
}

/// What right-sizing remembers of one application from refresh to refresh, by settings.
#[derive(Debug, Default)]
pub struct Memories(Vec<(Settings, State)>);

impl Memories {
    /// Forgets all but these settings.
    pub fn keep(&mut self, settings: &[Settings]) {
        self.0.retain(|(its, _)| settings.contains(its));
    }

    /// Decides, and remembers.
    pub fn decide(&mut self, settings: Settings, observation: &Observation) -> Arc<Decision> {
        let known = self.0.iter().position(|(its, _)| *its == settings);
        let at = known.unwrap_or_else(|| {
            self.0.push((settings, State::default()));
            self.0.len() - 1
        });
        Arc::new(self.0[at].1.decide(observation, &settings))
    }
}

/// The decision of a memory that begins with this observation.
pub fn decide_first(settings: Settings, observation: &Observation) -> Arc<Decision> {
    Memories::default().decide(settings, observation)
}
