//! A recorded hour, decided again. The format is JSON lines, one refresh a line, oldest first:
//! `{"settings": {…}, "observation": {…}}`, as [`Recorded`] serialises. Blank lines are skipped.

use std::{fmt, io, io::BufRead};

use serde::{Deserialize, Serialize};

use crate::{Decision, Observation, Settings, State};

/// One line of a recording.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recorded {
    /// The settings that it was decided with.
    pub settings: Settings,
    /// What was observed.
    pub observation: Observation,
}

/// Why a recording cannot be read on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file could not be read.
    Read(io::Error),
    /// A line, counted from 1, is not a [`Recorded`].
    Line(usize, serde_json::Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read the recording: {error}"),
            Self::Line(number, error) => write!(
                f,
                "line {number} of the recording is not {{\"settings\": …, \"observation\": …}}: {error}"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// The decisions of a recording, one per line, with the state carried from line to line as in the
/// scaler. Starts as after a restart.
///
/// # Errors
/// An item is an error when a line could not be read or is no [`Recorded`]; the lines after it are
/// decided as if it were not there.
pub fn replay(lines: impl BufRead) -> impl Iterator<Item = Result<Decision, ReplayError>> {
    let mut state = State::default();
    lines
        .lines()
        .enumerate()
        .filter(|(_, line)| line.as_ref().map_or(true, |line| !line.trim().is_empty()))
        .map(move |(index, line)| {
            let line = line.map_err(ReplayError::Read)?;
            let recorded: Recorded =
                serde_json::from_str(&line).map_err(|error| ReplayError::Line(index + 1, error))?;
            Ok(state.decide(&recorded.observation, &recorded.settings))
        })
}
