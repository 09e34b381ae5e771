//! Subscriptions to the world's stream, and what goes wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use kinesis_consumer::{
    KinesisError, ShardId,
    shards::StartFrom,
    test_util::{MemorySubscription, Place, Pushed, Subscription, SubscriptionEvent},
};

use super::{World, shard};

pub(super) struct Subscriptions {
    began: Mutex<Vec<(ShardId, Duration, StartFrom)>>,
    /// How the subscription to a shard ends now.
    cuts: Mutex<BTreeMap<ShardId, KinesisError>>,
    /// Nothing comes by these any more.
    silent: Mutex<BTreeSet<(ShardId, usize)>>,
    /// The most records of an event.
    most: AtomicUsize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            began: Mutex::default(),
            cuts: Mutex::default(),
            silent: Mutex::default(),
            most: AtomicUsize::new(10_000),
        }
    }
}

impl World {
    /// When the shard was subscribed to, and from where.
    pub(crate) fn subscriptions(&self, index: usize) -> Vec<(Duration, StartFrom)> {
        let began = self.0.subscriptions.began.lock().unwrap();
        let of_shard = began.iter().filter(|(id, ..)| *id == shard(index));
        of_shard.map(|(_, at, from)| (*at, from.clone())).collect()
    }

    /// Events have so many records at the most.
    pub(crate) fn limit_events(&self, most: usize) {
        let events = &self.0.subscriptions.most;
        events.store(most, Ordering::Relaxed);
    }

    /// The subscription to the shard ends with that error.
    pub(crate) fn cut(&self, index: usize, error: KinesisError) {
        let mut cuts = self.0.subscriptions.cuts.lock().unwrap();
        cuts.insert(shard(index), error);
    }

    /// Nothing comes by the shard's subscription any more, and nobody says so.
    pub(crate) fn silence(&self, index: usize) {
        let number = self.subscriptions(index).len();
        let mut silent = self.0.subscriptions.silent.lock().unwrap();
        silent.insert((shard(index), number));
    }

    pub(super) fn begin(
        &self,
        consumer: &str,
        id: &ShardId,
        from: &StartFrom,
    ) -> Result<Box<dyn Subscription>, KinesisError> {
        if let Some(error) = self.refusal(id.as_str()) {
            return Err(error);
        }
        let place = self.stream(|stream| stream.memory().subscribe(consumer, id, from))?;
        let number = {
            let mut began = self.0.subscriptions.began.lock().unwrap();
            began.push((id.clone(), self.now(), from.clone()));
            began.iter().filter(|(of, ..)| of == id).count()
        };
        let (world, name) = (self.clone(), (id.clone(), number));
        let push = move |place: &mut Place, is_due| {
            let subscriptions = &world.0.subscriptions;
            if subscriptions.silent.lock().unwrap().contains(&name) {
                return Ok(Pushed::Nothing);
            }
            if let Some(error) = subscriptions.cuts.lock().unwrap().remove(&name.0) {
                return Err(error);
            }
            let most = subscriptions.most.load(Ordering::Relaxed);
            world.stream(|stream| stream.push(place, most, is_due))
        };
        Ok(Box::new(Slow {
            world: self.clone(),
            subscription: MemorySubscription::new(place, push),
            bytes: 0,
        }))
    }
}

/// Comes by the world's line.
struct Slow<S> {
    world: World,
    subscription: S,
    bytes: usize,
}

impl<S> fmt::Debug for Slow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait]
impl<S: Subscription> Subscription for Slow<S> {
    async fn arriving(&mut self) -> Result<Option<usize>, KinesisError> {
        let arriving = self.subscription.arriving().await?;
        self.bytes = arriving.unwrap_or_default();
        Ok(arriving)
    }

    async fn event(&mut self) -> Result<Option<SubscriptionEvent>, KinesisError> {
        let bandwidth = self.world.0.bandwidth.load(Ordering::Relaxed);
        if let Some(seconds) = self.bytes.checked_div(bandwidth) {
            tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        }
        self.subscription.event().await
    }
}
