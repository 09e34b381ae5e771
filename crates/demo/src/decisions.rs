//! What the scaler decides, and why: it logs each decision that changes something, and this reads
//! along.

use serde_json::Value;

use crate::{
    autoscaler::pods,
    process::Output,
    state::{Board, Source, Wish},
};

/// Reads for as long as the scaler lives: cancel it by dropping.
pub async fn run(board: Board, mut output: Output) {
    while let Ok(Some(line)) = output.next_line().await {
        let Some(wish) = parse(&line) else { continue };
        let Wish {
            replicas,
            active,
            reason,
        } = &wish;
        let active = if *active { "active" } else { "not active" };
        let wished = pods(*replicas);
        board.say(Source::Scaler, format!("{wished}, {active}: {reason}"));
        board.update(|state| state.wish = Some(wish));
    }
}

fn parse(line: &str) -> Option<Wish> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some(Wish {
        replicas: line["replicas"].as_u64()?.try_into().ok()?,
        active: line["active"].as_bool()?,
        reason: line["message"].as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_read_and_anything_else_is_not() {
        let line = r#"{"level":"INFO","message":"late: shard 3","replicas":3,"active":true,"running":1,"target":"x"}"#;
        let wish = Wish {
            replicas: 3,
            active: true,
            reason: "late: shard 3".into(),
        };
        assert_eq!(parse(line), Some(wish));
        assert_eq!(parse(r#"{"message":"serving"}"#), None);
        assert_eq!(parse("127.0.0.1:1 127.0.0.1:2"), None);
    }
}
