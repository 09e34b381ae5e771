//! One subscription of a worker of the simulation, which is cut, falls silent, ends early, or is
//! slow.

use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{
    KinesisError,
    test_util::{MemorySubscription, Place, Pushed, Subscription, SubscriptionEvent},
};
use tokio::time::sleep;

use super::node::Life;

type Push = Box<dyn FnMut(&mut Place, bool) -> Result<Pushed, KinesisError> + Send>;

#[derive(Debug)]
pub(super) struct Pushing {
    life: Life,
    subscription: MemorySubscription<Push>,
}

impl Pushing {
    pub(super) fn new(life: Life, place: Place) -> Self {
        let of = life.clone();
        let push = move |place: &mut Place, is_due| {
            let most = of.number(0..=8);
            let ledger = of.ledger.lock();
            match ledger.is_deleted {
                true => Err(KinesisError::NotFound("the stream is deleted".into())),
                false => ledger.stream.push(place, most, is_due),
            }
        };
        Self {
            life,
            subscription: MemorySubscription::new(place, Box::new(push)),
        }
    }
}

#[async_trait]
impl Subscription for Pushing {
    async fn arriving(&mut self) -> Result<Option<usize>, KinesisError> {
        self.life.running().await;
        let chaos = self.life.chaos();
        if self.life.happens(chaos.lost / 4) {
            match self.life.number(0..=2) {
                0 => return Err(KinesisError::Unavailable("cut by fault".into())),
                1 => return Ok(None),
                _ => std::future::pending().await,
            }
        }
        let arriving = self.subscription.arriving().await;
        self.life.running().await;
        arriving
    }

    async fn event(&mut self) -> Result<Option<SubscriptionEvent>, KinesisError> {
        let chaos = self.life.chaos();
        sleep(self.life.below(chaos.latency)).await;
        if self.life.happens(chaos.lost / 4) {
            match self.life.number(0..=1) {
                0 => return Err(KinesisError::Unavailable("cut in an event by fault".into())),
                _ => sleep(Duration::from_hours(1)).await,
            }
        }
        self.life.running().await;
        let mut event = self.subscription.event().await?;
        if let Some(event) = &mut event {
            if self.life.happens(30) {
                event.children.clear();
            }
            let mut ledger = self.life.ledger.lock();
            ledger.read(&self.life.name, &event.records);
        }
        Ok(event)
    }
}
