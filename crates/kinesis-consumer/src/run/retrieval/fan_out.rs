//! Enhanced fan-out: a subscription to one shard, which AWS ends after five minutes and which is
//! begun again where it ended.
//!
//! AWS pushes as much as a connection takes, so an event is read only when there is room for it.
//! A subscription that waits for room, or for the processor, is let go after a while: what is
//! under way to it takes the connection from other shards.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    edge::kinesis::{KinesisError, Subscription},
    face::{config, event::Event},
    model::shard::ChildShard,
    run::retrieval::{
        Gone,
        consumer::consumer,
        cursor::{Cursor, Recovery, Stop},
        unpack::Arrival,
    },
};

const SUBSCRIBE: &str = "SubscribeToShard";

/// AWS refuses a subscription for so long after another one of the consumer to the shard.
const APART: Duration = Duration::from_secs(5);
/// The longest that AWS's answer may take to begin.
const PROMPT: Duration = Duration::from_secs(10);
/// A subscription waits so long before it is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes a second of the slowest line that an event may come by.
const SLOWEST: u32 = 64 << 10;

pub(super) struct FanOut {
    cursor: Cursor,
    settings: config::FanOut,
    /// When the next subscription may begin.
    next: Instant,
}

/// How reading by subscriptions ends.
pub(super) enum Outcome {
    /// At the shard's end: its children.
    End(Vec<ChildShard>),
    /// There can be no consumer: the rest is to be polled.
    NoConsumer(Box<Cursor>),
}

/// How a subscription ends.
enum Ended {
    /// After five minutes, or let go.
    Over,
    /// At the shard's end: its children.
    Shard(Vec<ChildShard>),
    Failed(KinesisError),
}

impl FanOut {
    pub(super) fn new(cursor: Cursor, settings: config::FanOut) -> Self {
        Self {
            cursor,
            settings,
            next: Instant::now(),
        }
    }

    /// Fetches to the shard's end, as long as there is a consumer to subscribe with.
    pub(super) async fn read(mut self) -> Result<Outcome, Stop> {
        loop {
            let consumer =
                consumer(&self.cursor.context, &self.cursor.stream, &self.settings).await;
            let Some(consumer) = consumer else {
                return Ok(Outcome::NoConsumer(Box::new(self.cursor)));
            };
            sleep_until(self.next).await;
            self.cursor.out.until_within_share().await?;
            let ended = match self.subscribe(&consumer).await {
                Ok(subscription) => self.follow(subscription).await?,
                Err(error) => Ended::Failed(error),
            };
            match ended {
                Ended::Over => {}
                Ended::Shard(children) => return Ok(Outcome::End(children)),
                Ended::Failed(error) => {
                    if let Some(children) = self.failed(&consumer, error).await? {
                        return Ok(Outcome::End(children));
                    }
                }
            }
        }
    }

    async fn subscribe(&mut self, consumer: &str) -> Result<Box<dyn Subscription>, KinesisError> {
        let Cursor {
            context,
            stream,
            key,
            ..
        } = &self.cursor;
        let from = self.cursor.from();
        let began = Instant::now();
        let subscribed = stream.kinesis.subscribe(consumer, &key.shard, &from);
        let subscribed = within(PROMPT, subscribed).await?;
        self.next = began + APART;
        context.report(Event::Subscribed {
            shard: key.clone(),
            consumer: consumer.to_owned(),
        });
        Ok(subscribed)
    }

    /// Delivers what the subscription brings, to its end.
    async fn follow(&mut self, subscription: Box<dyn Subscription>) -> Result<Ended, Stop> {
        let silence = self.settings.idle_deadline;
        let mut subscription = Some(subscription);
        while let Some(open) = &mut subscription {
            let asked = self.cursor.stream.kinesis.now();
            let bytes = match within(silence, open.arriving()).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Ok(failed(&**open, error)),
            };
            let out = &self.cursor.out;
            let room = async {
                out.until_within_share().await?;
                Ok::<_, Gone>(out.share.page(bytes).await)
            };
            let room = patiently(&mut subscription, room).await?;
            let Some(open) = &mut subscription else {
                break;
            };
            let line = Duration::from_secs(bytes as u64) / SLOWEST;
            let event = match within(silence + line, open.event()).await {
                Ok(event) => event,
                Err(error) => return Ok(failed(&**open, error)),
            };
            self.cursor.stream.call_succeeded(SUBSCRIBE);
            self.cursor.answered();
            let Some(event) = event else {
                continue;
            };
            let is_end = event.continuation.is_none();
            if !is_end {
                self.cursor.continuation = event.continuation;
            }
            let arrival = Arrival::new(event.records, event.millis_behind_latest, asked);
            patiently(&mut subscription, self.cursor.deliver(arrival, room)).await?;
            if is_end {
                return self.ended(event.children).await;
            }
        }
        Ok(Ended::Over)
    }

    /// AWS names no number to go on after.
    async fn ended(&mut self, children: Vec<ChildShard>) -> Result<Ended, Stop> {
        if !children.is_empty() {
            return Ok(Ended::Shard(children));
        }
        let children = self.cursor.children().await?;
        Ok(children.map_or(Ended::Over, Ended::Shard))
    }

    /// Waits before the next subscription. Returns the children of a shard that is gone.
    async fn failed(
        &mut self,
        consumer: &str,
        error: KinesisError,
    ) -> Result<Option<Vec<ChildShard>>, Stop> {
        let is_registered = !self.names_arn();
        let is_missing = matches!(error, KinesisError::NotFound(_));
        let error = match error {
            KinesisError::NotFound(error) if !is_registered && !self.cursor.is_gone().await? => {
                KinesisError::Permanent(error)
            }
            error => error,
        };
        match self.cursor.recover(SUBSCRIBE, error).await? {
            Recovery::ShardGone => self.cursor.gone().await,
            Recovery::NewIterator if is_missing && is_registered => {
                self.cursor.check_stream().await?;
                self.cursor.stream.registration.forget(consumer).await;
                Ok(None)
            }
            Recovery::NewIterator | Recovery::SameIterator => Ok(None),
        }
    }

    /// Is the consumer one that others registered?
    fn names_arn(&self) -> bool {
        let name = self.settings.consumer.as_deref();
        name.is_some_and(|name| name.starts_with("arn:"))
    }
}

/// A silent connection would be the next subscription's, too.
fn failed(subscription: &dyn Subscription, error: KinesisError) -> Ended {
    if let KinesisError::Timeout(_) = error {
        subscription.condemn();
    }
    Ended::Failed(error)
}

/// Waits for Kinesis, so long and no longer.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, KinesisError>>,
) -> Result<T, KinesisError> {
    timeout(deadline, call).await.unwrap_or_else(|_| {
        let text = format!("nothing came for {deadline:?}");
        Err(KinesisError::Timeout(text.into()))
    })
}

/// Waits for what may take long, and lets the subscription go when it does, or when this process
/// was stopped: what has come to it meanwhile says nothing of now.
async fn patiently<T>(
    subscription: &mut Option<Box<dyn Subscription>>,
    work: impl Future<Output = T>,
) -> T {
    let (began, mut work) = (Instant::now(), pin!(work));
    let done = match timeout(PATIENCE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            *subscription = None;
            work.await
        }
    };
    if began.elapsed() > PATIENCE {
        *subscription = None;
    }
    done
}
