//! The lease table, every write of it in order: through the table's change stream, so that no
//! checkpoint goes back unseen between two reads of the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dynoxide::Database;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{attributes, checkpoint::Checkpoint};

#[cfg(test)]
mod tests;

/// The change stream has to be asked.
const POLL: Duration = Duration::from_millis(20);

/// A lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    pub(crate) owner: Option<String>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) parents: BTreeSet<String>,
}

/// The leases of an application, by shard.
pub(crate) type Leases = BTreeMap<String, Lease>;

/// An item, and whether it was deleted.
type Change = (Value, bool);

/// Watches the table from before it is there.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    start: Instant,
    leases: Leases,
    /// What a deleted lease was at.
    deleted: BTreeMap<String, Checkpoint>,
    /// What must not be.
    wrong: Vec<String>,
    /// Leases that came, went, ended or changed hands, for the report of a failure.
    history: Vec<String>,
    moves: usize,
    /// From whom to whom leases went.
    moved: BTreeSet<(String, String)>,
    /// KCL 3 may have its items among the leases.
    may_have_items: bool,
    /// `cv` of `Migration3.0`.
    client_version: Option<String>,
    /// Bytes of attributes in an item that are not KCL's, at most.
    ours: usize,
}

/// What the watch has found in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// How often a lease went to another worker.
    pub(crate) moves: usize,
    /// Bytes of attributes in an item that are not KCL's, at most.
    pub(crate) ours: usize,
}

impl LeaseTable {
    /// Watches until the table is dropped.
    /// `items`: others than leases may be in it.
    pub(crate) fn watch(database: Database, table: String, items: bool) -> Arc<Self> {
        let this = Arc::new(Self {
            state: Mutex::new(State {
                may_have_items: items,
                ..State::new()
            }),
            changed: watch::Sender::new(()),
        });
        let weak = Arc::downgrade(&this);
        tokio::spawn(async move {
            while enable_stream(&database, &table).is_err() {
                sleep(POLL).await;
                if weak.strong_count() == 0 {
                    return;
                }
            }
            let (mut iterator, items) = loop {
                match begin(&database, &table) {
                    Ok(Some(begun)) => break begun,
                    // Written to just then, or not there yet.
                    _ if weak.strong_count() == 0 => return,
                    _ => sleep(POLL).await,
                }
            };
            let mut changes: Vec<_> = items.into_iter().map(|item| (item, false)).collect();
            while let Some(this) = weak.upgrade() {
                let step = this.take_in(&changes).and_then(|()| {
                    let (next, more) = follow(&database, &iterator)?;
                    (iterator, changes) = (next, more);
                    Ok(())
                });
                if let Err(error) = step {
                    this.state().wrong.push(format!("watching: {error:#}"));
                    return;
                }
                drop(this);
                if changes.is_empty() {
                    sleep(POLL).await;
                }
            }
        });
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, changes: &[Change]) -> Result<()> {
        for (item, deleted) in changes {
            self.state().change(item, *deleted)?;
        }
        if !changes.is_empty() {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The leases now.
    pub(crate) fn now(&self) -> Leases {
        self.state().leases.clone()
    }

    /// The unfinished leases of a worker.
    pub(crate) fn held_by(&self, worker: &str) -> BTreeSet<String> {
        let state = self.state();
        let held = state.leases.iter().filter(|(_, lease)| {
            lease.owner.as_deref() == Some(worker) && !lease.checkpoint.is_shard_end()
        });
        held.map(|(key, _)| key.clone()).collect()
    }

    /// Whether a lease went from the one to the other.
    pub(crate) fn has_moved(&self, from: &str, to: &str) -> bool {
        let moved = &self.state().moved;
        moved.contains(&(from.to_owned(), to.to_owned()))
    }

    /// Whether KCL 3's state says that a leader assigns the leases.
    pub(crate) fn is_led(&self) -> bool {
        let version = self.state().client_version.clone();
        version.is_some_and(|version| version.starts_with("CLIENT_VERSION_3X"))
    }

    /// Leases that came, went, ended or changed hands.
    pub(crate) fn history(&self) -> Vec<String> {
        self.state().history.clone()
    }

    /// No checkpoint went back, and no item was other than KCL's.
    pub(crate) fn close(&self) -> Result<Watched> {
        let state = self.state();
        ensure!(state.wrong.is_empty(), "lease table: {:?}", state.wrong);
        Ok(Watched {
            moves: state.moves,
            ours: state.ours,
        })
    }
}

impl State {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            leases: Leases::new(),
            deleted: BTreeMap::new(),
            wrong: Vec::new(),
            history: Vec::new(),
            moves: 0,
            moved: BTreeSet::new(),
            may_have_items: false,
            client_version: None,
            ours: 0,
        }
    }

