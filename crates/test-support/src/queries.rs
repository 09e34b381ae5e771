//! Metrics that dashboards and rules name, and those of a scrape.

use std::collections::BTreeSet;

/// Every word of the text that starts with `prefix`.
pub fn named<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// The names of a scrape's samples.
pub fn exported(scrape: &str) -> BTreeSet<&str> {
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect()
}
