//! What a slow, a killed and a resharded application still has to read, look by look: each is asked
//! for all along and must fit.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use crate::support::world::{Application, named};
use crate::support::*;
use aws_sdk_kinesis::{operation::put_record::PutRecordOutput, primitives::Blob};
use keda_kinesis_scaler::proto::ScaledObjectRef;
use serde_json::Value;
use tokio::time::sleep;

/// As [`shard_states`]. Workers delete the leases of finished shards in the end: then nobody wants
/// those any more.
fn states(application: &Value) -> String {
    shard_states(application).replace("notWanted", "finished")
}

/// Asks about an application all along.
struct Observer<'a> {
    application: &'a Application,
    client: Client,
    lag: ScaledObjectRef,
}

impl<'a> Observer<'a> {
    async fn of(application: &'a Application) -> Self {
        let lag = application.trigger("lag", &[]);
        let mut client = application.stack.client().await;
        // Before there is a lease: one replica.
        wait_for_value(&mut client, &lag, 1.0).await;
        Self {
            application,
            client,
            lag,
        }
    }

    /// The next thing that is known, and whether KEDA is told to scale from zero. Parents come
    /// first, always.
    async fn look(&mut self) -> (Value, bool) {
        value(&mut self.client, &self.lag).await.unwrap();
        let path = "/explain/team-a/scaled-object?format=json";
        let (_, body) = http_get(self.application.stack.admin, path).await;
        let json: Value = serde_json::from_str(&body).unwrap();
        let trigger = &json["triggers"][0];
        let application = &trigger["source"]["application"];
        let shards = application["shards"].as_array().unwrap();
        let finished: BTreeSet<_> = shards
            .iter()
            .filter(|shard| shard["state"] == "finished" || shard["state"] == "notWanted")
            .map(|shard| shard["id"].as_str().unwrap())
            .collect();
        for shard in shards {
            let mut parents = shard["parents"].as_array().unwrap().iter();
            let may_start = parents.all(|parent| finished.contains(parent.as_str().unwrap()));
            assert_eq!(shard["state"] == "waits", !may_start, "{application:#}");
        }
        let active = trigger["keda"]["active"].as_bool();
        (application.clone(), active.unwrap())
    }

