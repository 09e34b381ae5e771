//! The table of answers, as `docs/answers.md` has it.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use tonic::Status;

use super::{
    faults::faults,
    mode::{Mode, Truth},
};
use crate::support::honest::aws_code;
use keda_kinesis_scaler::error::code_name;

const BEGIN: &str = "<!-- answers:begin -->\n";
const END: &str = "<!-- answers:end -->";

/// What KEDA is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Told {
    /// What is so, from what AWS answers.
    Answered,
    /// The last good answer.
    StandsIn,
    /// What is so: the operation is not called.
    NotAsked,
    /// A gRPC code and AWS's.
    Error(String, String),
    /// UNAVAILABLE, and why there is no answer yet.
    AskAgain,
}

/// What was asked for: operation, fault, mode.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    operation: String,
    fault: String,
    mode: String,
}

/// What is told from cold, while the last good answer may stand in, and after.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) cold: Told,
    pub(super) warm: Told,
    pub(super) late: Told,
}

pub(super) type Rows = BTreeMap<Key, Row>;

impl Key {
    pub(super) fn new(operation: &str, fault: &str, mode: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            fault: fault.to_owned(),
            mode: mode.to_owned(),
        }
    }
}

impl Told {
    /// Is it what is so?
    pub(super) fn is_right(&self) -> bool {
        matches!(self, Self::Answered | Self::StandsIn | Self::NotAsked)
    }

    pub(super) fn of_error(status: &Status) -> Result<Self, String> {
        Ok(match aws_code(status)? {
            Some(code) => Self::Error(code_name(status.code()).to_owned(), code),
            None => Self::AskAgain,
        })
    }

    fn parse(cell: &str) -> Self {
        match cell {
            "answered" => Self::Answered,
            "the last good answer" => Self::StandsIn,
            "not asked" => Self::NotAsked,
            "UNAVAILABLE, ask again" => Self::AskAgain,
            _ => {
                let (grpc, aws) = cell.split_once(' ').unwrap_or((cell, ""));
                Self::Error(grpc.to_owned(), aws.to_owned())
            }
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::StandsIn => f.write_str("the last good answer"),
            Self::NotAsked => f.write_str("not asked"),
            Self::Error(grpc, aws) => write!(f, "{grpc} {aws}"),
            Self::AskAgain => f.write_str("UNAVAILABLE, ask again"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cold, warm, late } = self;
        write!(f, "{cold} | {warm} | {late}")
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/answers.md")
}

/// The table in force.
pub(super) fn read() -> Rows {
    let text = fs::read_to_string(path()).unwrap();
    let table = text.split_once(BEGIN).unwrap().1.split_once(END).unwrap().0;
    let mut rows = Rows::new();
    let (mut operation, lines) = (String::new(), table.lines());
    for line in lines {
        if let Some(heading) = line.strip_prefix("### ") {
            heading.clone_into(&mut operation);
        }
        let line = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        let Some([fault, modes, cold, warm, late]) =
            line.and_then(|line| <[&str; 5]>::try_from(line.split(" | ").collect::<Vec<_>>()).ok())
        else {
            continue;
        };
        if fault == "fault" {
            continue;
        }
        for mode in modes.split("; ") {
            let row = Row {
                cold: Told::parse(cold),
                warm: Told::parse(warm),
                late: Told::parse(late),
            };
            rows.insert(Key::new(&operation, fault, mode), row);
        }
    }
    rows
}

/// Is the table what these rows come to?
pub(super) fn is_as_written(rows: &Rows) -> bool {
    fs::read_to_string(path()).unwrap() == page(rows)
}

/// Writes the table.
pub(super) fn write(rows: &Rows) {
    fs::write(path(), page(rows)).unwrap();
}

/// The page with these rows.
fn page(rows: &Rows) -> String {
    let mut table = String::from("| source | what is right: replicas | active |\n|---|---|---|\n");
    for mode in Mode::ALL {
        let Truth { value, active } = mode.truth();
        let active = if active { "yes" } else { "no" };
        table += &format!("| {} | {value} | {active} |\n", mode.name());
    }
    let mut operations = Vec::new();
    for operation in Mode::ALL.iter().flat_map(|mode| mode.operations()) {
        if !operations.contains(operation) {
            operations.push(*operation);
        }
    }
    for operation in operations {
        table += &format!("\n### {operation}\n\n");
        table += "| fault | source | first question | within `maxStale` | after it |\n";
        table += "|---|---|---|---|---|\n";
        for fault in faults(operation) {
            // Sources with the same answers share a line.
            let mut lines: Vec<(Row, Vec<&str>)> = Vec::new();
            for mode in Mode::ALL {
                let Some(row) = rows.get(&Key::new(operation, fault.name, mode.name())) else {
                    continue;
                };
                match lines.iter_mut().find(|(its, _)| its == row) {
                    Some((_, modes)) => modes.push(mode.name()),
                    None => lines.push((row.clone(), vec![mode.name()])),
                }
            }
            for (row, modes) in lines {
                table += &format!("| {} | {} | {row} |\n", fault.name, modes.join("; "));
            }
        }
    }
    let text = fs::read_to_string(path()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let after = rest.split_once(END).unwrap().1;
    format!("{before}{BEGIN}\n{table}\n{END}{after}")
}
