//! How ids and numbers read in a sentence.

/// `shardId-000000000003` is "shard 3"; any other id is itself.
pub(crate) fn shard(id: &str) -> String {
    match id
        .strip_prefix("shardId-")
        .map(|n| n.trim_start_matches('0'))
    {
        Some("") => "shard 0".into(),
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => format!("shard {number}"),
        _ => format!("shard {id}"),
    }
}

/// Whole seconds, "41 s"; minutes from two on, "12 min".
pub(crate) fn time(ms: u64) -> String {
    if ms < 120_000 {
        format!("{} s", (ms + 500) / 1000)
    } else {
        format!("{} min", (ms + 30_000) / 60_000)
    }
}

/// "1 pod", "4 pods".
pub(crate) fn count(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Thousandths as "0.6".
pub(crate) fn decimal(milli: u64) -> String {
    format!("{:.1}", milli as f64 / 1000.0)
}
