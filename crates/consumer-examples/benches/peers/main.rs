//! This library beside its peers (Java KCL, kcl-rs), each as a real process, on the same embedded
//! Kinesis and DynamoDB, in one run.
//!
//! ```sh
//! cargo bench -p consumer-examples --bench peers                       # ours alone
//! cargo bench -p consumer-examples --bench peers -- ours kcl3 kcl-rs   # beside peers
//! ```
//!
//! What may stand behind `--`, also for one scenario alone:
//! ```text
//! ours kcl2 kcl3 kcl-rs ours-unpaced bare            all candidates that poll
//! --only drain ours-unpaced bare
//! --only mixed ours                                  sharing an application with KCL 2.7.2
//! --only drain ours-fanout kcl3-fanout bare-fanout
//! --only latency ours ours-fanout kcl3 kcl3-fanout
//! --only many-shards ours
//! --only drain-64 ours kcl2 kcl3                     64 shards
//! --only drain-10kb ours kcl2 kcl3                   with READ_LIMITS=1
//! --only backlog ours kcl2 kcl3                      with READ_LIMITS=1
//! --only calls ours kcl2 kcl3                        1, 4, 16 workers
//! --only led ours                                    led by KCL 3.5.1
//! ```
//!
//! What a peer needs (Maven and a JDK; Python's `kcl-rs`) and how it is started is in
//! `candidate.rs`. A candidate whose needs are not met is skipped with the reason. Figures depend
//! on the machine: read the ratios.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod candidate;
mod mixed;
mod scenario;
mod services;
mod sizes;

use anyhow::Result;
use candidate::Candidate;
use services::Services;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if arguments
        .first()
        .is_some_and(|argument| argument == services::SUBCOMMAND)
    {
        return services::serve().await;
    }
    let only = match arguments.iter().position(|argument| argument == "--only") {
        Some(at) if at + 1 < arguments.len() => {
            arguments.remove(at);
            Some(arguments.remove(at))
        }
        _ => None,
    };
    if arguments.is_empty() {
        arguments.push("ours".to_owned());
    }
    let services = Services::start().await?;
    let mut rows = Vec::new();
    for name in &arguments {
        match Candidate::prepare(name) {
            Ok(candidate) => {
                for (what, figure) in
                    scenario::run_all(&services, &candidate, only.as_deref()).await?
                {
                    println!("{name:<14} {what:<44} {figure}");
                    rows.push((name.clone(), what, figure));
                }
            }
            Err(reason) => println!("{name:<14} skipped: {reason:#}"),
        }
    }
    print_table(&arguments, &rows);
    Ok(())
}

/// One column per candidate, one row per figure.
fn print_table(names: &[String], rows: &[(String, String, String)]) {
    let mut figures: Vec<&String> = Vec::new();
    for (_, what, _) in rows {
        if !figures.contains(&what) {
            figures.push(what);
        }
    }
    print!("\n| |");
    for name in names {
        print!(" {name} |");
    }
    println!("\n|---|{}", "---|".repeat(names.len()));
    for what in figures {
        print!("| {what} |");
        for name in names {
            let figure = rows.iter().find(|(of, row, _)| of == name && row == what);
            print!(" {} |", figure.map_or("–", |(_, _, figure)| figure));
        }
        println!();
    }
}