    /// Looks until the shards are in these states, and KEDA is told this. A shard that was read a
    /// moment ago keeps it active for one look more.
    async fn until(&mut self, wanted: &str, active: bool) {
        let mut last = (String::new(), false);
        let looked = async {
            while (last.0.as_str(), last.1) != (wanted, active) {
                let (application, active) = self.look().await;
                last = (states(&application), active);
                sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looked).await.is_err() {
            panic!("waited in vain for {wanted}, active {active}; the last was {last:?}");
        }
    }

    /// Waits until a look that began from now on is over.
    async fn next_look(&mut self) {
        let lists = self.lists().await;
        let looked = async {
            // The first may have begun before, and the third begins when the second is over.
            while self.lists().await < lists + 3.0 {
                // Nobody looks for an application without workers that nobody asks about.
                let _ = value(&mut self.client, &self.lag).await;
                sleep(Duration::from_millis(5)).await;
            }
        };
        eventually("a look", looked).await;
    }

    /// How often the scaler has listed shards: once a look.
    async fn lists(&self) -> f64 {
        let (_, text) = http_get(self.application.stack.admin, "/metrics").await;
        let counts = text.lines().filter(|line| {
            line.starts_with("keda_kinesis_scaler_aws_calls_total{")
                && line.contains(r#"operation="ListShards""#)
        });
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        counts.map(count).sum()
    }

    async fn readable(&mut self) -> f64 {
        let readable = self.application.trigger("readableShards", &[]);
        let readable = named("team-a", "another", readable);
        value(&mut self.client, &readable).await.unwrap()
    }
}

async fn put(application: &Application, key: &str) -> PutRecordOutput {
    let put = application.stack.aws.put_record().stream_name("orders");
    let put = put.partition_key(key).data(Blob::new("secret data"));
    put.send().await.unwrap()
}

/// Writes until it is told to stop.
async fn produce(application: &Application, written: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let number = written.fetch_add(1, Ordering::Relaxed);
        put(application, &format!("key {number}")).await;
        // Some load, not all there can be: each record costs the worker a checkpoint.
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_reshard_under_load_is_seen_parents_first_then_children_then_nothing() {
    let application = Application::start(2).await;
    // The shards are split one after the other, while they are written to.
    let kinesis = &application.stack.kinesis;
    kinesis.configure(|config| config.updating = Duration::from_millis(300));
    let mut observer = Observer::of(&application).await;
    let worker = application.run("one", 10);
    let (written, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = produce(&application, &written, &stop);
    let seen = async {
        // What the worker may process is used up, and each shard has a record beyond that.
        let used_up = async {
            while worker.may.available_permits() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        eventually("ten records to be processed", used_up).await;
        for hash_key in [0, u128::MAX] {
            let put = application.stack.aws.put_record().stream_name("orders");
            let put = put.partition_key("beyond").data(Blob::new("secret data"));
            let put = put.explicit_hash_key(hash_key.to_string());
            put.send().await.unwrap();
        }
        observer.until("0 unread, 1 unread", true).await;
        application.stack.update_shard_count("orders", 4).await;
        let waiting = "0 unread, 1 unread, 2 waits, 3 waits, 4 waits, 5 waits";
        observer.until(waiting, true).await;
        // However much arrives in the children.
        let before = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) < before + 40 {
            let (application, active) = observer.look().await;
            assert_eq!((states(&application).as_str(), active), (waiting, true));
        }
        assert_eq!(observer.readable().await, 2.0);

        // The worker reads the parents to their ends, a part at a time.
        let part = written.load(Ordering::Relaxed) / 10 + 1;
        let is_over = |application: &Value| {
            let states = states(application);
            states.starts_with("0 finished, 1 finished")
        };
        while !is_over(&observer.look().await.0) {
            worker.may.add_permits(part);
            observer.next_look().await;
        }
        let children = "0 finished, 1 finished, 2 unread, 3 unread, 4 unread, 5 unread";
        observer.until(children, true).await;
        assert_eq!(observer.readable().await, 4.0);

        stop.store(true, Ordering::Relaxed);
        worker.may.add_permits(1_000_000);
        let read = "0 finished, 1 finished, 2 caughtUp, 3 caughtUp, 4 caughtUp, 5 caughtUp";
        observer.until(read, false).await;
    };
    tokio::join!(load, seen);
    worker.stop().await;
}

#[tokio::test]
async fn a_slow_worker_is_behind_until_its_last_checkpoint() {
    let application = Application::start(1).await;
    let mut observer = Observer::of(&application).await;
    let worker = application.run("slow", 0);
    observer.until("0 caughtUp", false).await;
    let mut numbers = Vec::new();
    for number in 0..6 {
        let put = put(&application, &format!("key {number}")).await;
        numbers.push(put.sequence_number().to_owned());
    }
    observer.until("0 unread", true).await;
    for number in &numbers {
        worker.may.add_permits(1);
        let followed = async {
            loop {
                let (application, active) = observer.look().await;
                let checkpoint = &application["shards"][0]["lease"]["checkpoint"];
                let is_behind = checkpoint.as_str() != numbers.last().map(String::as_str);
                let want = if is_behind { "0 unread" } else { "0 caughtUp" };
                assert_eq!(states(&application), want);
                assert!(active || !is_behind);
                if checkpoint == number.as_str() {
                    return;
                }
            }
        };
        eventually(number, followed).await;
    }
    observer.until("0 caughtUp", false).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_a_killed_worker_leaves_behind_is_seen_until_others_have_read_it() {
    let application = Application::start(2).await;
    let mut observer = Observer::of(&application).await;
    let worker = application.run("one", 100);
    for number in 0..6 {
        put(&application, &format!("key {number}")).await;
    }
    observer.next_look().await;
    observer.until("0 caughtUp, 1 caughtUp", false).await;
    drop(worker);
    observer.next_look().await;
    observer.until("0 caughtUp, 1 caughtUp", false).await;

    // Nobody is there to write SHARD_END: somebody must come, although not one record is unread.
    application.stack.update_shard_count("orders", 4).await;
    let drained = "0 drained, 1 drained, 2 waits, 3 waits, 4 waits, 5 waits";
    observer.until(drained, true).await;
    let mut written = BTreeSet::new();
    for number in 0..3 {
        let put = put(&application, &format!("key {number}")).await;
        written.insert(put.shard_id().to_owned());
    }
    observer.next_look().await;
    observer.until(drained, true).await;
    assert_eq!(observer.readable().await, 2.0);

    let children = |unread: &str| {
        let child = |number| {
            let is_written = written.contains(&format!("shardId-{number:012}"));
            let state = if is_written { unread } else { "caughtUp" };
            format!("{number} {state}")
        };
        let children: Vec<_> = (2..6).map(child).collect();
        format!("0 finished, 1 finished, {}", children.join(", "))
    };
    let worker = application.run("two", 0);
    observer.until(&children("unread"), true).await;
    // Killed, too.
    drop(worker);
    observer.next_look().await;
    observer.until(&children("unread"), true).await;
    assert_eq!(observer.readable().await, 4.0);

    let worker = application.run("three", 100);
    observer.until(&children("caughtUp"), false).await;
    worker.stop().await;
    observer.next_look().await;
    observer.until(&children("caughtUp"), false).await;
}
