//! What the values of settings may be.

use kinesis_consumer::InitialPosition;
use tracing_subscriber::EnvFilter;

pub(super) fn log_level(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "want error, warn, info, debug, trace, or module=level, with commas between them: {error}"
        )),
    }
}

pub(super) fn initial_position(text: &str) -> Result<InitialPosition, String> {
    match text {
        "TRIM_HORIZON" => Ok(InitialPosition::TrimHorizon),
        "LATEST" => Ok(InitialPosition::Latest),
        time => time.parse().map(InitialPosition::AtTimestamp).map_err(|_| {
            "want TRIM_HORIZON, LATEST or a time such as 2026-11-23T12:00:00Z".to_owned()
        }),
    }
}
