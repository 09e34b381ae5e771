//! `check`: what KEDA would be told about a ScaledObject, before it is applied. Asks AWS as the
//! scaler would, with the identity at hand. No watcher starts, and nothing is recorded.

mod ask;
mod manifest;
mod print;
mod report;

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail};

use self::report::Report;
use crate::config::Config;

/// Say what KEDA would be told of a ScaledObject, before it is applied. Exit code 0: an answer for
/// each of its triggers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "AWS is asked with the credentials at hand (the standard chain): to try the scaler's own, run it in the scaler's pod."
)]
pub(crate) struct Check {
    /// A manifest (YAML, documents of other kinds are passed over); - is standard input.
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with = "set",
        required_unless_present = "set"
    )]
    file: Option<PathBuf>,

    /// A key of the trigger's metadata, in place of a manifest. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// The namespace that the policy is judged for [default: the manifest's, else default].
    #[arg(long)]
    namespace: Option<String>,

    /// The scaler's configuration file: its policy, region and timeouts are in force.
    #[arg(long, env = "SCALER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// How the report is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For tools.
    Json,
}

impl Check {
    pub(crate) fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// Prints the report.
    ///
    /// # Errors
    /// The manifest cannot be read, or KEDA would get an error for one of its triggers.
    pub(crate) async fn run(self, config: Config) -> anyhow::Result<()> {
        let written = match &self.file {
            Some(path) => {
                let read = if path.as_os_str() == "-" {
                    io::read_to_string(io::stdin())
                } else {
                    fs::read_to_string(path)
                };
                let text = read.with_context(|| format!("cannot read {}", path.display()))?;
                manifest::parse_manifest(&text).with_context(|| path.display().to_string())?
            }
            None => manifest::parse_pairs(&self.set)?,
        };
        let mut report = Report::default();
        for mut trigger in written {
            if let Some(namespace) = &self.namespace {
                trigger.namespace.clone_from(namespace);
            }
            report.triggers.push(ask::ask(trigger, &config).await);
        }
        let text = match self.output {
            Output::Text => print::text(&report),
            Output::Json => serde_json::to_string_pretty(&report)? + "\n",
        };
        io::stdout()
            .write_all(text.as_bytes())
            .context("cannot print the report")?;
        let failed = report.triggers.iter().filter(|it| it.failed()).count();
        if failed > 0 {
            bail!(
                "KEDA would get an error for {failed} of {} triggers",
                report.triggers.len()
            );
        }
        Ok(())
    }
}
