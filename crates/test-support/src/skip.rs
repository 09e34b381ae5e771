//! What a machine lacks. A skipped test says so, and `.ci/run` tolerates no skip of what it
//! installs.

use std::{env, io::Write as _};

/// Says on the terminal why a test is skipped, also where the harness keeps the output of tests
/// that pass. `by_ci`: `.ci/run` installs what is missing, so with `CI=true` the test fails.
///
/// # Panics
/// `by_ci`, and `CI` is `true`.
pub fn skip(test: &str, why: &str, by_ci: bool) {
    let line = format!("SKIPPED {test}: {why}");
    assert!(
        !(by_ci && env::var("CI").is_ok_and(|ci| ci == "true")),
        "{line}; .ci/run installs this, so it must not be skipped there"
    );
    // Not `eprintln!`, which the harness captures.
    let _ = writeln!(std::io::stderr(), "{line}");
}
