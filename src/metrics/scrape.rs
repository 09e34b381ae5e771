//! What a scrape reads: a row for each metric, with its name, its help and where its value comes
//! from.

use std::{collections::HashSet, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use tonic::Code;

use crate::error::code_name;

/// The scaler at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The watched sources.
    pub watchers: WatcherCounts,
    /// The applications.
    pub applications: Vec<ApplicationGauges>,
    /// ScaledObjects whose last answer was an error.
    pub failing: usize,
    /// Some of them.
    pub failing_objects: Vec<FailingObject>,
    /// Asynchronous tasks that are alive.
    pub tasks: usize,
}

/// The watchers at one moment, by how they can answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WatcherCounts {
    /// Answer from a snapshot of the last refresh.
    pub fresh: usize,
    /// Answer from the last good snapshot, or from verdicts that stand in: the refresh, or probes
    /// of shards, failed.
    pub stale: usize,
    /// Answer with an error, or know of no shard whether it is read.
    pub failing: usize,
    /// Have no answer yet.
    pub pending: usize,
    /// Age of the oldest snapshot that is answered from.
    pub oldest: Duration,
}

/// A ScaledObject whose last answer was an error.
#[derive(Clone, Debug)]
pub struct FailingObject {
    /// Its namespace, as claimed.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The error's code.
    pub code: Code,
}

/// One application.
#[derive(Clone, Debug, Default)]
pub struct ApplicationGauges {
    /// The stream, as the trigger names it.
    pub stream: String,
    /// Its region.
    pub region: String,
    /// The lease table.
    pub lease_table: String,
    /// The role by which the stream is asked about; empty: the scaler's own identity.
    pub role: String,
    /// Shards that it can work on now.
    pub readable: usize,
    /// What is known of unread records; `None`: nobody asked for lag.
    pub unread: Option<Unread>,
}

