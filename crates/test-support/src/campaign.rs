//! A campaign: faults by operation and moment against real processes, a few at a time, within
//! bounded time, with a transcript at the end.
//!
//! `CAMPAIGN=all` runs the whole matrix, with `SEEDS` seeds; otherwise a sample is run.
//! `CELL=GetRecords/cut/running/7` runs one cell again.

use std::{
    env, fmt,
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::AssertUnwindSafe,
    time::Duration,
};

use embedded_kinesis::Fault;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

/// What goes wrong with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The connection is cut before the call arrives.
    Cut,
    /// The call is done; the connection is cut before the answer.
    LostAnswer,
    /// The connection is cut in the answer.
    HalfAnswer,
    /// The answer is late by 2 s.
    Late,
    /// The answer comes at 2,000 bytes a second.
    SlowLine,
    /// AWS throttles, with the code that it has for the operation.
    Throttled,
    /// A 500 in AWS's form.
    Internal,
    /// A 503 without a body, as a load balancer has it.
    Unavailable,
    /// A 200 with a body that is no JSON.
    Garbage,
    /// A 200 with nothing to say, as a proxy's page may have it: nothing was done.
    Empty,
    /// The identity may not do that.
    Denied,
    /// The answer's `Date` is an hour behind.
    WrongDate,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Cut,
        Self::LostAnswer,
        Self::HalfAnswer,
        Self::Late,
        Self::SlowLine,
        Self::Throttled,
        Self::Internal,
        Self::Unavailable,
        Self::Garbage,
        Self::Empty,
        Self::Denied,
        Self::WrongDate,
    ];

    /// As the proxy does it to this operation.
    pub fn fault(self, operation: &str) -> Fault {
        match self {
            Self::Cut => Fault::Reset,
            Self::LostAnswer => Fault::LoseAnswer,
            Self::HalfAnswer => Fault::HalfBody,
            Self::Late => Fault::Delay(Duration::from_secs(2)),
            Self::SlowLine => Fault::Slow(2_000),
            Self::Throttled => Fault::throttling_of(operation),
            Self::Internal => Fault::internal_error(),
            Self::Unavailable => Fault::Status(503),
            Self::Garbage => Fault::Garbage,
            Self::Empty => Fault::EmptyJson,
            Self::Denied => Fault::access_denied(),
            Self::WrongDate => Fault::WrongDate(-3_600),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::LostAnswer => "lost answer",
            Self::HalfAnswer => "half answer",
            Self::Late => "late",
            Self::SlowLine => "slow line",
            Self::Throttled => "throttled",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Garbage => "garbage",
            Self::Empty => "empty",
            Self::Denied => "denied",
            Self::WrongDate => "wrong date",
        }
    }
}

/// When the trouble begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before the process starts.
    Start,
    /// While records come.
    Running,
    /// With a reshard.
    Reshard,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Start, Self::Running, Self::Reshard];

    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Running => "running",
            Self::Reshard => "reshard",
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// AWS's name of the operation.
    pub operation: &'static str,
    /// What happens to its calls.
    pub trouble: Trouble,
    /// When it begins.
    pub moment: Moment,
    /// Of whatever is random in the run.
    pub seed: u64,
}

impl Cell {
    /// For what is random in the run: another number for each cell.
    pub fn random_seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.to_string().hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trouble, moment) = (self.trouble.name(), self.moment.name());
        write!(f, "{}/{trouble}/{moment}/{}", self.operation, self.seed)
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Calls that met the fault. 0: the cell shows nothing, and the transcript says so.
    pub met: u64,
    /// Anything worth a look, such as restarts; it stands in the transcript.
    pub note: String,
}

/// A campaign's name and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// As the transcript has it.
    pub name: &'static str,
    /// Operations of the matrix, each with the moments in which it is called.
    pub operations: &'static [(&'static str, &'static [Moment])],
    /// So many runs at a time.
    pub at_once: usize,
    /// A run that takes longer has failed.
    pub limit: Duration,
}

impl Campaign {
    /// The cells to run, as the environment has it: one, all, or the sample.
    pub fn cells(&self) -> Vec<Cell> {
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let seeds = number("SEEDS").unwrap_or(1);
        let all = self.matrix(seeds);
        if let Ok(wanted) = env::var("CELL") {
            let seed = wanted.rsplit('/').next().and_then(|seed| seed.parse().ok());
            let all = self.matrix(seed.unwrap_or(0) + 1);
            let one: Vec<_> = all
                .into_iter()
                .filter(|it| it.to_string() == wanted)
                .collect();
            assert!(!one.is_empty(), "no cell {wanted}");
            one
        } else if env::var("CAMPAIGN").is_ok_and(|which| which == "all") {
            all
        } else {
            self.sample()
        }
    }

    fn matrix(&self, seeds: u64) -> Vec<Cell> {
        let mut cells = Vec::new();
        for seed in 0..seeds {
            for (operation, moments) in self.operations {
                for trouble in Trouble::ALL {
                    cells.extend(moments.iter().map(|moment| Cell {
                        operation,
                        trouble,
                        moment: *moment,
                        seed,
                    }));
                }
            }
        }
        cells
    }

    /// Each trouble and each operation once at least, in moments that change.
    fn sample(&self) -> Vec<Cell> {
        let runs = Trouble::ALL.len().max(self.operations.len());
        let picked = (0..runs).map(|n| {
            let (operation, moments) = self.operations[n % self.operations.len()];
            Cell {
                operation,
                trouble: Trouble::ALL[n % Trouble::ALL.len()],
                moment: moments[(n + 1) % moments.len()],
                seed: 0,
            }
        });
        picked.collect()
    }

