//! Who works on which lease, and for how long nobody did.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, LeaseKey, ProcessorError, RecordProcessor,
};
use tokio::time::Instant;

/// Of all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Lights(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// How many processors each lease has, and since when it has that many.
    lit: BTreeMap<LeaseKey, (usize, Instant)>,
    longest_dark: Duration,
    starts: usize,
}

/// A processor: its shard is dark without one.
#[derive(Debug)]
pub(super) struct Light {
    lights: Lights,
    key: LeaseKey,
    is_on: bool,
}

impl Lights {
    /// The longest time that any lease which was worked on once was worked on by nobody.
    pub(super) fn longest_dark(&self) -> Duration {
        let seen = self.0.lock().unwrap();
        let dark = seen.lit.values().filter(|(count, _)| *count == 0);
        let dark = dark.map(|(_, since)| since.elapsed());
        dark.chain([seen.longest_dark]).max().unwrap_or_default()
    }

    /// How often a worker began to work on a lease.
    pub(super) fn starts(&self) -> usize {
        self.0.lock().unwrap().starts
    }

    pub(super) fn of(&self, key: LeaseKey) -> Light {
        Light {
            lights: self.clone(),
            key,
            is_on: false,
        }
    }
}

impl Light {
    fn set(&mut self, on: bool) {
        if std::mem::replace(&mut self.is_on, on) == on {
            return;
        }
        let mut seen = self.lights.0.lock().unwrap();
        let now = Instant::now();
        let (count, since) = seen.lit.get(&self.key).copied().unwrap_or((0, now));
        let next = if on { count + 1 } else { count - 1 };
        if count == 0 {
            seen.longest_dark = seen.longest_dark.max(now - since);
        }
        seen.lit.insert(self.key.clone(), (next, now));
        seen.starts += usize::from(on);
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl RecordProcessor for Light {
    async fn initialize(&mut self, _: &Checkpoint) -> Result<(), ProcessorError> {
        self.set(true);
        Ok(())
    }

    async fn process_records(
        &mut self,
        _: &Batch,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        checkpointer.acknowledge().await?;
        Ok(())
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.acknowledge().await?;
        self.is_on = false;
        self.lights.0.lock().unwrap().lit.remove(&self.key);
        Ok(())
    }

    async fn lease_lost(&mut self) {
        self.set(false);
    }

    async fn shutdown_requested(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        self.set(false);
        Ok(())
    }
}
