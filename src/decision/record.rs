//! Writes what decisions are made from, for `keda-kinesis-scaler replay`. A file for each
//! application and settings, a line for each refresh; never a record's data, which the scaler does
//! not keep.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use anyhow::Context as _;
use right_sizing::{Observation, Recorded, Settings};
use tracing::warn;

use crate::trigger::{LeaseTable, StreamSource};

/// Lines that wait for the disk. When it cannot keep up, further lines are dropped: decisions do
/// not wait.
const WAITING: usize = 256;

/// Where refreshes are recorded.
#[derive(Debug)]
pub struct Recorder {
    lines: SyncSender<Line>,
}

struct Line {
    file: String,
    text: Vec<u8>,
}

impl Recorder {
    /// Records into `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn new(directory: PathBuf) -> anyhow::Result<Self> {
        let cannot = || format!("cannot record into {}", directory.display());
        fs::create_dir_all(&directory).with_context(cannot)?;
        let (lines, received) = sync_channel(WAITING);
        // Writing files blocks; tokio would use a thread for it, too.
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write(&directory, &received))?;
        Ok(Self { lines })
    }

    /// One refresh, as it is decided with these settings.
    pub(crate) fn record(
        &self,
        source: &StreamSource,
        table: &LeaseTable,
        settings: Settings,
        observation: &Observation,
    ) {
        let recorded = Recorded {
            settings,
            observation: observation.clone(),
        };
        let Ok(mut text) = serde_json::to_vec(&recorded) else {
            return;
        };
        text.push(b'\n');
        let file = format!(
            "{}.{}.{}.{}ms.{}.jsonl",
            source.region,
            source.stream.name(),
            table.label(source).replace([':', '/'], "-"),
            settings.lag_threshold_ms,
            settings.shard_count
        );
        if self.lines.try_send(Line { file, text }).is_err() {
            warn!("a refresh is not recorded: the disk does not keep up");
        }
    }
}

/// Until the last sender is gone.
fn write(directory: &Path, lines: &Receiver<Line>) {
    let mut files: HashMap<String, BufWriter<File>> = HashMap::new();
    while let Ok(Line { file, text }) = lines.recv() {
        let path = directory.join(&file);
        let written = open(&mut files, file, &path).and_then(|file| {
            file.write_all(&text)?;
            file.flush()
        });
        if let Err(error) = written {
            warn!(file = %path.display(), %error, "a refresh is not recorded");
        }
    }
}

fn open<'a>(
    files: &'a mut HashMap<String, BufWriter<File>>,
    name: String,
    path: &Path,
) -> std::io::Result<&'a mut BufWriter<File>> {
    if !files.contains_key(&name) {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        files.insert(name.clone(), BufWriter::new(file));
    }
    Ok(files.get_mut(&name).expect("it was inserted"))
}
