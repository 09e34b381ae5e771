//! What a decision shows besides the wish: whether there is work, notes, and the shards.

use std::collections::BTreeMap;

use super::{Digest, State};
use crate::{
    decision::ShardView,
    observation::Settings,
    pod::{FALLING_BACK_MILLI, Measured},
    reason::Note,
};

/// Standing shards that are named in notes; the others are counted.
const NAMED: usize = 5;

impl Digest {
    /// Pods that are late with a single shard and fall back.
    pub(super) fn too_big(&self) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(|pod| {
            pod.holds == 1 && pod.lag_ms > self.late_ms && pod.progress_milli < FALLING_BACK_MILLI
        })
    }
}

impl State {
    /// Whether there is work: something unread or, while pods run, something just read.
    pub(super) fn is_active(&self, digest: &Digest, settings: &Settings) -> bool {
        let runs = digest.confirmed > 0;
        let old_enough = |age| runs || age >= settings.activation_lag_threshold_ms;
        self.shards.values().any(|shard| {
            shard.drained || shard.age_ms.is_some_and(old_enough) || (runs && shard.read)
        })
    }

    pub(super) fn notes(&self, digest: &Digest, settings: &Settings) -> Vec<Note> {
        let mut notes = Vec::new();
        if digest.threshold_ms > settings.lag_threshold_ms {
            notes.push(Note::ThresholdTooShort {
                threshold_ms: settings.lag_threshold_ms,
                interval_ms: digest.interval_ms,
                used_ms: digest.threshold_ms,
            });
        }
        let stands_ms = |id| {
            let shard = self.shards.get(id);
            shard.map_or(0, |shard| digest.at - shard.standing_since_ms())
        };
        notes.extend(digest.left_out.iter().take(NAMED).map(|id| Note::Standing {
            shard: id.clone(),
            stands_ms: stands_ms(id),
        }));
        if digest.left_out.len() > NAMED {
            let shards = digest.left_out.len() - NAMED;
            notes.push(Note::MoreStanding { shards });
        }
        let mut malformed = self.shards.iter().filter(|(_, shard)| shard.malformed);
        if let Some((id, _)) = malformed.next() {
            notes.push(Note::Malformed {
                shard: id.clone(),
                more: malformed.count(),
            });
        }
        if let Some(note) = self.orphans.note() {
            notes.push(note);
        }
        notes.extend(digest.too_big().map(|pod| Note::TooBig {
            shard: pod.worst.clone(),
        }));
        notes
    }

    pub(super) fn views(&self, digest: &Digest) -> Vec<ShardView> {
        let measured = digest.measured.iter();
        let measured: BTreeMap<_, _> = measured.map(|pod| (&pod.worst, pod)).collect();
        let progress = |id: &String| Some(measured.get(id)?.progress_milli as f64 / 1000.0);
        self.shards
            .iter()
            .map(|(id, shard)| ShardView {
                id: id.clone(),
                owner: shard.owner.clone(),
                age_ms: shard.age_ms,
                progress: progress(id),
                left_out: digest.left_out.contains(id) || shard.malformed,
            })
            .collect()
    }
}
