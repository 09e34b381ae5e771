//! How many connections a worker may have, as the settings of programs say it.

use super::config::Config;

impl Config {
    /// Reads a `max_connections` of a program's settings: a flag or a variable.
    ///
    /// # Errors
    /// It is no number, or less than [`LEAST_CONNECTIONS`](Self::LEAST_CONNECTIONS): says what
    /// would be right.
    pub fn parse_max_connections(text: &str) -> Result<usize, String> {
        let least = Self::LEAST_CONNECTIONS;
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or_else(|| format!("want a whole number of {least} or more, such as 64"))
    }
}
