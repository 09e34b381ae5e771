//! `/explain` only reads.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::{
    config::AwsConfig,
    decision::record::Recorder,
    error::SourceError,
    source::{
        fetch::{ApplicationFetch, Fetch, FetchRequest, Fetchers, StreamFetch},
        snapshot::{
            ApplicationSnapshot,
            examples::{caught_up, lag_trigger, source},
        },
    },
    trigger::{ApplicationSource, LeaseTable, StreamSource, tenant::Tenant},
    watch::Pace,
};

/// An application that is caught up.
#[derive(Debug)]
struct CaughtUp;

impl Fetchers for CaughtUp {
    fn stream(&self, source: &StreamSource, _: &Tenant) -> StreamFetch {
        panic!("nobody asks for {source:?}")
    }

    fn application(&self, _: &ApplicationSource) -> ApplicationFetch {
        Box::new(Self)
    }
}

#[async_trait]
impl Fetch for CaughtUp {
    type Snapshot = Arc<ApplicationSnapshot>;

    async fn fetch(&mut self, _: FetchRequest) -> Result<Self::Snapshot, SourceError> {
        Ok(Arc::new(caught_up(2, &[])))
    }
}

/// What was recorded until now. The recorder writes one line after the other, so the `marks`-th
/// line of another table is waited for.
fn recorded(recorder: &Recorder, directory: &Path, marks: usize) -> Vec<String> {
    let table = LeaseTable {
        name: "mark".to_owned(),
        ..source().table
    };
    let settings = right_sizing::Settings::new(1, 1);
    recorder.record(&source().stream, &table, settings, &Default::default());
    loop {
        let files = fs::read_dir(directory).unwrap();
        let (mark, others): (Vec<_>, Vec<_>) = files
            .map(|file| file.unwrap().path())
            .partition(|path| path.to_str().unwrap().contains(".mark."));
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
        if mark.iter().any(|path| read(path).lines().count() == marks) {
            return others.iter().map(read).collect();
        }
        std::thread::yield_now();
    }
}

#[tokio::test(start_paused = true)]
async fn explaining_and_asking_again_change_nothing() {
    let directory = TempDir::new().unwrap();
    let recorder = Arc::new(Recorder::new(directory.path().to_owned()).unwrap());
    let pace = Pace::from(&AwsConfig::default());
    let watchers = Watchers::new(pace, CaughtUp, Some(Arc::clone(&recorder)));
    let journal = Journal::new(50_000);
    let asker = Asker {
        namespace: "shop".to_owned(),
        name: "billing".to_owned(),
    };
    let trigger = lag_trigger(30);
    let ask = async || {
        let answer = watchers.answer("shop", &trigger).await;
        journal.note(&"shop".into(), "billing", &trigger, &answer);
    };
    // What the watcher remembers, what it recorded, and what the journal has.
    let state = |marks| {
        let known = watchers.known(&source()).unwrap();
        let memories: Vec<_> = known.decisions().settings().copied().collect();
        let answers: Vec<_> = journal
            .entries_of(&asker)
            .iter()
            .map(|it| it.answers.len())
            .collect();
        (
            memories,
            recorded(&recorder, directory.path(), marks),
            answers,
        )
    };
    ask().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = state(1);
    assert_eq!(
        (before.0.len(), before.1.len(), before.2.as_slice()),
        (1, 1, &[1][..])
    );

    for _ in 0..3 {
        assert_eq!(index(&journal, None).scaled_objects.len(), 1);
        assert!(object(&journal, &watchers, &asker).is_some());
        ask().await;
    }
    // A trigger that the watcher was not asked with: as after an hour, or a restart.
    let unknown = Trigger {
        shard_count: 2,
        ..trigger.clone()
    };
    let not_yet = Err(Error::NotYet("not yet".to_owned()));
    journal.note(&"shop".into(), "billing", &unknown, &not_yet);
    let explained = object(&journal, &watchers, &asker).unwrap();
    assert_eq!(explained.triggers.len(), 2);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let after = state(2);
    assert_eq!((after.0, after.1), (before.0, before.1));
    assert_eq!(after.2, [1, 1]);
}
