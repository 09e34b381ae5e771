//! Question and answer: one at a time, with checkpoints between them.

use std::time::Duration;

use kinesis_consumer::{
    Batch, Checkpoint, CheckpointError, Checkpointer, Position, SequenceNumber, TableError,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tracing::{debug, info, warn};

use super::process::{Child, ChildError};
use crate::wire::{
    answers::{Answer, Asked},
    messages::{self, Action, Records},
};

/// What a child is asked.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// The shard is its from now on; this is where it stands.
    Initialize(&'a Checkpoint),
    /// Records.
    Records(&'a Batch),
    /// What has nothing to say beyond its name.
    Plain(Action),
}

/// What a child got of its shard, which a checkpoint without a number covers.
#[derive(Debug)]
pub(super) enum Sent {
    /// No record.
    Nothing,
    /// Records up to this one.
    UpTo(Position),
    /// All records, and that there are no more.
    Everything,
}

/// Who answers the child's checkpoints meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Desk<'a> {
    /// Nobody: nothing can be checkpointed in this state.
    Closed,
    /// Nobody: the lease is gone.
    LeaseLost,
    /// The lease.
    Open(&'a Checkpointer),
}

impl Request<'_> {
    fn action(self) -> Action {
        match self {
            Self::Initialize(_) => Action::Initialize,
            Self::Records(_) => Action::ProcessRecords,
            Self::Plain(action) => action,
        }
    }
}

impl Child {
    /// Asks, and answers checkpoints until it is done. What it was asked before and did not answer
    /// yet comes first.
    ///
    /// Dropped between, the next call goes on where this one was; only a message that is half
    /// written cannot be ended.
    ///
    /// # Errors
    /// The child is of no use any more.
    pub async fn ask(&mut self, request: Request<'_>, desk: Desk<'_>) -> Result<(), ChildError> {
        if self.torn {
            return Err(ChildError::Torn);
        }
        self.answered(desk).await?;
        self.unasked(request.action(), desk).await?;
        self.awaiting = Some(request.action());
        match request {
            Request::Initialize(checkpoint) => {
                let line = messages::initialize(&self.shard, checkpoint);
                self.write(&line).await?;
            }
            Request::Records(batch) => {
                let (mut records, mut piece) = (Records::new(batch), Vec::new());
                self.torn = true;
                while records.next_into(&mut piece) {
                    self.write(&piece).await?;
                    self.torn = true;
                }
                self.torn = false;
                if let Some(last) = batch.records.last() {
                    self.sent = Sent::UpTo(last.position());
                }
            }
            Request::Plain(action) => {
                self.write(&action.line()).await?;
                if action == Action::ShardEnded {
                    self.sent = Sent::Everything;
                }
            }
        }
        self.answered(desk).await
    }

    /// Waits for the answer to what was asked last, if it is not there yet.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn answered(&mut self, desk: Desk<'_>) -> Result<(), ChildError> {
        while let Some(action) = self.awaiting {
            if self.torn {
                return Err(ChildError::Torn);
            }
            match self.next(action).await? {
                Answer::Status { response_for } if response_for == action.name() => {
                    self.awaiting = None;
                    self.told(action);
                }
                Answer::Status { response_for } => return Err(out_of_step(response_for, action)),
                Answer::Checkpoint(asked) => self.checkpoint(&asked, desk).await?,
                Answer::TooOld(why) => return Err(ChildError::TooOld(why.to_owned())),
            }
        }
        Ok(())
    }

    /// What it said since the last answer: checkpoints are answered late, as some clients ask for
    /// them when they are done; an answer to nothing would be taken for the next one's.
    async fn unasked(&mut self, next: Action, desk: Desk<'_>) -> Result<(), ChildError> {
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Status { response_for } => return Err(out_of_step(response_for, next)),
                Answer::Checkpoint(asked) => self.checkpoint(&asked, desk).await?,
                Answer::TooOld(why) => return Err(ChildError::TooOld(why.to_owned())),
            }
        }
        Ok(())
    }

    /// Tools wait for such lines in the Java daemon's log.
    fn told(&self, action: Action) {
        let (shard, name) = (&self.shard, action.name());
        let text = format!(
            "Received response {{\"action\":\"status\",\"responseFor\":\"{name}\"}} from subprocess while waiting for \
             {name} while processing shard {shard}"
        );
        match action {
            Action::ProcessRecords => debug!(shard, "{text}"),
            _ => info!(shard, "{text}"),
        }
    }

    async fn next(&mut self, action: Action) -> Result<Answer, ChildError> {
        let patience = self.timeout;
        let silent = async {
            match patience {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
            patience.unwrap_or_default()
        };
        tokio::select! {
            biased;
            answer = self.answers.recv() => match answer {
                Some(answer) => Ok(answer),
                None => Err(self.death().await),
            },
            _ = self.process.wait() => {
                // Its last words may still be in the pipe.
                match timeout(Duration::from_millis(500), self.answers.recv()).await {
                    Ok(Some(answer)) => Ok(answer),
                    _ => Err(self.death().await),
                }
            }
            () = self.stderr.refuses(action) => Err(ChildError::unknown_to_it(action)),
            time = silent => Err(ChildError::Silent(time, action.name())),
        }
    }

    async fn checkpoint(&mut self, asked: &Asked, desk: Desk<'_>) -> Result<(), ChildError> {
        let error = desk.answer(&self.shard, asked, &self.sent).await;
        let number = asked.sequence_number.as_deref();
        let line = messages::checkpointed(number, &asked.sub_sequence_number, error);
        self.write(&line).await
    }

    /// Writes a piece. While it is not all written, the child's message is torn.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ChildError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(ChildError::Torn);
        };
        self.torn = true;
        let patience = self.timeout.unwrap_or(Duration::MAX);
        let written = tokio::select! {
            biased;
            written = timeout(patience, stdin.write_all(bytes)) => written,
            _ = self.process.wait() => return Err(self.death().await),
        };
        match written {
            Ok(Ok(())) => self.torn = false,
            Ok(Err(_)) => return Err(self.death().await),
            Err(_) => {
                let asked = self.awaiting.map_or("nothing", Action::name);
                return Err(ChildError::Silent(patience, asked));
            }
        }
        Ok(())
    }
}

