//! Which streams an application that reads several has: looked up again and again.
//!
//! Names cost a DescribeStreamSummary each now and then, patterns one ListStreams a look. A stream
//! that cannot be looked up stays as it is: it goes when AWS says that it is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    edge::{
        account::{Account, FoundStream},
        kinesis::KinesisError,
    },
    face::{
        error::Error,
        event::Event,
        streams::{self, Wanted, is_like},
    },
    model::{identity::StreamName, keys::StreamIdentifier},
    run::{
        context::{Context, backoff, pause},
        ownership::Ownership,
        stream::Stream,
    },
};

mod sweep;

use sweep::Sweep;

const LIST: &str = "ListStreams";
const DESCRIBE: &str = "DescribeStreamSummary";

/// The time between descriptions of a stream that is read without trouble.
const DESCRIBED_FOR: Duration = Duration::from_secs(900);
/// Between two descriptions: an account may make 20 calls a second, with all that it runs.
const APART: Duration = Duration::from_millis(100);
/// Between a look and one that is asked for.
const LEAST_WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Lookout {
    context: Arc<Context>,
    account: Arc<dyn Account>,
    settings: streams::Streams,
    described: BTreeMap<String, (FoundStream, Instant)>,
    /// What cannot be looked up, as it was told.
    failing: BTreeSet<String>,
    sweep: Sweep,
}

/// What a look brought.
#[derive(Default)]
struct Found {
    /// By ARN.
    streams: BTreeMap<String, FoundStream>,
    failed: Vec<(String, KinesisError)>,
}

impl Lookout {
    pub(crate) fn new(
        context: Arc<Context>,
        account: Arc<dyn Account>,
        settings: streams::Streams,
    ) -> Self {
        Self {
            sweep: Sweep::new(Arc::clone(&context), settings.delete_leases_after),
            context,
            account,
            settings,
            described: BTreeMap::new(),
            failing: BTreeSet::new(),
        }
    }

    /// The first look, as often as it takes.
    ///
    /// # Errors
    /// It cannot be looked, or at none of the streams, and waiting does not mend it.
    pub(crate) async fn first(&mut self) -> Result<(), Error> {
        let mut failures = backoff(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.look().await {
                Ok(found) => {
                    let failed = found.failed.into_iter().next();
                    return match failed.filter(|_| found.streams.is_empty()) {
                        Some((stream, source)) if source.stands() => {
                            Err(Error::Stream { stream, source })
                        }
                        _ => Ok(()),
                    };
                }
                Err(error @ KinesisError::Permanent(_)) => return Err(error_of_all(error)),
                Err(error) => {
                    self.failed(&error);
                    pause(&mut failures).await;
                }
            }
        }
    }

