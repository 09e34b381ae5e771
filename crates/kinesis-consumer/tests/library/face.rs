//! What a user holds: closures, rejects, the token of a lease, and log lines that come unasked.

use std::{
    cell::RefCell,
    io,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{
    Batch, Checkpoint, Checkpointer, Config, Event, InitialPosition, Pace, Placement, Position,
    Times, Worker, each_batch,
    test_util::{MemoryKinesis, MemoryTable},
};
use rstest::rstest;
use tokio::time::sleep;

fn config(worker: &str) -> Config {
    let mut config = Config::new("orders", "billing", worker);
    config.initial_position = InitialPosition::TrimHorizon;
    config
}

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is logged on this thread.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// At the level that a program has that sets none. One subscriber for all threads: tracing may
    /// pass by those of single threads while others come and go.
    fn capture() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(|| Self)
                .init();
        });
        Self
    }

    fn text(&self) -> String {
        LINES.with_borrow(|lines| String::from_utf8_lossy(lines).into_owned())
    }

    fn of(&self, level: &str) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| line.contains(level));
        lines.map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_always_fails_is_logged_by_a_worker_without_a_sink() {
    let lines = Lines::capture();
    let kinesis = MemoryKinesis::new(1);
    kinesis.put("a", "data of mine");
    let failing = each_batch(|_, _| async { Err("the database is away".into()) });
    let worker = Worker::over(config("a"), kinesis, MemoryTable::new(), failing);
    worker.run(sleep(Duration::from_secs(60))).await.unwrap();

    let warnings = lines.of("WARN");
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    for told in [
        "shardId-000000000000",
        "the database is away",
        "attempt=1",
        "retry_in=500ms",
    ] {
        assert!(warnings[0].contains(told), "{told}: {}", warnings[0]);
    }
    assert!(
        lines.of("ERROR")[0].contains("attempt=5"),
        "{:#?}",
        lines.of("ERROR")
    );
    assert!(!lines.text().contains("data of mine"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_and_a_rejected_record_are_logged_too() {
    let lines = Lines::capture();
    let (kinesis, table) = (MemoryKinesis::new(1), MemoryTable::new());
    kinesis.put("a", "");
    let thief = table.clone();
    let rejecting = each_batch(move |batch: Batch, checkpointer: Checkpointer| {
        let thief = thief.clone();
        async move {
            checkpointer.reject(&batch.records[0], "empty");
            let steal = |lease: &mut kinesis_consumer::lease::Lease| {
                lease.owner = Some("b".to_owned());
                lease.counter += 1;
            };
            thief.edit(checkpointer.lease().clone().shard, steal);
            checkpointer.cancellation().cancelled().await;
            Ok(())
        }
    });
    let worker = Worker::over(config("a"), kinesis, table, rejecting);
    worker.run(sleep(Duration::from_secs(8))).await.unwrap();
    let warnings = lines.of("WARN");
    let has = |what: &str| warnings.iter().any(|line| line.contains(what));
    assert!(
        has("record rejected") && has("reason=\"empty\""),
        "{warnings:#?}"
    );
    assert!(has("lease lost"), "{warnings:#?}");
}

/// Whichever is set first, and also where it is what another pace has.
#[test]
fn a_time_that_is_set_wins_over_the_pace() {
    let set = Pace::Balanced.times();
    let set_all = |config: &mut Config| {
        config.failover_time = Some(set.failover_time);
        config.peer_scan_interval = Some(set.peer_scan_interval);
        config.scan_interval = Some(set.scan_interval);
        config.shard_sync_interval = Some(set.shard_sync_interval);
        config.idle_between_reads = Some(set.idle_between_reads);
        config.tip_read_interval = Some(set.tip_read_interval);
        config.checkpoint_interval = Some(set.checkpoint_interval);
    };
    assert_eq!(config("a").times(), set, "the default");
    for pace in Pace::ALL {
        let mut before = config("a");
        set_all(&mut before);
        before.pace = pace;
        let mut after = config("a");
        after.pace = pace;
        assert_eq!(after.times(), pace.times());
        set_all(&mut after);
        assert_eq!((before.times(), after.times()), (set, set));
        assert_eq!(pace.to_string().parse(), Ok(pace));
    }
}

#[test]
fn placements_are_told_by_their_names() {
    assert_eq!(Config::new("s", "a", "w").placement, Placement::Number);
    for placement in Placement::ALL {
        assert_eq!(placement.to_string().parse(), Ok(placement));
    }
    let wrong: Result<Placement, _> = "size".parse();
    assert_eq!(wrong, Err("want number or load".to_owned()));
}

#[test]
fn the_readme_has_the_times_of_each_pace() {
    let text = |time: Duration| match time.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        millis if millis % 60_000 == 0 => format!("{} min", millis / 60_000),
        millis => format!("{} s", millis as f64 / 1000.0),
    };
    let row = |name: &str, of: &dyn Fn(Times) -> String| {
        let cells = Pace::ALL.map(|pace| of(pace.times()));
        let row = format!("{name} | {} |\n", cells.join(" | "));
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&row),
            "the README's table of paces lacks {row}"
        );
    };
    row("died go on after", &|times| text(times.failover_time));
    row("acknowledged, each", &|times| {
        text(times.failover_time.mul_f64(0.35))
    });
    row("`checkpoint_interval`", &|times| {
        text(times.checkpoint_interval)
    });
    row("`peer_scan_interval`", &|times| {
        text(times.peer_scan_interval)
    });
    row("`scan_interval`", &|times| text(times.scan_interval));
    row("`shard_sync_interval`", &|times| {
        text(times.shard_sync_interval)
    });
    row("`tip_read_interval`, `idle_between_reads`", &|times| {
        [times.tip_read_interval, times.idle_between_reads]
            .map(text)
            .join(", ")
    });
}

