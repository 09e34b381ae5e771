//! Processors while there is nothing to process, and those that say that they are unusable.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kinesis_consumer::{
    Batch, Checkpointer, LeaseKey, ProcessorError, RecordProcessor, Unusable, Worker,
    test_util::{MemoryKinesis, MemoryTable},
};
use tokio::time::sleep;

use super::world::config;

type Told = Arc<Mutex<Vec<String>>>;

/// Keeps what it gets, acknowledges it when idle for a minute; the first one breaks before.
struct Keeping {
    number: usize,
    told: Told,
}

impl Keeping {
    fn tell(&self, what: &str) {
        let line = format!("{} {what}", self.number);
        self.told.lock().unwrap().push(line);
    }
}

impl RecordProcessor for Keeping {
    async fn process_records(
        &mut self,
        batch: &Batch,
        _: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for record in &batch.records {
            self.tell(&String::from_utf8_lossy(&record.data));
        }
        Ok(())
    }

    async fn idle(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.tell("idle");
        if self.number == 1 {
            sleep(Duration::from_secs(30)).await;
            return Err(Unusable("broken".into()).into());
        }
        sleep(Duration::from_secs(60)).await;
        self.tell("flushes");
        Ok(checkpointer.checkpoint().await?)
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_processor_flushes_by_time_and_an_unusable_one_is_made_anew() {
    let kinesis = MemoryKinesis::new(1);
    kinesis.put("k", "a");
    let table = MemoryTable::new();
    let (told, made) = (Told::default(), Arc::new(AtomicUsize::new(0)));
    let to = Arc::clone(&told);
    let factory = move |_: LeaseKey| Keeping {
        number: made.fetch_add(1, Ordering::Relaxed) + 1,
        told: Arc::clone(&to),
    };
    let worker = Worker::over(config("a"), kinesis.clone(), table.clone(), factory);
    let done = async {
        sleep(Duration::from_secs(50)).await;
        // The second one's first idle time is cut short.
        kinesis.put("k", "b");
        sleep(Duration::from_secs(100)).await;
    };
    let (shutdown, ended) = tokio::sync::oneshot::channel::<()>();
    let run = worker.run(async {
        let _ = ended.await;
    });
    let drive = async {
        done.await;
        let _ = shutdown.send(());
    };
    let (result, ()) = tokio::join!(run, drive);
    result.unwrap();
    let told: Vec<_> = told.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "1 idle",
            "1 a",
            "1 idle",
            "2 idle",
            "2 a",
            "2 idle",
            "2 b",
            "2 idle",
            "2 flushes"
        ]
    );
    let (_, last) = kinesis.put("k", "c");
    let stored = &table.leases()[0].checkpoint;
    assert!(stored.to_string() < last.to_string());
    assert!(stored.sub_sequence_number() == 0 && stored.as_str().starts_with(char::is_numeric));
}
