//! The same script of calls against this crate and npm's `kinesis-local`, answers compared.
//!
//! Where the two differ, [`known::KNOWN`] says who is right by AWS's documents, and why; any other
//! difference fails. Without Node or npm, or where the package cannot be had, the test prints so
//! and passes.

mod known;
mod other;
mod script;
mod words;

use std::fmt::Write as _;

use embedded_kinesis::{Config, EmbeddedKinesis};

use test_support::skip::skip;

use known::KNOWN;
use script::{Answers, script};

#[tokio::test]
async fn both_say_the_same() {
    let started = match other::install().await {
        Ok(package) => other::start(&package).await,
        Err(why) => Err(why),
    };
    let (_child, endpoint) = match started {
        Ok(started) => started,
        Err(why) => return skip("second_opinion", &why, false),
    };
    let ours = EmbeddedKinesis::start(Config::default()).await.unwrap();
    let (ours, theirs) = (script(&ours.endpoint()).await, script(&endpoint).await);
    let steps = |answers: &Answers| answers.iter().map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(steps(&ours), steps(&theirs));
    let mut unexpected = String::new();
    let mut met = Vec::new();
    for ((step, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let known = KNOWN.iter().find(|it| it.step == *step);
        match known {
            Some(known) if (known.ours, known.theirs) == (ours, theirs) => {
                println!("{step}: {}", known.verdict);
                met.push(known.step);
            }
            _ if ours == theirs => {}
            _ => writeln!(unexpected, "{step}\n  ours:   {ours}\n  theirs: {theirs}").unwrap(),
        }
    }
    assert!(unexpected.is_empty(), "they differ:\n{unexpected}");
    let listed: Vec<&str> = KNOWN.iter().map(|it| it.step).collect();
    assert_eq!(
        met, listed,
        "every known difference is met, in the order of the script"
    );
}