    fn change(&mut self, item: &Value, deleted: bool) -> Result<()> {
        let text = |name: &str| item[name]["S"].as_str();
        let key = text("leaseKey").context("leaseKey")?.to_owned();
        let seconds = self.start.elapsed().as_secs_f64();
        let Some(checkpoint) = text("checkpoint") else {
            if key == "Migration3.0" {
                self.client_version = text("cv").map(str::to_owned);
            }
            // Else neither 3.5.1 nor we may write other items here: the scan of a 2.7.2 worker
            // fails on them.
            if !self.may_have_items {
                self.wrong.push(format!("{seconds:.2} s: no lease: {item}"));
            }
            return Ok(());
        };
        let sub = item["checkpointSubSequenceNumber"]["N"].as_str();
        let checkpoint = Checkpoint::parse(checkpoint, sub.unwrap_or("0").parse()?)?;
        if deleted {
            self.history
                .push(format!("{seconds:7.2} s  {key}: deleted at {checkpoint}"));
            self.leases.remove(&key);
            self.deleted.insert(key, checkpoint);
            return Ok(());
        }
        match attributes::bytes_of_ours(item) {
            Ok(bytes) => self.ours = self.ours.max(bytes),
            Err(error) => self.wrong.push(format!("{seconds:.2} s: {key}: {error}")),
        }
        let parents = item["parentShardId"]["SS"].as_array();
        let parents = parents.into_iter().flatten().filter_map(Value::as_str);
        let lease = Lease {
            owner: text("leaseOwner").map(str::to_owned),
            checkpoint,
            parents: parents.map(str::to_owned).collect(),
        };
        let before = self.leases.get(&key);
        let reached = before.map(|lease| &lease.checkpoint);
        if let Some(reached) = reached.or_else(|| self.deleted.get(&key))
            && lease.checkpoint < *reached
        {
            self.wrong.push(format!(
                "{seconds:.2} s: {key} goes back from {reached} to {} by {:?}",
                lease.checkpoint, lease.owner
            ));
        }
        let owner = |lease: Option<&Lease>| lease.and_then(|lease| lease.owner.clone());
        let (old, new) = (owner(before), owner(Some(&lease)));
        let ended = lease.checkpoint.is_shard_end()
            && !before.is_some_and(|lease| lease.checkpoint.is_shard_end());
        if old != new || before.is_none() || ended {
            self.history.push(format!(
                "{seconds:7.2} s  {key}: {} → {} at {}",
                old.as_deref().unwrap_or("(nobody)"),
                new.as_deref().unwrap_or("(nobody)"),
                lease.checkpoint
            ));
        }
        if old != new && new.is_some() {
            self.moves += 1;
        }
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            self.moved.insert((old, new));
        }
        self.leases.insert(key, lease);
        Ok(())
    }
}

fn enable_stream(database: &Database, table: &str) -> Result<()> {
    let stream = json!({"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"});
    let request = json!({"TableName": table, "StreamSpecification": stream});
    database.update_table(serde_json::from_value(request)?)?;
    Ok(())
}

/// All items, and an iterator that begins right after them; `None` if somebody wrote meanwhile.
fn begin(database: &Database, table: &str) -> Result<Option<(String, Vec<Value>)>> {
    let start = end_of_stream(database, table)?;
    let scan = database.scan(serde_json::from_value(json!({"TableName": table}))?)?;
    if end_of_stream(database, table)? != start {
        return Ok(None);
    }
    let items = scan.items.unwrap_or_default();
    let items = items.into_iter().map(serde_json::to_value);
    Ok(Some((start, items.collect::<Result<_, _>>()?)))
}

/// An iterator at the end of the table's change stream, which has one shard here.
fn end_of_stream(database: &Database, table: &str) -> Result<String> {
    let request = json!({"TableName": table});
    let described = database.describe_table(serde_json::from_value(request)?)?;
    let described = serde_json::to_value(described)?;
    let arn = &described["Table"]["LatestStreamArn"];
    let request = json!({"StreamArn": arn});
    let stream = database.describe_stream(serde_json::from_value(request)?)?;
    let stream = serde_json::to_value(stream)?;
    let shard = &stream["StreamDescription"]["Shards"][0]["ShardId"];
    let request = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "LATEST"});
    let end = database.get_shard_iterator(serde_json::from_value(request)?)?;
    end.shard_iterator.context("no iterator")
}

/// What came after an iterator, and the next one.
fn follow(database: &Database, iterator: &str) -> Result<(String, Vec<Change>)> {
    let request = json!({"ShardIterator": iterator});
    let page = database.get_records(serde_json::from_value(request)?)?;
    let page = serde_json::to_value(page)?;
    let records = page["Records"].as_array().context("records")?;
    let change = |record: &Value| {
        let (deleted, images) = (record["eventName"] == "REMOVE", &record["dynamodb"]);
        let image = if deleted { "OldImage" } else { "NewImage" };
        (images[image].clone(), deleted)
    };
    let next = page["NextShardIterator"].as_str().context("iterator")?;
    Ok((next.to_owned(), records.iter().map(change).collect()))
}
