//! `replay`: what was recorded with `serve --record`, decided again.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::PathBuf,
};

use anyhow::Context as _;
use jiff::Timestamp;
use right_sizing::{Decision, replay};

/// Decide a recording again, as after a restart of the scaler.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// A file of `serve --record DIR`: JSON lines, `{"settings": …, "observation": …}`, oldest
    /// first.
    file: PathBuf,

    /// How decisions are printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How decisions are printed.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    /// A line for each refresh: time, replicas, oldest record, why.
    #[default]
    Text,
    /// A JSON line for each refresh, with all that was decided.
    Json,
}

impl Replay {
    /// Prints the decisions.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is no recorded refresh.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let file = File::open(&self.file)
            .with_context(|| format!("cannot open {}", self.file.display()))?;
        let mut out = io::stdout().lock();
        for decision in replay(BufReader::new(file)) {
            let decision = decision.with_context(|| self.file.display().to_string())?;
            let printed = match self.output {
                Output::Text => print(&mut out, &decision),
                Output::Json => serde_json::to_writer(&mut out, &decision)
                    .map_err(io::Error::from)
                    .and_then(|()| out.write_all(b"\n")),
            };
            match printed {
                // The reader of the pipe has ended, as `head` does.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                printed => printed?,
            }
        }
        Ok(())
    }
}

fn print(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    let Decision {
        at_ms,
        replicas,
        running,
        active,
        reason,
        notes,
        shards,
        ..
    } = decision;
    let at = i64::try_from(*at_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX);
    let oldest = shards.iter().filter_map(|shard| shard.age_ms).max();
    let oldest = oldest.map_or_else(|| "-".to_owned(), |ms| format!("{} s", ms / 1000));
    let idle = if *active { "" } else { " (idle)" };
    writeln!(
        out,
        "{at:.0} {running} → {replicas} replicas{idle}, oldest {oldest}: {reason}"
    )?;
    for note in notes {
        writeln!(out, "    {note}")?;
    }
    Ok(())
}
