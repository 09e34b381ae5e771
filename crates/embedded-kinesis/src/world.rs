//! Everything the server knows, and how a call finds its stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use tokio_util::sync::CancellationToken;

use crate::calls::Calls;
use crate::clock::Clock;
use crate::config::Config;
use crate::faults::Faults;
use crate::identities::Identities;
use crate::limits::ApiLimits;
use crate::lock;
use crate::protocol::AwsError;
use crate::stream::{Key, Stream, not_found};
use crate::token::Seal;
use crate::validate::{self, Constraints};

#[derive(Debug)]
pub(crate) struct World {
    config: RwLock<Arc<Config>>,
    pub(crate) clock: Clock,
    pub(crate) calls: Calls,
    pub(crate) faults: Faults,
    pub(crate) identities: Identities,
    pub(crate) limits: ApiLimits,
    pub(crate) seal: Seal,
    /// Cancelled when the server stops.
    pub(crate) closing: CancellationToken,
    streams: Mutex<BTreeMap<Key, Arc<Mutex<Stream>>>>,
    /// In which second the youngest shard of each deleted stream counts as created.
    deleted: Mutex<BTreeMap<Key, u64>>,
}

/// Who calls, and where to.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) arn: String,
}

/// How a request names its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) arn: Option<&'a str>,
}

impl Target<'_> {
    /// The name as it is said, checked or not.
    pub(crate) fn stream(self) -> Option<String> {
        self.name
            .or_else(|| self.arn?.rsplit_once('/').map(|(_, name)| name))
            .map(str::to_owned)
    }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            clock: Clock::new(config.clock_ahead),
            config: RwLock::new(Arc::new(config)),
            calls: Calls::default(),
            faults: Faults::default(),
            identities: Identities::default(),
            limits: ApiLimits::default(),
            seal: Seal::new(),
            closing: CancellationToken::new(),
            streams: Mutex::default(),
            deleted: Mutex::default(),
        }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(
            &self
                .config
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self
            .config
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(Arc::make_mut(&mut config));
        drop(config);
        self.clock.look_again();
    }

    /// The key a request means. Both a name and an ARN may be given if they agree.
    pub(crate) fn key(&self, caller: &Caller, target: Target<'_>) -> Result<Key, AwsError> {
        let mut constraints = Constraints::default();
        if let Some(name) = target.name {
            constraints.stream_name("streamName", name);
        }
        if let Some(arn) = target.arn {
            constraints.stream_arn("streamARN", arn);
        }
        constraints.finish()?;
        let key = |name: &str| Key {
            account: caller.account.clone(),
            region: caller.region.clone(),
            name: name.to_owned(),
        };
        let Some(arn) = target.arn else {
            let name = target.name.ok_or_else(|| {
                AwsError::invalid("Either StreamName or StreamARN must be provided.")
            })?;
            return Ok(key(name));
        };
        let (region, account, name) = validate::arn_parts(arn)
            .ok_or_else(|| AwsError::invalid(format!("Invalid StreamARN {arn}.")))?;
        if target.name.is_some_and(|said| said != name) {
            return Err(AwsError::invalid(
                "StreamName and StreamARN do not name the same stream.",
            ));
        }
        if account != caller.account {
            return Err(AwsError::new(
                "AccessDeniedException",
                format!(
                    "User: {} is not authorized to access resource: {arn} because no resource-based policy allows it",
                    caller.arn
                ),
            ));
        }
        let key = key(name);
        if region != caller.region {
            return Err(not_found(&key));
        }
        Ok(key)
    }

    pub(crate) fn stream(
        &self,
        caller: &Caller,
        target: Target<'_>,
        now: u64,
    ) -> Result<Arc<Mutex<Stream>>, AwsError> {
        self.stream_of(&self.key(caller, target)?, now)
    }

    pub(crate) fn stream_of(&self, key: &Key, now: u64) -> Result<Arc<Mutex<Stream>>, AwsError> {
        let mut streams = lock(&self.streams);
        let Some(stream) = streams.get(key).map(Arc::clone) else {
            return Err(not_found(key));
        };
        let gone = settled(&stream, now).gone(now);
        if gone {
            streams.remove(key);
            return Err(not_found(key));
        }
        Ok(stream)
    }

    /// Adds a stream unless one of its name is there. `check` sees the open shards of its account
    /// and region.
    pub(crate) fn add(
        &self,
        mut stream: Stream,
        now: u64,
        check: impl FnOnce(usize) -> Result<(), AwsError>,
    ) -> Result<(), AwsError> {
        let mut streams = lock(&self.streams);
        streams.retain(|_, it| !lock(it).gone(now));
        let key = stream.key.clone();
        if streams.contains_key(&key) {
            return Err(AwsError::in_use(format!(
                "Stream {} under account {} already exists.",
                key.name, key.account
            )));
        }
        check(open_shards(&streams, &key, now))?;
        if let Some(second) = lock(&self.deleted).get(&key) {
            stream.begin_at(second + 1);
        }
        streams.insert(key, Arc::new(Mutex::new(stream)));
        Ok(())
    }

    /// A stream of that name is being deleted, whose youngest shard was created in that second.
    pub(crate) fn deleted(&self, key: Key, second: u64) {
        lock(&self.deleted).insert(key, second);
    }

    /// Open shards in the account and region of `key`.
    pub(crate) fn open_shards(&self, key: &Key, now: u64) -> usize {
        open_shards(&lock(&self.streams), key, now)
    }

    /// The streams of an account and region, in order of their names.
    pub(crate) fn streams(&self, account: &str, region: &str, now: u64) -> Vec<Arc<Mutex<Stream>>> {
        let mut streams = lock(&self.streams);
        streams.retain(|_, it| !lock(it).gone(now));
        let own = streams
            .iter()
            .filter(|(key, _)| key.account == account && key.region == region);
        own.map(|(_, stream)| Arc::clone(stream)).collect()
    }
}

fn open_shards(streams: &BTreeMap<Key, Arc<Mutex<Stream>>>, key: &Key, now: u64) -> usize {
    let own = streams
        .iter()
        .filter(|(it, _)| it.account == key.account && it.region == key.region);
    own.map(|(_, stream)| settled(stream, now).open_ranges().len())
        .sum()
}

/// Locks a stream after what has become due is done.
pub(crate) fn settled(stream: &Mutex<Stream>, now: u64) -> MutexGuard<'_, Stream> {
    let mut stream = lock(stream);
    stream.settle(now);
    stream
}
