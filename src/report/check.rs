//! `check`: what KEDA would be told about a ScaledObject, before it is applied. Asks AWS as the
//! scaler would, with the identity at hand. No watcher starts, and nothing is recorded.

mod ask;
mod documents;
mod environment;
mod interval;
mod manifest;
mod print;
mod report;
mod scaling;
mod text;

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;

use self::{
    documents::Files,
    manifest::parse_pair,
    report::{Report, Told},
};
use crate::{config::Config, trigger::Trigger};

/// KEDA would get an error.
const AN_ERROR: u8 = 1;

/// Something could not be read or judged.
const UNJUDGED: u8 = 2;

/// Say what KEDA would be told of a ScaledObject, before it is applied.
///
/// Exit code 0: an answer for each of its triggers; 1: an error for one of them; 2: something could
/// not be read or judged.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "AWS is asked with the credentials at hand (the standard chain): to try the scaler's own, run it in the scaler's pod."
)]
pub(crate) struct Check {
    /// A file of manifests or lists of them (YAML or JSON), or a directory of such files; - is
    /// standard input. Objects of other kinds are passed over.
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with = "set",
        required_unless_present = "set"
    )]
    file: Option<PathBuf>,

    /// A key of the trigger's metadata, in place of a manifest. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,

    /// An environment variable of the scaled container, for keys that end in FromEnv. May be
    /// repeated. Others are taken from the object that is scaled, where the file holds it.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    env: Vec<(String, String)>,

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
    /// The configuration file that was named.
    pub(crate) fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// Prints the report, and what is wrong on standard error. `config` reads the configuration.
    pub(crate) async fn run(
        self,
        config: impl Future<Output = anyhow::Result<Config>> + Send,
    ) -> ExitCode {
        let (complaints, code) = match self.judge(config).await {
            Ok(report) => (report.complaints(), report.exit_code()),
            Err(error) => (vec![format!("{error:#}")], UNJUDGED),
        };
        for complaint in complaints {
            let _ = writeln!(io::stderr(), "error: {complaint}");
        }
        ExitCode::from(code)
    }

    async fn judge(
        self,
        config: impl Future<Output = anyhow::Result<Config>> + Send,
    ) -> anyhow::Result<Report> {
        let config = config.await?;
        let variables = self.env.iter().cloned().collect();
        let (written, unread) = match &self.file {
            Some(path) => {
                let mut files = Files::read(path)?;
                let written = manifest::of_files(&mut files, &variables);
                (written, files.unread)
            }
            None => (vec![manifest::of_pairs(&self.set, &variables)], Vec::new()),
        };
        let mut report = Report {
            triggers: Vec::new(),
            unread,
        };
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
        Ok(report)
    }
}

/// What `check --file` says of a file without asking AWS, in lines, to be fuzzed.
pub fn read_manifests(bytes: &[u8]) -> Vec<String> {
    let mut files = Files::default();
    files.add("file", bytes);
    let variables = HashMap::new();
    let written = manifest::of_files(&mut files, &variables).into_iter();
    let said = written.flat_map(|trigger| {
        let parsed = Trigger::parse(&trigger.metadata, None).err();
        let ignored = trigger.ignored.into_iter().map(|(_, why)| why);
        let lines = ignored.chain(trigger.refused).chain(trigger.unknown);
        lines
            .chain(parsed.map(|error| error.to_string()))
            .collect::<Vec<_>>()
    });
    let unread = files.unread.into_iter().map(|unread| unread.wrong);
    said.chain(unread).collect()
}

impl Report {
    fn count(&self, is: impl Fn(&Told) -> bool) -> usize {
        self.triggers.iter().filter(|it| is(&it.told)).count()
    }

    /// What could not be judged weighs more than an error: the report is not whole.
    fn exit_code(&self) -> u8 {
        match () {
            () if self.triggers.is_empty()
                || !self.unread.is_empty()
                || self.count(Told::is_unknown) > 0 =>
            {
                UNJUDGED
            }
            () if self.count(Told::is_error) > 0 => AN_ERROR,
            () => 0,
        }
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let all = self.triggers.len();
        if all == 0 {
            complaints.push(
                "no ScaledObject with a trigger for this scaler: want type external or external-push with \
                 scalerAddress and streamName or streamArn, or aws-kinesis-stream"
                    .to_owned(),
            );
        }
        match self.count(Told::is_error) {
            0 => {}
            failed => complaints.push(format!(
                "KEDA would get an error for {failed} of {all} triggers"
            )),
        }
        match self.count(Told::is_unknown) {
            0 => {}
            unknown => complaints.push(format!("{unknown} of {all} triggers cannot be judged")),
        }
        match self.unread.len() {
            0 => {}
            unread => complaints.push(format!("{unread} documents or objects cannot be read")),
        }
        complaints
    }
}

#[cfg(test)]
mod tests;