    /// Looks for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let soon = Instant::now() + LEAST_WAIT;
            let interval = self.settings.look_interval;
            tokio::select! {
                () = sleep(interval.mul_f64(0.9 + 0.2 * fastrand::f64())) => {}
                () = self.context.streams.look.notified() => sleep_until(soon).await,
            }
            match self.look().await {
                // What could not be looked up is not gone.
                Ok(found) if found.failed.iter().all(|(_, error)| is_missing(error)) => {
                    self.sweep.run().await;
                }
                Ok(_) => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    /// One look: reads what was found from now on.
    async fn look(&mut self) -> Result<Found, KinesisError> {
        let wanted = self.settings.source.wanted().await;
        let wanted = wanted.map_err(|text| KinesisError::Unavailable(text.into()))?;
        let lists = wanted.iter().any(|it| matches!(it, Wanted::Like(_)));
        let listed = match lists {
            true => Some(self.account.streams().await?),
            false => None,
        };
        self.context.succeeded(LIST);
        let mut found = Found::default();
        for wanted in &wanted {
            match wanted {
                Wanted::As(id) => match self.named(&id.name, listed.as_deref()).await {
                    Ok(stream) if stream.id.account == id.account => {
                        let id = id.clone();
                        found.add(FoundStream { id, ..stream });
                    }
                    Ok(stream) => {
                        let text = format!("{id}: the stream is of account {}", stream.id.account);
                        let error = KinesisError::Permanent(text.into());
                        found.failed.push((id.to_string(), error));
                    }
                    Err(error) => found.failed.push((id.to_string(), error)),
                },
                Wanted::Named(name) => match self.named(name, listed.as_deref()).await {
                    Ok(stream) => found.add(stream),
                    Err(error) => found.failed.push((name.clone(), error)),
                },
                Wanted::Like(pattern) => {
                    let streams = listed.iter().flatten();
                    let alike = streams.filter(|stream| is_like(&stream.id.name, pattern));
                    alike.for_each(|stream| found.add(stream.clone()));
                }
            }
        }
        self.tell(&found.failed);
        self.read(&found);
        Ok(found)
    }

    /// The stream of that name or ARN, as it was listed, as it was described a while ago, or as it
    /// is described now.
    async fn named(
        &mut self,
        name: &str,
        listed: Option<&[FoundStream]>,
    ) -> Result<FoundStream, KinesisError> {
        let is = |stream: &&FoundStream| stream.id.name == name || stream.arn == name;
        if let Some(stream) = listed.into_iter().flatten().find(is) {
            return Ok(stream.clone());
        }
        let known = self.described.get(name);
        let is_fresh = |(stream, at): &&(FoundStream, Instant)| {
            at.elapsed() < DESCRIBED_FOR && self.fares_well(stream)
        };
        if let Some((stream, _)) = known.filter(is_fresh) {
            return Ok(stream.clone());
        }
        sleep(APART).await;
        match self.account.stream(name).await {
            Ok(stream) => {
                let described = (stream.clone(), Instant::now());
                self.described.insert(name.to_owned(), described);
                Ok(stream)
            }
            Err(error) if is_missing(&error) => {
                self.described.remove(name);
                Err(error)
            }
            Err(error) => match self.described.get(name) {
                Some((stream, _)) => {
                    self.context
                        .reports
                        .failed(None, DESCRIBE, is_throttled(&error), &error);
                    Ok(stream.clone())
                }
                None => Err(error),
            },
        }
    }

    fn fares_well(&self, stream: &FoundStream) -> bool {
        let mut all = self.context.streams.all().into_iter();
        let read = all.find(|read| read.is_at(&stream.arn));
        read.is_none_or(|read| read.health.failing().is_none())
    }

    /// Reads exactly these streams from now on.
    fn read(&self, found: &Found) {
        let context = &self.context;
        let by_id: BTreeMap<_, _> = (found.streams.values())
            .map(|stream| (&stream.id, stream))
            .collect();
        let wanted: Vec<StreamIdentifier> = by_id.keys().map(|id| (*id).clone()).collect();
        let changes = context.streams.set(&wanted, |id| {
            let stream = by_id[id];
            Stream::new(
                Some(id.clone()),
                stream.arn.clone(),
                self.account.open(stream),
                Ownership::by_key(StreamName::new(&stream.arn, None)),
                &context.config,
                context.reports.clone(),
            )
        });
        if changes.came.is_empty() && changes.went.is_empty() {
            return;
        }
        for stream in changes.came {
            context.report(Event::StreamAdded { stream });
        }
        for stream in changes.went {
            context.report(Event::StreamRemoved { stream });
        }
        context.streams.changed.notify_one();
        context.rescan.notify_one();
    }

    /// Tells what cannot be looked up, each once.
    fn tell(&mut self, failed: &[(String, KinesisError)]) {
        let before = std::mem::take(&mut self.failing);
        for (stream, error) in failed {
            self.context
                .reports
                .failed(None, DESCRIBE, is_throttled(error), error);
            if !before.contains(stream) {
                self.context.report(Event::StreamFailing {
                    stream: stream.clone(),
                    error: error.to_string(),
                });
            }
            self.failing.insert(stream.clone());
        }
        for stream in before.difference(&self.failing) {
            let stream = stream.clone();
            self.context.report(Event::StreamRecovered { stream });
        }
    }

    /// It cannot be looked: the streams stay as they are.
    fn failed(&self, error: &KinesisError) {
        let reports = &self.context.reports;
        if error.stands() {
            reports.stands(LIST, error, || error_of_all(error.clone()));
        }
        reports.failed(None, LIST, is_throttled(error), error);
    }
}

impl Found {
    /// The first entry that names a stream says as what.
    fn add(&mut self, stream: FoundStream) {
        self.streams.entry(stream.arn.clone()).or_insert(stream);
    }
}

fn error_of_all(source: KinesisError) -> Error {
    Error::Stream {
        stream: "all streams".to_owned(),
        source,
    }
}

fn is_missing(error: &KinesisError) -> bool {
    matches!(error, KinesisError::NotFound(_))
}

fn is_throttled(error: &KinesisError) -> bool {
    matches!(error, KinesisError::Throttled(_))
}
