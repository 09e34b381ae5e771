//! The scaler's benchmarks.
//!
//! `cargo bench --bench scaler`: many ScaledObjects. With `-- application`: one application on a
//! large stream; `-- applications`: many of them; `-- streams`: thousands of streams. `SCALER_BIN`
//! names another binary to measure.

#![expect(clippy::print_stdout, reason = "a report for people")]
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

mod application;
mod applications;
mod objects;
mod process;
mod streams;

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    match std::env::args().skip(1).find(|it| !it.starts_with("--")) {
        None => objects::run().await,
        Some(name) if name == "application" => application::run().await,
        Some(name) if name == "applications" => applications::run().await,
        Some(name) if name == "streams" => streams::run().await,
        Some(other) => {
            panic!("no benchmark {other}: want application, applications, streams, or nothing")
        }
    }
}

fn binary() -> String {
    let binary = std::env::var("SCALER_BIN");
    binary.unwrap_or_else(|_| env!("CARGO_BIN_EXE_keda-kinesis-scaler").to_owned())
}
