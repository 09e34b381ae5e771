//! Which streams an application that reads several has: looked up again and again.
//!
//! Names cost a DescribeStreamSummary each now and then, patterns one ListStreams a look. A stream
//! that cannot be looked up stays as it is: it goes when AWS says that it is not there. One that
//! comes is read before the look is over.

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

/// The time between descriptions of a stream that is read without trouble, more or less: workers
/// that started together do not call together.
const DESCRIBED_FOR: Duration = Duration::from_secs(900);
/// How often a description that is throttled is tried within a look.
const TRIES: usize = 8;
/// What is told of where the streams cannot be looked up at all.
const ALL: &str = "all streams";
/// Between two descriptions: an account may make 20 calls a second, with all that it runs.
const APART: Duration = Duration::from_millis(100);
/// Between a look and one that is asked for.
const LEAST_WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Lookout {
    context: Arc<Context>,
    account: Arc<dyn Account>,
    settings: streams::Streams,
    /// As they were described, and until when that does.
    described: BTreeMap<String, (FoundStream, Instant)>,
    /// What cannot be looked up, as it was told.
    failing: BTreeSet<String>,
    /// The entries without a stream, as they were told, and whether none has one.
    unmatched: (Vec<String>, bool),
    /// Is the next look due at once, as the first one stopped at what it found?
    is_half_done: bool,
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
            unmatched: (Vec::new(), false),
            is_half_done: false,
        }
    }

    /// The first look, as often as it takes, until there is a stream to read or none to be found.
    ///
    /// # Errors
    /// It cannot be looked, or at none of the streams, and waiting does not mend it.
    pub(crate) async fn first(&mut self) -> Result<(), Error> {
        let mut failures = backoff(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.look(true).await {
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
                    if error.stands() {
                        let verdict = || error_of_all(error.clone());
                        self.context.reports.stands(LIST, &error, verdict);
                    }
                    self.retried(LIST, &error);
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
            if !self.is_half_done {
                tokio::select! {
                    () = sleep(interval.mul_f64(0.9 + 0.2 * fastrand::f64())) => {}
                    () = self.context.streams.look.notified() => sleep_until(soon).await,
                }
            }
            match self.look(false).await {
                // What could not be looked up is not gone.
                Ok(found) if found.failed.iter().all(|(_, error)| is_missing(error)) => {
                    self.sweep.run().await;
                }
                Ok(_) => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    /// One look: reads what was found from now on. `until_found`: it ends before what would cost
    /// more calls once there is a stream to read.
    async fn look(&mut self, until_found: bool) -> Result<Found, KinesisError> {
        self.is_half_done = false;
        let wanted = self.settings.source.wanted().await;
        let wanted = wanted.map_err(|text| KinesisError::Unavailable(text.into()))?;
        let lists = wanted.iter().any(|it| matches!(it, Wanted::Like(_)));
        let listed = match lists {
            true => Some(self.account.streams().await?),
            false => None,
        };
        self.context.succeeded(LIST);
        let mut found = Found::default();
        let mut unmatched = Vec::new();
        for wanted in &wanted {
            let (name, id) = match wanted {
                Wanted::As(id) => (&id.name, Some(id)),
                Wanted::Named(name) => (name, None),
                Wanted::Like(pattern) => {
                    let alike = self.alike(pattern, listed.as_deref().unwrap_or_default());
                    let alike = alike.await;
                    if alike.is_empty() {
                        unmatched.push(pattern.clone());
                    }
                    alike.into_iter().for_each(|stream| found.add(stream));
                    continue;
                }
            };
            let known = self.known(name, listed.as_deref());
            if known.is_none() && until_found && !found.streams.is_empty() {
                self.is_half_done = true;
                self.come(&found);
                return Ok(found);
            }
            let is_known = known.is_some();
            let stream = match known {
                Some(stream) => Ok(stream),
                None => self.describe(name).await,
            };
            let stream = stream.and_then(|stream| match id {
                Some(id) if stream.id.account != id.account => {
                    let text = format!("{id}: the stream is of account {}", stream.id.account);
                    Err(KinesisError::Permanent(text.into()))
                }
                Some(id) => Ok(FoundStream {
                    id: id.clone(),
                    ..stream
                }),
                None => Ok(stream),
            });
            match stream {
                Ok(stream) => {
                    found.add(stream);
                    if !is_known {
                        // The next descriptions may take long.
                        self.come(&found);
                    }
                }
                Err(error) => {
                    let entry = id.map_or_else(|| name.clone(), ToString::to_string);
                    found.failed.push((entry, error));
                }
            }
        }
        self.tell(&found.failed);
        self.read(&found);
        if found.streams.is_empty() {
            unmatched = wanted.iter().map(ToString::to_string).collect();
        }
        self.tell_unmatched(unmatched, found.streams.is_empty());
        Ok(found)
    }

    /// The streams whose names are like the pattern: those that are listed, and those that are read
    /// and left the list, until AWS says of each that it is gone. A list may be short by mistake.
    async fn alike(&mut self, pattern: &str, listed: &[FoundStream]) -> Vec<FoundStream> {
        let is_alike = |stream: &&FoundStream| is_like(&stream.id.name, pattern);
        let mut alike: Vec<_> = listed.iter().filter(is_alike).cloned().collect();
        let mut left = self.read_now();
        left.retain(|read| is_alike(&read) && !listed.iter().any(|it| it.arn == read.arn));
        for read in left {
            sleep(APART).await;
            match self.account.stream(&read.arn).await {
                Ok(stream) => alike.push(stream),
                Err(error) if is_missing(&error) => {}
                Err(error) => {
                    self.retried(DESCRIBE, &error);
                    alike.push(read);
                }
            }
        }
        alike
    }

    /// The stream of that name or ARN, as far as no call is needed: as it was listed, or described
    /// a while ago.
    fn known(&self, name: &str, listed: Option<&[FoundStream]>) -> Option<FoundStream> {
        let listed = listed.into_iter().flatten();
        let described = || {
            let (stream, until) = self.described.get(name)?;
            (Instant::now() < *until && self.fares_well(stream)).then_some(stream)
        };
        let mut listed = listed.filter(|stream| stream.has_name(name));
        listed.next().or_else(described).cloned()
    }

    /// The stream of that name or ARN as it is described now; where it cannot be, as it was
    /// described before, or as it is read.
    async fn describe(&mut self, name: &str) -> Result<FoundStream, KinesisError> {
        let mut failures = backoff(Duration::from_millis(500), Duration::from_secs(10));
        let mut tries = 1;
        loop {
            sleep(APART).await;
            let error = match self.account.stream(name).await {
                Ok(stream) => {
                    let until = Instant::now() + DESCRIBED_FOR.mul_f64(0.8 + 0.4 * fastrand::f64());
                    let described = (stream.clone(), until);
                    self.described.insert(name.to_owned(), described);
                    return Ok(stream);
                }
                Err(error) => error,
            };
            if is_missing(&error) {
                self.described.remove(name);
                return Err(error);
            }
            let described = self.described.get(name).map(|(stream, _)| stream.clone());
            let is_read = || {
                let mut read = self.read_now().into_iter();
                read.find(|stream| stream.has_name(name))
            };
            if let Some(stream) = described.or_else(is_read) {
                self.retried(DESCRIBE, &error);
                return Ok(stream);
            }
            if !is_throttled(&error) || tries == TRIES {
                return Err(error);
            }
            self.retried(DESCRIBE, &error);
            tries += 1;
            pause(&mut failures).await;
        }
    }

    /// The streams that are read.
    fn read_now(&self) -> Vec<FoundStream> {
        let streams = self.context.streams.all();
        streams.iter().filter_map(|it| it.as_found()).collect()
    }

    fn fares_well(&self, stream: &FoundStream) -> bool {
        let mut all = self.context.streams.all().into_iter();
        let read = all.find(|read| read.is_at(&stream.arn));
        read.is_none_or(|read| read.health.failing().is_none())
    }

    /// Reads these streams, too, from now on.
    fn come(&self, found: &Found) {
        let mut all = found.streams.values().cloned().collect::<Vec<_>>();
        all.extend(self.read_now());
        self.set(&all);
    }

    /// Reads exactly these streams from now on.
    fn read(&self, found: &Found) {
        self.set(&found.streams.values().cloned().collect::<Vec<_>>());
    }

    fn set(&self, streams: &[FoundStream]) {
        let context = &self.context;
        let by_id: BTreeMap<_, _> = (streams.iter())
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

    /// Tells what cannot be looked up, each once. Throttling is waited out.
    fn tell(&mut self, failed: &[(String, KinesisError)]) {
        let before = std::mem::take(&mut self.failing);
        for (stream, error) in failed {
            self.retried(DESCRIBE, error);
            if before.contains(stream) || !is_throttled(error) {
                self.failing.insert(stream.clone());
            }
            if !before.contains(stream) && !is_throttled(error) {
                self.tell_failing(stream, error);
            }
        }
        for stream in before.difference(&self.failing) {
            let stream = stream.clone();
            self.context.report(Event::StreamRecovered { stream });
        }
    }

    /// Tells which entries have no stream, whenever that changes.
    fn tell_unmatched(&mut self, entries: Vec<String>, reads_none: bool) {
        let unmatched = (entries, reads_none);
        if self.unmatched == unmatched {
            return;
        }
        self.unmatched = unmatched;
        let (entries, reads_none) = self.unmatched.clone();
        if reads_none || !entries.is_empty() {
            self.context.report(Event::NoStreams {
                entries,
                reads_none,
            });
        }
    }

    fn tell_failing(&self, stream: &str, error: &KinesisError) {
        self.context.report(Event::StreamFailing {
            stream: stream.to_owned(),
            error: error.to_string(),
        });
    }

    /// It cannot be looked: the streams stay as they are, and are read. So that is told, and no
    /// reason to end.
    fn failed(&mut self, error: &KinesisError) {
        if error.stands() && self.failing.insert(ALL.to_owned()) {
            self.tell_failing(ALL, error);
        }
        self.retried(LIST, error);
    }

    /// The call is tried again.
    fn retried(&self, operation: &'static str, error: &KinesisError) {
        let reports = &self.context.reports;
        reports.failed(None, operation, is_throttled(error), error);
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
        stream: ALL.to_owned(),
        source,
    }
}

fn is_missing(error: &KinesisError) -> bool {
    matches!(error, KinesisError::NotFound(_))
}

fn is_throttled(error: &KinesisError) -> bool {
    matches!(error, KinesisError::Throttled(_))
}