fn out_of_step(got: String, want: Action) -> ChildError {
    ChildError::OutOfStep {
        got,
        want: want.name(),
    }
}

impl Desk<'_> {
    /// The name of the error, as clients switch on it.
    async fn answer(self, shard: &str, asked: &Asked, sent: &Sent) -> Option<&'static str> {
        let checkpointer = match self {
            Self::Closed => return Some("InvalidStateException"),
            Self::LeaseLost => return Some("ShutdownException"),
            Self::Open(checkpointer) => checkpointer,
        };
        let Some(number) = &asked.sequence_number else {
            // What the child was not sent yet it does not mean.
            let result = match sent {
                Sent::Nothing => Ok(()),
                Sent::UpTo(position) => checkpointer.checkpoint_at(position).await,
                Sent::Everything => checkpointer.checkpoint().await,
            };
            return name(shard, result);
        };
        match (number.parse::<SequenceNumber>(), asked.sub_sequence()) {
            (Ok(sequence_number), Some(sub_sequence_number)) => {
                let position = Position {
                    sequence_number,
                    sub_sequence_number,
                };
                name(shard, checkpointer.checkpoint_at(&position).await)
            }
            _ => {
                let sub = &asked.sub_sequence_number;
                warn!(shard, number, %sub, "checkpoint refused: want decimal digits");
                Some("IllegalArgumentException")
            }
        }
    }
}

fn name(shard: &str, result: Result<(), CheckpointError>) -> Option<&'static str> {
    let error = result.err()?;
    warn!(shard, %error, "checkpoint refused");
    Some(match &error {
        CheckpointError::LeaseLost => "ShutdownException",
        CheckpointError::OutOfRange { .. } => "IllegalArgumentException",
        CheckpointError::Table(TableError::Throttled(_)) => "ThrottlingException",
        CheckpointError::Table(TableError::Permanent(error))
            if error.code() == Some("ResourceNotFoundException") =>
        {
            "InvalidStateException"
        }
        _ => "KinesisClientLibDependencyException",
    })
}
