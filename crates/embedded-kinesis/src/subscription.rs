//! A subscription to a shard: what it says, and when. Whoever reads the answer's body pulls it on,
//! so that a slow reader holds up nobody.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::millis;
use crate::consumers::Consumer;
use crate::data::Event;
use crate::event_stream::{exception, initial_response};
use crate::limits::Bucket;
use crate::protocol::{AwsError, Wire};
use crate::shard;
use crate::stream::Stream;
use crate::world::{World, settled};

/// Records of an event, and bytes after the first record.
const MAX_RECORDS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

/// The server stops.
#[derive(Debug)]
pub(crate) struct Closing;

/// Counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    world: Arc<World>,
    reader: Reader,
    wire: Wire,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Open,
    Over,
}

/// Whose the subscription is, and how far it has come.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) stream: Arc<Mutex<Stream>>,
    /// Something has happened to the shard.
    pub(crate) changed: Arc<Notify>,
    /// The consumer's name, and the second in which it was registered.
    pub(crate) consumer: (String, u64),
    pub(crate) id: u64,
    pub(crate) shard: u32,
    /// Number in the shard of the next record to send.
    pub(crate) next: u64,
    pub(crate) since: u64,
    /// When an event was sent last.
    pub(crate) said: u64,
    pub(crate) bytes: Bucket,
}

/// What there is to do at a moment.
enum Turn {
    Say(Event),
    /// Nothing before this time.
    Wait(u64),
    End,
}

impl Subscription {
    pub(crate) fn new(world: Arc<World>, reader: Reader, wire: Wire) -> Self {
        world.calls.subscribed();
        Self {
            world,
            reader,
            wire,
            stage: Stage::Greeting,
        }
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Closing> {
        match self.stage {
            Stage::Greeting => {
                self.stage = Stage::Open;
                return Ok(Some(initial_response(self.wire)));
            }
            Stage::Open => {}
            Stage::Over => return Ok(None),
        }
        loop {
            // Whatever happens from here on ends it.
            let changed = Arc::clone(&self.reader.changed);
            let (changed, moved) = (changed.notified(), self.world.clock.moved());
            let until = match self.reader.turn(&self.world) {
                Ok(Turn::Say(said)) => {
                    if said.is_last() {
                        self.stage = Stage::Over;
                    }
                    return Ok(Some(said.message(self.wire)));
                }
                Ok(Turn::Wait(until)) => until,
                Ok(Turn::End) => {
                    self.stage = Stage::Over;
                    return Ok(None);
                }
                Err(error) => {
                    self.stage = Stage::Over;
                    return Ok(Some(exception(&error, self.wire)));
                }
            };
            tokio::select! {
                () = changed => {}
                () = moved => {}
                () = self.world.clock.runs_to(until) => {}
                () = self.world.closing.cancelled() => return Err(Closing),
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.world.calls.unsubscribed();
    }
}

impl Reader {
    fn turn(&mut self, world: &World) -> Result<Turn, AwsError> {
        let now = world.clock.now();
        let stream = Arc::clone(&self.stream);
        let mut stream = settled(&stream, now);
        let turn = self.look(&mut stream, world, now)?;
        let is_over = match &turn {
            Turn::Say(said) => said.is_last(),
            Turn::Wait(_) => false,
            Turn::End => true,
        };
        if is_over {
            let (shard, id) = (self.shard, self.id);
            self.consumer(&mut stream)?.release(shard, id);
        }
        Ok(turn)
    }

    fn consumer<'a>(&self, stream: &'a mut Stream) -> Result<&'a mut Consumer, AwsError> {
        let (name, second) = &self.consumer;
        let Stream { key, consumers, .. } = stream;
        consumers.find(key, name, Some(*second))
    }

    fn look(&mut self, stream: &mut Stream, world: &World, now: u64) -> Result<Turn, AwsError> {
        stream.must_be_usable(now)?;
        self.consumer(stream)?.holds(self.shard, self.id)?;
        let config = world.config();
        let over = self.since + millis(config.subscription_life);
        if over <= now {
            return Ok(Turn::End);
        }
        if config.read_limits && !self.bytes.open(now) {
            return Ok(Turn::Wait(self.bytes.opens(now).min(over)));
        }
        let (horizon, step) = (stream.horizon(now), stream.next_step());
        let shard = stream.shard_by_id(&shard::id(self.shard))?;
        shard.trim(horizon);
        let page = shard.read(self.next, MAX_RECORDS, MAX_BYTES, now);
        let due = self.said + millis(config.heartbeat);
        if page.records.is_empty() && !page.at_end && now < due {
            return Ok(Turn::Wait(due.min(over).min(step.unwrap_or(u64::MAX))));
        }
        let bytes = page
            .records
            .iter()
            .map(|record| record.size())
            .sum::<usize>();
        self.bytes.spend(bytes as f64, now);
        self.next = page.next;
        self.said = now;
        let continuation = shard.continuation(page.next, now);
        let shard = self.shard;
        Ok(Turn::Say(match page.at_end {
            true => Event::last(page, stream.children(shard)),
            false => Event::new(page, continuation),
        }))
    }
}
