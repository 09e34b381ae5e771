//! The command line. The hidden subcommands are how the demo starts itself as the scaler and as
//! consumer pods.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

/// KEDA scales Kinesis consumers, start to end, on this machine: Kinesis and DynamoDB are embedded,
/// the scaler and the consumers are real processes. At the end every user that was sent is in the
/// table.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo", args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,

    /// Which story
    #[arg(long, default_value = "shards")]
    pub scene: Scene,

    /// How fast the story is told: slow, normal, fast, or a factor such as 1.5. About 2 minutes, 1
    /// minute, half a minute
    #[arg(long, value_name = "PACE", default_value = "normal", value_parser = Pace::parse)]
    pub pace: Pace,

    /// Plain lines instead of the live view; also when the output is no terminal
    #[arg(long)]
    pub plain: bool,

    /// Leave everything up at the end, and print commands to try
    #[arg(long)]
    pub keep: bool,

    /// Where the picture and the logs go [default: demo/ in cargo's target directory, else in the
    /// system's temporary one]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Which story is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Scene {
    /// A pod for each shard: the stream is resharded 2 → 3 → 2, and a pod is killed
    Shards,
    /// As many pods as keep records young: a burst wakes them from zero, one step makes them
    /// enough, and they go when all is read
    Lag,
}

/// What the demo starts itself as.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Part {
    /// The scaler.
    #[command(hide = true)]
    Scaler,
    /// A consumer pod.
    #[command(hide = true)]
    Consumer,
}

/// How fast the story is told: 1 is normal, more is faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace(f64);

impl Pace {
    /// `slow`, `normal`, `fast`, or a factor between 0.2 and 3.
    pub fn parse(text: &str) -> Result<Self, String> {
        let factor = match text {
            "slow" => 0.5,
            "normal" => 1.0,
            "fast" => 2.5,
            factor => factor.parse().ok().filter(|factor| (0.2..=3.0).contains(factor)).ok_or_else(|| {
                format!("{factor:?}: want slow, normal, fast, or a factor from 0.2 (slow) to 3 (fast)")
            })?,
        };
        Ok(Self(factor))
    }

    /// A time of the story at this pace.
    pub fn of(self, normal: Duration) -> Duration {
        normal.div_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn paces() {
        let second = Duration::from_secs(1);
        for (text, millis) in [
            ("slow", 2000),
            ("normal", 1000),
            ("fast", 400),
            ("0.5", 2000),
            ("2", 500),
        ] {
            assert_eq!(
                Pace::parse(text).unwrap().of(second).as_millis(),
                millis,
                "{text}"
            );
        }
        for text in ["", "quick", "0", "-1", "0.1", "4", "NaN", "inf"] {
            assert!(Pace::parse(text).is_err(), "{text}");
        }
    }
}
