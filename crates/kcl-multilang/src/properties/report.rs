//! What became of each key, for people.

use std::fmt;

/// What became of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The key, as the file has it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What becomes of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is done, as this says.
    Done(String),
    /// It is done, but not quite as the Java daemon does it.
    Noted(String),
    /// It has no effect here, and why.
    Ignored(String),
    /// Nobody knows it: and which key may be meant.
    Unknown(Option<String>),
    /// The daemon does not start with it: what to do instead.
    Refused(String),
}

/// What became of all keys, in the order in which they were looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Key by key.
    pub entries: Vec<Entry>,
    /// Keys that have to be there and are not: each with what it is.
    pub missing: Vec<(&'static str, &'static str)>,
}

impl Report {
    /// Can the daemon start so?
    pub fn is_fit(&self) -> bool {
        let refused = |entry: &Entry| matches!(entry.verdict, Verdict::Refused(_));
        self.missing.is_empty() && !self.entries.iter().any(refused)
    }

    /// What keeps the daemon from starting, a line each.
    pub fn errors(&self) -> Vec<String> {
        let missing = self.missing.iter();
        let missing = missing.map(|(key, what)| format!("{key} is missing: want {what}"));
        let refused = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.verdict {
                Verdict::Refused(instead) => {
                    Some(format!("{} {:?}: {instead}", entry.key, entry.value))
                }
                _ => None,
            });
        missing.chain(refused).collect()
    }

    /// What a user should know although the daemon starts, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |entry: &Entry| {
            let Entry {
                key,
                value,
                verdict,
            } = entry;
            match verdict {
                Verdict::Noted(text) => Some(format!("{key} {value:?}: {text}")),
                Verdict::Unknown(_) => Some(format!("{key}: {verdict}")),
                _ => None,
            }
        };
        self.entries.iter().filter_map(warning).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(text) | Self::Noted(text) => f.write_str(text),
            Self::Ignored(why) => write!(f, "ignored: {why}"),
            Self::Unknown(None) => f.write_str("unknown, and ignored"),
            Self::Unknown(Some(nearest)) => write!(f, "unknown, and ignored: is {nearest} meant?"),
            Self::Refused(instead) => write!(f, "refused: {instead}"),
        }
    }
}

/// What `kcl-multilang check` prints.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry {
            key,
            value,
            verdict,
        } in &self.entries
        {
            let mark = match verdict {
                Verdict::Done(_) => ' ',
                Verdict::Noted(_) => '~',
                Verdict::Ignored(_) => '-',
                Verdict::Unknown(_) => '?',
                Verdict::Refused(_) => '!',
            };
            writeln!(f, "{mark} {key} = {value}\n    {verdict}")?;
        }
        for (key, what) in &self.missing {
            writeln!(f, "! {key} is missing: want {what}")?;
        }
        Ok(())
    }
}
