//! Durations as people write them: `15s`, `1m30s`, `500ms`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

use crate::names;

/// Reads a duration of `MIN` to `MAX` milliseconds.
pub(super) fn within<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (min, max) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
    let wanted = || {
        format!(
            "want a duration from {} to {}, such as 15s or 1m30s, not {text:?}",
            written(min),
            written(max)
        )
    };
    names::duration(&text)
        .filter(|duration| (min..=max).contains(duration))
        .ok_or_else(|| D::Error::custom(wanted()))
}

pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*duration))
}

fn written(duration: Duration) -> String {
    names::duration_text(duration).replace(' ', "")
}
