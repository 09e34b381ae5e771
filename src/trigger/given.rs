//! How a trigger's metadata give a key: plain, or as `…FromEnv`, where KEDA has put the variable's
//! value in place of its name; and keys that are nearly ours.

use std::collections::HashMap;

use super::KEYS;

/// What KEDA resolves the name of a variable under.
pub(crate) const FROM_ENV: &str = "FromEnv";

/// More misspelt keys than this are not named.
const MOST_MISSPELT: usize = 10;

/// The metadata of one trigger: values are trimmed, and an empty one counts as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a>(pub(super) &'a HashMap<String, String>);

/// A key that is not read, though one of ours is nearly written so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Misspelt {
    /// As it is written. Never its value: it may be a secret.
    pub(crate) written: String,
    /// The key of ours without `FromEnv`.
    pub(crate) key: &'static str,
    /// As it would be read.
    pub(crate) right: String,
}

impl<'a> Given<'a> {
    pub(super) fn plain(self, key: &str) -> Option<&'a str> {
        let value = self.0.get(key)?.trim();
        (!value.is_empty()).then_some(value)
    }

    pub(super) fn of_variable(self, key: &str) -> Option<&'a str> {
        self.plain(&format!("{key}{FROM_ENV}"))
    }

    /// The value of a key, however it is given.
    pub(super) fn value(self, key: &str) -> Option<&'a str> {
        self.plain(key).or_else(|| self.of_variable(key))
    }
}

/// The keys that are nearly ours, in order.
pub(crate) fn misspelt<'a>(written: impl IntoIterator<Item = &'a String>) -> Vec<Misspelt> {
    let mut misspelt: Vec<_> = written
        .into_iter()
        .filter_map(|written| {
            let (key, right) = nearest(written, KEYS.iter().map(|key| key.name))?;
            (*written != right).then(|| Misspelt {
                written: written.clone(),
                key,
                right,
            })
        })
        .collect();
    misspelt.sort_by(|one, other| one.written.cmp(&other.written));
    misspelt.truncate(MOST_MISSPELT);
    misspelt
}

/// The one of `keys` that was meant, and how it is written right, `FromEnv` included. `None`:
/// nothing like them.
pub(crate) fn nearest(
    written: &str,
    keys: impl IntoIterator<Item = &'static str>,
) -> Option<(&'static str, String)> {
    // No key is longer; distances of long texts take long.
    const LONGEST: usize = 48;
    if written.len() > LONGEST {
        return None;
    }
    let folded = fold(written);
    let from_env = fold(FROM_ENV);
    let (folded, suffix) = match folded.strip_suffix(&from_env) {
        Some(plain) => (plain, FROM_ENV),
        None => (folded.as_str(), ""),
    };
    let distance = |key: &&'static str| strsim::osa_distance(folded, &fold(key));
    let key = keys.into_iter().min_by_key(distance)?;
    // Short words are near to words that mean something else.
    let most = if key.len() < 9 { 1 } else { 2 };
    (distance(&key) <= most).then(|| (key, format!("{key}{suffix}")))
}

/// Case and separators do not count: `STREAM_NAME` is `streamName`.
fn fold(key: &str) -> String {
    let letters = key.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let meant = |written: &str| {
            let nearest = nearest(written, KEYS.iter().map(|key| key.name));
            nearest.map(|(_, right)| right)
        };
        for (written, right) in [
            ("streamname", "streamName"),
            ("STREAM_NAME", "streamName"),
            ("steamName", "streamName"),
            ("streamNameFromENV", "streamNameFromEnv"),
            ("streamnamefromenv", "streamNameFromEnv"),
            ("shardsCount", "shardCount"),
            ("aws-region", "awsRegion"),
            ("scaleon", "scaleOn"),
            ("activationShardsCount", "activationShardCount"),
            ("lagTreshold", "lagThreshold"),
        ] {
            assert_eq!(meant(written).as_deref(), Some(right), "{written}");
        }
        for other in ["topic", "scalerAddress", "passwordFromEnv", "", "é", "type"] {
            assert_eq!(meant(other), None, "{other}");
        }
        for key in KEYS {
            assert_eq!(meant(key.name).as_deref(), Some(key.name));
        }
    }
}
