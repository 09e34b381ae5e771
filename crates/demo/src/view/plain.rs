//! One line for each thing that happens: `00:07  keda    told 2 shards, …`.

use std::io::{self, Write};

use crate::{
    state::{Board, Line, Source},
    times::{Times, clock},
};

/// What is shortened, before anything happens.
pub fn introduce(out: &mut impl Write, times: &Times) -> io::Result<()> {
    writeln!(
        out,
        "KEDA scales Kinesis consumers, on this machine. Times are shortened:"
    )?;
    for (what, here, really) in times.notes() {
        writeln!(out, "  {what:<34} {here:<12} (on a cluster: {really})")?;
    }
    out.flush()
}

/// Writes lines as they come, until the story has ended.
pub async fn run(board: Board, mut out: impl Write) -> io::Result<()> {
    let mut written = 0;
    loop {
        let (lines, ended) = board
            .until(|state| {
                (state.lines.len() > written || state.ended)
                    .then(|| (state.lines[written..].to_vec(), state.ended))
            })
            .await;
        written += lines.len();
        for line in &lines {
            write_line(&mut out, line)?;
        }
        out.flush()?;
        if ended {
            return Ok(());
        }
    }
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    // A step stands out from what follows of it.
    if line.source == Source::Story && line.text.contains(" → ") {
        writeln!(out)?;
    }
    writeln!(
        out,
        "{}  {:<7} {}",
        clock(line.at),
        line.source.name(),
        line.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_in_order_and_the_end_ends_it() {
        let board = Board::new();
        board.say(Source::Story, "1/7 deploy one pod → 1 pod");
        board.say(Source::Pod, "consumer-bcdfg starts");
        board.update(|state| state.ended = true);
        let mut out = Vec::new();
        run(board, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "\n00:00  story   1/7 deploy one pod → 1 pod\n00:00  pod     consumer-bcdfg starts\n"
        );
    }
}
