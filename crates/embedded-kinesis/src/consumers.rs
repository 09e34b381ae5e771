//! The consumers that are registered on a stream, and who reads which shard for them.

use std::collections::HashMap;

use crate::clock::millis;
use crate::config::Config;
use crate::limits::Bucket;
use crate::protocol::AwsError;
use crate::shard;
use crate::stream::Key;

/// Consumers of a stream that may be CREATING at once.
const CREATING: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Active,
    Deleting,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Deleting => "DELETING",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    /// Milliseconds since the epoch; its second is a part of the ARN.
    pub(crate) created: u64,
    active_from: u64,
    gone_from: Option<u64>,
    /// By the number of the shard.
    subscribers: HashMap<u32, Subscriber>,
}

/// Who called last for a shard.
#[derive(Debug)]
struct Subscriber {
    /// Of the last call that was granted.
    id: u64,
    /// When that was. `None`: none was, or the server itself has ended the subscription since.
    since: Option<u64>,
    calls: Bucket,
}

impl Consumer {
    pub(crate) fn status(&self, now: u64) -> Status {
        match self.gone_from {
            Some(_) => Status::Deleting,
            None if now < self.active_from => Status::Creating,
            None => Status::Active,
        }
    }

    pub(crate) fn arn(&self, stream: &Key) -> String {
        let second = self.created / 1000;
        format!("{}/consumer/{}:{second}", stream.arn(), self.name)
    }

    pub(crate) fn delete(&mut self, config: &Config, now: u64) {
        self.gone_from
            .get_or_insert(now + millis(config.consumer_deleting));
    }

    /// Takes the shard over for a new subscription, whose ID is returned.
    pub(crate) fn subscribe(
        &mut self,
        stream: &Key,
        number: u32,
        config: &Config,
        now: u64,
    ) -> Result<u64, AwsError> {
        let whose = format!(
            "{}:{}:{}:{}",
            stream.account,
            stream.name,
            shard::id(number),
            self.name
        );
        if self.status(now) != Status::Active {
            let state = self.status(now).name();
            return Err(AwsError::in_use(format!(
                "Consumer {whose} is not ACTIVE, instead in state {state}"
            )));
        }
        let subscriber = self.subscribers.entry(number);
        let subscriber = subscriber.or_insert_with(|| Subscriber {
            id: 0,
            since: None,
            calls: Bucket::new(1.0, now),
        });
        if config.api_limits && !subscriber.calls.take(1.0, now) {
            return Err(AwsError::limit(format!("Rate exceeded for {whose}.")));
        }
        let taken = millis(config.take_over_after);
        if subscriber.since.is_some_and(|since| now < since + taken) {
            return Err(in_use(&whose));
        }
        subscriber.id = fastrand::u64(..);
        subscriber.since = Some(now);
        Ok(subscriber.id)
    }

    /// Whether a subscription is still the one that reads the shard.
    pub(crate) fn holds(&self, number: u32, id: u64) -> Result<(), AwsError> {
        match self.subscribers.get(&number) {
            Some(subscriber) if subscriber.id == id => Ok(()),
            _ => Err(in_use(&format!("{}:{}", shard::id(number), self.name))),
        }
    }

    /// The server has ended the subscription: the next one need not wait.
    pub(crate) fn release(&mut self, number: u32, id: u64) {
        if let Some(subscriber) = self.subscribers.get_mut(&number)
            && subscriber.id == id
        {
            subscriber.since = None;
        }
    }
}

fn in_use(whose: &str) -> AwsError {
    AwsError::in_use(format!(
        "Another active subscription exists for this consumer: {whose}"
    ))
}

/// The consumers of a stream.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// In order of their names.
    all: Vec<Consumer>,
    /// The second of the last registration.
    last: u64,
}

impl Consumers {
    pub(crate) fn settle(&mut self, now: u64) {
        self.all.retain(|it| it.gone_from.is_none_or(|at| now < at));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.iter()
    }

    pub(crate) fn register(
        &mut self,
        stream: &Key,
        name: &str,
        config: &Config,
        now: u64,
    ) -> Result<&Consumer, AwsError> {
        let Key { account, .. } = stream;
        let at = match self.all.binary_search_by(|it| it.name.as_str().cmp(name)) {
            Ok(_) => {
                return Err(AwsError::in_use(format!(
                    "Consumer {name} of stream {} under account {account} already exists.",
                    stream.name
                )));
            }
            Err(at) => at,
        };
        let creating = self.all.iter();
        let creating = creating.filter(|it| it.status(now) == Status::Creating);
        let (limit, what) = match config.consumer_limit {
            limit if self.all.len() >= limit => (limit, "registered"),
            _ if creating.count() >= CREATING => (CREATING, "CREATING at once"),
            _ => {
                // An ARN is not used twice, whoever registers a name again within a second.
                let second = (now / 1000).max(self.last + 1);
                self.last = second;
                let consumer = Consumer {
                    name: name.to_owned(),
                    created: now.max(second * 1000),
                    active_from: now + millis(config.consumer_creating),
                    gone_from: None,
                    subscribers: HashMap::new(),
                };
                self.all.insert(at, consumer);
                return Ok(&self.all[at]);
            }
        };
        Err(AwsError::limit(format!(
            "Stream {} under account {account} may have {limit} consumers {what}.",
            stream.name
        )))
    }

    /// By name, and where an ARN says so by the second in which it was registered.
    pub(crate) fn find(
        &mut self,
        stream: &Key,
        name: &str,
        second: Option<u64>,
    ) -> Result<&mut Consumer, AwsError> {
        let Key { account, .. } = stream;
        let text = format!(
            "Consumer {name} of stream {} under account {account} not found.",
            stream.name
        );
        let mut all = self.all.iter_mut();
        all.find(|it| it.name == name && second.is_none_or(|second| it.created / 1000 == second))
            .ok_or_else(|| AwsError::not_found(text))
    }
}
