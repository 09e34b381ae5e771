//! Logs, to standard error: text for people, JSON for collectors.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    io::{self, IsTerminal as _},
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Changes what is logged.
pub struct Filter(Box<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl Filter {
    /// Says whether it is in force.
    pub fn set(&self, filter: EnvFilter) -> bool {
        (self.0)(filter)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// Between two times that a line is written which strangers cause.
const SELDOM: Duration = Duration::from_secs(60);

/// The most that have a line of their own.
const MOST_LINES: usize = 100;

/// The same line of several, of each by itself, and of so many at the most in a minute.
#[derive(Debug)]
pub struct SeldomBy<K>(Mutex<HashMap<K, (Instant, u64)>>);

impl<K: Eq + Hash> SeldomBy<K> {
    /// As [`Seldom::now`], of this one.
    pub fn now(&self, key: K) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((written, left_out)) = lines.get_mut(&key) {
            if written.elapsed() < SELDOM {
                *left_out += 1;
                return None;
            }
            *written = now;
            return Some(mem::take(left_out));
        }
        if lines.len() >= MOST_LINES {
            lines.retain(|_, (written, _)| written.elapsed() < SELDOM);
        }
        let has_room = lines.len() < MOST_LINES;
        has_room.then(|| lines.insert(key, (now, 0)));
        has_room.then_some(0)
    }
}

impl<K> Default for SeldomBy<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A line that strangers cause is written once a minute, and says how often it was left out.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// How often the line was left out since it was last written; `None`: it is left out now.
    pub fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (written, left_out) = &mut *state;
        if written.is_some_and(|written| written.elapsed() < SELDOM) {
            *left_out += 1;
            return None;
        }
        *written = Some(Instant::now());
        Some(mem::take(left_out))
    }
}

/// Starts logging. Once per process: a second call fails.
///
/// # Errors
/// Something else has started logging already.
pub fn init(format: LogFormat, filter: EnvFilter) -> anyhow::Result<Filter> {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error, which panics where that is gone.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let (started, filter) = match format {
        LogFormat::Text => {
            let logs = logs.with_ansi(io::stderr().is_terminal());
            let logs = logs.with_filter_reloading();
            let handle = logs.reload_handle();
            let filter = Filter(Box::new(move |filter| handle.reload(filter).is_ok()));
            (logs.try_init(), filter)
        }
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).with_filter_reloading();
            let handle = logs.reload_handle();
            let filter = Filter(Box::new(move |filter| handle.reload(filter).is_ok()));
            (logs.try_init(), filter)
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(filter)
}

/// Reads a level, which is ours alone (libraries warn only, and `aws_config` not of a refused role,
/// which we tell once and it at each refresh), or directives such as `info,h2=debug`.
///
/// # Errors
/// The text is neither; the error says what is wanted.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    let text = if text.trim().is_empty() {
        "info"
    } else {
        text.trim()
    };
    let directives = match text.parse::<Level>() {
        Ok(level) => format!("warn,aws_config=error,keda_kinesis_scaler={level}"),
        Err(_) => text.to_owned(),
    };
    EnvFilter::builder().parse(directives).map_err(|error| {
        format!(
            "want error, warn, info, debug or trace, or directives such as info,h2=debug: {error}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("info", "keda_kinesis_scaler=info,aws_config=error,warn")]
    #[case(" DEBUG ", "keda_kinesis_scaler=debug,aws_config=error,warn")]
    #[case("info,h2=debug", "h2=debug,info")]
    #[case("off", "off")]
    #[case("", "keda_kinesis_scaler=info,aws_config=error,warn")]
    fn levels_are_ours_and_directives_are_whole(#[case] text: &str, #[case] wanted: &str) {
        assert_eq!(filter(text).unwrap().to_string(), wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_written_once_a_minute_with_how_often_it_was_not() {
        let line = Seldom::default();
        let mut written = Vec::new();
        for _ in 0..121 {
            written.extend(line.now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(written, [0, 59, 59]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_each_a_line_is_written_once_a_minute_and_of_many_only_some() {
        let lines = SeldomBy::default();
        for second in 0..61 {
            let written = (lines.now("one"), lines.now("other"));
            let wanted = match second {
                0 => (Some(0), Some(0)),
                60 => (Some(59), Some(59)),
                _ => (None, None),
            };
            assert_eq!(written, wanted);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let names: Vec<_> = (0..5_000).map(|number| number.to_string()).collect();
        let written = names.iter().filter(|name| lines.now(name).is_some());
        assert_eq!(written.count(), MOST_LINES - 2);
    }

    #[test]
    fn nonsense_says_what_is_wanted() {
        assert!(
            filter("a=b=c")
                .unwrap_err()
                .starts_with("want error, warn, info")
        );
    }
}