type Change = fn(&mut Config);

#[rstest]
#[case(|config: &mut Config| config.shutdown_deadline = Duration::MAX, "shutdown_deadline is 18446744073709551615")]
#[case(|config: &mut Config| config.clock_skew = Duration::MAX, "clock_skew is 18446744073709551615")]
#[case(|config: &mut Config| config.failover_time = Some(Duration::MAX), "failover_time is 18446744073709551615")]
#[case(|config: &mut Config| config.failover_time = Some(Duration::from_nanos(1)), "failover_time is 1ns: want 500ms to")]
#[case(|config: &mut Config| config.processor_backoff = Duration::ZERO, "processor_backoff is 0ns: want 1ms to")]
#[case(|config: &mut Config| config.peer_scan_interval = Some(Duration::ZERO), "peer_scan_interval is 0ns: want 1ms to")]
#[case(|config: &mut Config| config.idle_between_reads = Some(Duration::ZERO), "idle_between_reads is 0ns: want 1ms to")]
#[case(|config: &mut Config| config.checkpoint_interval = Some(Duration::MAX), "checkpoint_interval is 18446744073709551615")]
#[case(|config: &mut Config| config.memory_bytes = 0, "memory_bytes is 0: want 1 or more")]
#[case(|config: &mut Config| config.max_leases = 0, "max_leases is 0: want 1 or more")]
#[case(|config: &mut Config| config.parallelism = 0, "parallelism is 0: want 1 or more")]
#[case(|config: &mut Config| config.read_bytes_per_second = 0, "read_bytes_per_second is 0: want 1 or more")]
#[case(|config: &mut Config| config.max_records = 10_001, "max_records is 10001: want 1 to 10000")]
#[case(|config: &mut Config| config.worker_id = String::new(), "worker_id is empty: want a name")]
#[tokio::test]
async fn settings_that_cannot_work_are_refused(#[case] change: Change, #[case] want: &str) {
    let mut config = config("a");
    change(&mut config);
    let idle = each_batch(|_, _| async { Ok(()) });
    let worker = Worker::over(config, MemoryKinesis::new(1), MemoryTable::new(), idle);
    let refused = worker.run(async {}).await.unwrap_err().to_string();
    assert!(refused.starts_with(want), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_closure_gets_each_batch_until_it_takes_it() {
    let (kinesis, table) = (MemoryKinesis::new(2), MemoryTable::new());
    let (shard, _) = kinesis.put("a", "1");
    let (_, last) = kinesis.put("a", "2");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let flaky = each_batch(move |batch, checkpointer| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if call == 0 {
                let first = batch.records[0].position();
                checkpointer.acknowledge_at(&first).await?;
                assert_eq!(checkpointer.acknowledged(), Checkpoint::At(first));
                return Err("not yet".into());
            }
            assert_eq!(batch.records.len(), 1, "the first one is acknowledged");
            Ok(())
        }
    });
    let worker = Worker::over(config("a"), kinesis, table.clone(), flaky);
    worker.run(sleep(Duration::from_secs(10))).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let position = Position {
        sequence_number: last,
        sub_sequence_number: 0,
    };
    assert_eq!(
        table.lease(shard).unwrap().checkpoint,
        Checkpoint::At(position)
    );
}

