//! Numbers and positions as people read them: on pages and in printed reports.

/// An age or a duration in ms: `0 s`, `0.4 s`, `41 s`, `12 min`, `3.5 h`, `2.0 d`.
pub(super) fn time(ms: u64) -> String {
    let seconds = ms as f64 / 1_000.0;
    match ms {
        0 => "0 s".to_owned(),
        1..10_000 => format!("{seconds:.1} s"),
        10_000..120_000 => format!("{seconds:.0} s"),
        120_000..7_200_000 => format!("{:.0} min", seconds / 60.0),
        7_200_000..172_800_000 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// A checkpoint cut to its first and last digits: a sequence number has 56, few of which differ.
pub(super) fn shortened(checkpoint: &str) -> String {
    let digits = checkpoint.len() > 24 && checkpoint.is_ascii();
    match digits {
        true => format!(
            "{}…{}",
            &checkpoint[..4],
            &checkpoint[checkpoint.len() - 12..]
        ),
        false => checkpoint.to_owned(),
    }
}
