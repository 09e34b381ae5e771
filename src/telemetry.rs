//! Logs, to standard error: text for people, JSON for collectors.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

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

    #[test]
    fn nonsense_says_what_is_wanted() {
        assert!(
            filter("a=b=c")
                .unwrap_err()
                .starts_with("want error, warn, info")
        );
    }
}