/// What is known of an application's unread records.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// Shards with unread records; `None`: not known of each.
    pub shards: Option<usize>,
    /// The age of the oldest record known to be unread, zero where all is read; `None`: nothing is
    /// known to be unread, and of some shards nothing is known.
    pub oldest: Option<Duration>,
    /// Shards of which it is not known whether they have unread records.
    pub undecided: usize,
    /// The age of the oldest verdict that stands in because probes fail, zero where none does.
    pub oldest_verdict: Duration,
    /// Shards whose checkpoints stand still in an outage.
    pub standing: usize,
    /// Shards with work that nobody takes although pods run.
    pub orphans: usize,
    /// How often a probe of a shard brought what.
    pub probes: [(&'static str, u64); 5],
    /// The age of each shard's oldest unread record, where it has one; empty unless shards are
    /// shown one by one.
    pub by_shard: Vec<(String, Duration)>,
}

type Label = (&'static str, String);

/// A sample's own labels, and its value.
type Samples = Vec<(Vec<Label>, f64)>;

/// A metric: name, help, what is measured, and its samples.
struct Row<T> {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: fn(&T) -> Samples,
}

#[derive(Clone, Copy)]
enum Kind {
    Count,
    Seconds,
    Total,
}

const SCALER: &[Row<Scrape>] = &[
    Row {
        name: "build_info",
        help: "1, with the version that runs",
        kind: Kind::Count,
        samples: |_| vec![labelled("version", env!("CARGO_PKG_VERSION"), 1.0)],
    },
    Row {
        name: "watchers",
        help: "Watched sources, by how they can answer now",
        kind: Kind::Count,
        samples: |it| {
            let watchers = it.watchers;
            let states = [
                ("fresh", watchers.fresh),
                ("stale", watchers.stale),
                ("failing", watchers.failing),
                ("pending", watchers.pending),
            ];
            let sample = |(state, count): (&str, usize)| labelled("state", state, count as f64);
            states.map(sample).to_vec()
        },
    },
    Row {
        name: "oldest_snapshot_age",
        help: "Age of the oldest snapshot that is answered from",
        kind: Kind::Seconds,
        samples: |it| one(it.watchers.oldest.as_secs_f64()),
    },
    Row {
        name: "failing_objects",
        help: "ScaledObjects that asked in the last five minutes and got an error for their last answer",
        kind: Kind::Count,
        samples: |it| one(it.failing as f64),
    },
    Row {
        name: "failing_object",
        help: "1 for each of them, a hundred at most",
        kind: Kind::Count,
        samples: |it| {
            let objects = it.failing_objects.iter();
            let labels = |it: &FailingObject| {
                vec![
                    ("object_namespace", it.namespace.clone()),
                    ("object", it.name.clone()),
                    ("code", code_name(it.code).to_owned()),
                ]
            };
            objects.map(|it| (labels(it), 1.0)).collect()
        },
    },
    Row {
        name: "tasks",
        help: "Tasks that are alive: some for each connection, push stream and watched source",
        kind: Kind::Count,
        samples: |it| one(it.tasks as f64),
    },
];

const APPLICATION: &[Row<ApplicationGauges>] = &[
    Row {
        name: "readable_shards",
        help: "Shards that an application can work on now",
        kind: Kind::Count,
        samples: |it| one(it.readable as f64),
    },
    Row {
        name: "unread_shards",
        help: "Readable shards with a record after the checkpoint",
        kind: Kind::Count,
        samples: |it| of_unread(it, |unread| unread.shards.map(|count| count as f64)),
    },
    Row {
        name: "oldest_unread_age",
        help: "Age of an application's oldest unread record; 0 where all is read",
        kind: Kind::Seconds,
        samples: |it| of_unread(it, |unread| unread.oldest.map(|age| age.as_secs_f64())),
    },
    Row {
        name: "undecided_shards",
        help: "Readable shards of which it is not known whether they have unread records",
        kind: Kind::Count,
        samples: |it| of_unread(it, |unread| Some(unread.undecided as f64)),
    },
    Row {
        name: "oldest_verdict_age",
        help: "Age of the oldest verdict on a shard that stands in because probes fail; 0 where none does",
        kind: Kind::Seconds,
        samples: |it| of_unread(it, |unread| Some(unread.oldest_verdict.as_secs_f64())),
    },
    Row {
        name: "outage_shards",
        help: "Shards whose checkpoints stand still in an outage; 0 where there is none",
        kind: Kind::Count,
        samples: |it| of_unread(it, |unread| Some(unread.standing as f64)),
    },
    Row {
        name: "orphaned_shards",
        help: "Shards with unread records that nobody takes although pods run",
        kind: Kind::Count,
        samples: |it| of_unread(it, |unread| Some(unread.orphans as f64)),
    },
    Row {
        name: "probes",
        help: "Shards looked into for an unread record, by application and what came of it",
        kind: Kind::Total,
        samples: |it| {
            let probes = it.unread.iter().flat_map(|unread| unread.probes);
            let sample = |(outcome, count)| labelled("outcome", outcome, count as f64);
            probes.map(sample).collect()
        },
    },
    Row {
        name: "shard_oldest_unread_age",
        help: "Age of a shard's oldest unread record; only with perShardMetrics",
        kind: Kind::Seconds,
        samples: |it| {
            let shards = it.unread.iter().flat_map(|unread| &unread.by_shard);
            let sample =
                |(shard, age): &(String, Duration)| labelled("shard", shard, age.as_secs_f64());
            shards.map(sample).collect()
        },
    },
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for row in SCALER {
            row.encode(&mut encoder, (row.samples)(self))?;
        }
        // Sources that differ in what no label tells are shown once.
        let mut seen = HashSet::new();
        let applications = self.applications.iter();
        let applications = applications.map(|it| (it.labels(), it));
        let applications: Vec<_> = applications
            .filter(|(labels, _)| seen.insert(labels.clone()))
            .collect();
        for row in APPLICATION {
            let samples = applications.iter().flat_map(|(labels, application)| {
                let samples = (row.samples)(application).into_iter();
                samples.map(|(own, value)| ([labels.clone(), own].concat(), value))
            });
            row.encode(&mut encoder, samples.collect())?;
        }
        Ok(())
    }
}

impl ApplicationGauges {
    fn labels(&self) -> Vec<Label> {
        let mut labels = vec![
            ("stream", self.stream.clone()),
            ("region", self.region.clone()),
            ("lease_table", self.lease_table.clone()),
        ];
        // An empty label is none.
        if !self.role.is_empty() {
            labels.push(("role", self.role.clone()));
        }
        labels
    }
}

impl<T> Row<T> {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, samples: Samples) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let (unit, metric_type) = match self.kind {
            Kind::Count => (None, MetricType::Gauge),
            Kind::Seconds => (Some(&Unit::Seconds), MetricType::Gauge),
            Kind::Total => (None, MetricType::Counter),
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit, metric_type)?;
        for (labels, value) in samples {
            match labels.is_empty() {
                true => self.kind.encode(value, &mut metric)?,
                false => self
                    .kind
                    .encode(value, &mut metric.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }
}

impl Kind {
    fn encode(self, value: f64, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Count => metric.encode_gauge(&(value as i64)),
            Self::Seconds => metric.encode_gauge(&value),
            Self::Total => metric.encode_counter::<NoLabelSet, _, u64>(&(value as u64), None),
        }
    }
}

fn one(value: f64) -> Samples {
    vec![(Vec::new(), value)]
}

fn labelled(name: &'static str, value: &str, sample: f64) -> (Vec<Label>, f64) {
    (vec![(name, value.to_owned())], sample)
}

fn of_unread(application: &ApplicationGauges, value: fn(&Unread) -> Option<f64>) -> Samples {
    let value = application.unread.as_ref().and_then(value);
    value.map(one).unwrap_or_default()
}
