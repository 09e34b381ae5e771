//! By what the workers of an application deal its leases.

use std::{fmt, str::FromStr};

/// By what the workers of an application deal leases. While a KCL 3 leader assigns them, neither
/// counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Placement {
    /// All hold as many.
    #[default]
    Number,
    /// All are as busy: a lease weighs what it takes of its holder's time, which stands in it.
    /// While one that deals by number holds a lease, as KCL 2.x's do, all deal so.
    Load,
}

impl Placement {
    /// All that there are.
    pub const ALL: [Self; 2] = [Self::Number, Self::Load];

    fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Load => "load",
        }
    }

    pub(crate) fn is_by_load(self) -> bool {
        match self {
            Self::Number => false,
            Self::Load => true,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|it| it.name() == text);
        named.ok_or_else(|| "want number or load".to_owned())
    }
}