    /// Runs the cells. A panic, an error or too long a run of one does not end the others.
    #[allow(
        clippy::future_not_send,
        reason = "a test awaits it where it stands; scenarios need not be Send"
    )]
    pub async fn run<F>(&self, cells: Vec<Cell>, scenario: impl Fn(Cell) -> F) -> Transcript
    where
        F: Future<Output = Result<Outcome, String>>,
    {
        let begin = Instant::now();
        let runs = cells.into_iter().map(|cell| {
            let (scenario, limit) = (&scenario, self.limit);
            async move {
                let begin = Instant::now();
                let run = AssertUnwindSafe(scenario(cell)).catch_unwind();
                let result = match timeout(limit, run).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(panic)) => Err(said(&*panic)),
                    Err(_) => Err(format!("not over after {limit:?}")),
                };
                Row {
                    cell,
                    took: begin.elapsed(),
                    result,
                }
            }
        });
        let mut rows: Vec<_> = stream::iter(runs)
            .buffer_unordered(self.at_once)
            .collect()
            .await;
        rows.sort_by_key(|row| row.cell);
        Transcript {
            name: self.name,
            took: begin.elapsed(),
            rows,
        }
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}

#[derive(Clone, Debug)]
struct Row {
    cell: Cell,
    took: Duration,
    result: Result<Outcome, String>,
}

/// What all runs came to. As text it is Markdown.
#[derive(Clone, Debug)]
pub struct Transcript {
    name: &'static str,
    took: Duration,
    rows: Vec<Row>,
}

impl Transcript {
    /// Prints the transcript.
    ///
    /// # Panics
    /// A run failed, or no run met its fault.
    pub fn judge(&self) {
        let failed = self.count(|row| row.result.is_err());
        let met = self.count(|row| row.result.as_ref().is_ok_and(|outcome| outcome.met > 0));
        #[expect(
            clippy::print_stdout,
            reason = "the transcript is what a campaign is run for"
        )]
        {
            println!("{self}");
        }
        assert!(
            failed == 0,
            "{failed} of {} runs failed:\n{self}",
            self.rows.len()
        );
        assert!(met > 0, "no run met its fault");
    }

    fn count(&self, is: impl Fn(&Row) -> bool) -> usize {
        self.rows.iter().filter(|row| is(row)).count()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.count(|row| row.result.is_err());
        let not_met = self.count(|row| row.result.as_ref().is_ok_and(|outcome| outcome.met == 0));
        let mut text = format!(
            "## {}\n\n{} runs in {:.0} s: {} passed, {failed} failed; {not_met} of those that passed did not meet their fault\n\n",
            self.name,
            self.rows.len(),
            self.took.as_secs_f64(),
            self.rows.len() - failed,
        );
        text += "| operation | fault | moment | seed | met | seconds | outcome |\n";
        text += "|---|---|---|---|---|---|---|\n";
        for Row { cell, took, result } in &self.rows {
            let (met, outcome) = match result {
                Ok(Outcome { met: 0, note }) => ("0".to_owned(), format!("not met. {note}")),
                Ok(Outcome { met, note }) => (met.to_string(), format!("passed. {note}")),
                Err(why) => {
                    let first = why.lines().next().unwrap_or_default();
                    (
                        String::new(),
                        format!("**failed**: {first}; `CELL='{cell}'`"),
                    )
                }
            };
            writeln!(
                text,
                "| {} | {} | {} | {} | {met} | {:.1} | {} |",
                cell.operation,
                cell.trouble.name(),
                cell.moment.name(),
                cell.seed,
                took.as_secs_f64(),
                outcome.trim().replace('|', "\\|"),
            )?;
        }
        // In full, below the table, where one failed.
        for Row { cell, result, .. } in &self.rows {
            if let Err(why) = result {
                write!(text, "\n### {cell}\n\n```\n{why}\n```\n")?;
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CAMPAIGN: Campaign = Campaign {
        name: "a campaign",
        operations: &[("Get", &Moment::ALL), ("Put", &[Moment::Start])],
        at_once: 2,
        limit: Duration::from_secs(5),
    };

    #[test]
    fn the_sample_has_every_trouble_operation_and_moment() {
        let cells = CAMPAIGN.sample();
        assert_eq!(cells.len(), 12);
        let operations: BTreeSet<_> = cells.iter().map(|cell| cell.operation).collect();
        let moments: BTreeSet<_> = cells.iter().map(|cell| cell.moment).collect();
        assert_eq!((operations.len(), moments.len()), (2, 3));
        assert_eq!(CAMPAIGN.matrix(2).len(), 2 * 12 * (3 + 1));
        assert!(cells.iter().all(|cell| CAMPAIGN.matrix(1).contains(cell)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_in_any_way_is_told_and_the_others_run() {
        let cells = CAMPAIGN.matrix(1);
        let transcript = CAMPAIGN.run(cells, async |cell: Cell| match cell.trouble {
            Trouble::Cut => panic!("broken"),
            Trouble::Late => std::future::pending().await,
            Trouble::Denied => Err("not | equal\nat all".to_owned()),
            Trouble::Garbage => Ok(Outcome::default()),
            _ => Ok(Outcome {
                met: 3,
                note: "fine".to_owned(),
            }),
        });
        let text = transcript.await.to_string();
        for wanted in [
            "48 runs in",
            "36 passed, 12 failed; 4 of those",
            "| Get | cut | start | 0 |  | 0.0 | **failed**: broken; `CELL='Get/cut/start/0'` |",
            "**failed**: not over after 5s",
            "**failed**: not \\| equal; ",
            "not | equal\nat all",
            "| Put | garbage | start | 0 | 0 | 0.0 | not met. |",
            "| Get | cut | reshard | 0 |",
            "| 3 | 0.0 | passed. fine |",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }
}