#[tokio::test(start_paused = true)]
async fn a_reject_is_reported_once_though_its_batch_comes_again() {
    let kinesis = MemoryKinesis::new(1);
    for data in ["bad", "good", "bad"] {
        kinesis.put("a", data);
    }
    let calls = AtomicUsize::new(0);
    let calls = Arc::new(calls);
    let picky = each_batch(move |batch, checkpointer| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            for record in batch.records.iter().filter(|record| record.data == "bad") {
                checkpointer.reject(record, "bad data");
            }
            if call == 0 {
                Err("again".into())
            } else {
                Ok(())
            }
        }
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&told);
    let worker = Worker::over(config("a"), kinesis, MemoryTable::new(), picky)
        .on_event(move |event| events.lock().unwrap().push(event.clone()));
    worker.run(sleep(Duration::from_secs(10))).await.unwrap();
    let told = told.lock().unwrap();
    let rejects = told
        .iter()
        .filter(|event| matches!(event, Event::Rejected { .. }));
    assert_eq!(rejects.count(), 2);
    let processed = told.iter().find_map(|event| match event {
        Event::Processed {
            records, rejected, ..
        } => Some((*records, *rejected)),
        _ => None,
    });
    assert_eq!(processed, Some((3, 2)));
}

#[tokio::test(start_paused = true)]
async fn the_token_is_cancelled_when_the_lease_is_handed_over() {
    let (kinesis, table) = (MemoryKinesis::new(2), MemoryTable::new());
    kinesis.put("a", "");
    kinesis.put("b", "");
    kinesis.put("c", "");
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tokens);
    let keeping = each_batch(move |_, checkpointer: Checkpointer| {
        let lease = checkpointer.lease().clone();
        kept.lock()
            .unwrap()
            .push((lease, checkpointer.cancellation()));
        async { Ok(()) }
    });
    let first = Worker::over(config("a"), kinesis.clone(), table.clone(), keeping);
    let first = tokio::spawn(first.run(sleep(Duration::from_secs(120))));
    sleep(Duration::from_secs(30)).await;
    assert!(
        tokens
            .lock()
            .unwrap()
            .iter()
            .all(|(_, token)| !token.is_cancelled())
    );
    let idle = each_batch(|_, _| async { Ok(()) });
    let second = Worker::over(config("b"), kinesis, table.clone(), idle);
    let second = tokio::spawn(second.run(sleep(Duration::from_secs(60))));
    sleep(Duration::from_secs(30)).await;
    for (lease, token) in tokens.lock().unwrap().iter() {
        let owner = table.lease(lease.shard.clone()).unwrap().owner;
        assert_eq!(
            token.is_cancelled(),
            owner.as_deref() == Some("b"),
            "{lease}"
        );
    }
    assert!(
        tokens
            .lock()
            .unwrap()
            .iter()
            .any(|(_, token)| token.is_cancelled())
    );
    second.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
}
