//! The shards of several streams: one that cannot be listed for a while takes no answer away from
//! the others.

use std::{collections::BTreeMap, time::Duration};

use kinesis_consumer::{lease::StreamIdentifier, shards::Shard};
use tokio::time::Instant;
use tracing::warn;

use crate::error::{SourceError, SourceErrorKind};

/// So many failures without one answer are of all streams.
const OF_ALL: usize = 8;

/// The last good list of each stream, by `account:name:epoch`.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<String, List>);

#[derive(Debug)]
struct List {
    at: Instant,
    shards: Vec<Shard>,
    /// Did a later look bring none?
    is_kept: bool,
}

/// One look at all streams.
#[derive(Debug, Default)]
pub(super) struct Look {
    shards: Vec<Shard>,
    listed: usize,
    gone: Vec<(StreamIdentifier, Box<SourceError>)>,
    failed: Vec<SourceError>,
}

impl Lists {
    /// Forgets the streams that are not among these.
    pub(super) fn follow<'a>(&mut self, streams: impl Iterator<Item = &'a StreamIdentifier>) {
        let mut before = std::mem::take(&mut self.0);
        let kept = streams.filter_map(|id| before.remove_entry(&id.to_string()));
        self.0 = kept.collect();
    }

    /// Is the list of this stream one of an earlier look?
    pub(super) fn is_kept(&self, stream: &str) -> bool {
        self.0.get(stream).is_some_and(|list| list.is_kept)
    }

    /// Takes in what AWS answered about one stream. `keep`: for so long its last good list stands
    /// in.
    ///
    /// # Errors
    /// Where the look cannot be whole any more.
    pub(super) fn take(
        &mut self,
        id: StreamIdentifier,
        answer: Result<Vec<Shard>, Box<SourceError>>,
        keep: Duration,
        look: &mut Look,
    ) -> Result<(), Box<SourceError>> {
        let stream = id.to_string();
        match answer {
            Ok(shards) => {
                look.listed += 1;
                look.shards.extend_from_slice(&shards);
                let list = List {
                    at: Instant::now(),
                    shards,
                    is_kept: false,
                };
                self.0.insert(stream, list);
            }
            Err(error) if is_gone(&error) => {
                self.0.remove(&stream);
                look.gone.push((id, error));
            }
            Err(error) => {
                let list = self.0.get_mut(&stream);
                let Some(list) = list.filter(|list| list.at.elapsed() < keep) else {
                    return Err(error);
                };
                if !list.is_kept {
                    warn!(stream, %error, "the stream's shards cannot be listed: the last list counts");
                }
                list.is_kept = true;
                look.shards.extend_from_slice(&list.shards);
                look.failed.push(*error);
                look.refuse_none_of(OF_ALL)?;
            }
        }
        Ok(())
    }
}

impl Look {
    /// All shards.
    ///
    /// # Errors
    /// Where no stream was listed.
    pub(super) fn shards(mut self) -> Result<Vec<Shard>, Box<SourceError>> {
        self.refuse_none_of(1)?;
        if self.listed == 0 && self.failed.is_empty() && !self.gone.is_empty() {
            return Err(none_is_there(self.gone));
        }
        Ok(self.shards)
    }

    fn refuse_none_of(&mut self, failed: usize) -> Result<(), Box<SourceError>> {
        let is_of_all = self.listed == 0 && self.gone.is_empty() && self.failed.len() >= failed;
        match is_of_all {
            true => Err(Box::new(self.failed.swap_remove(0))),
            false => Ok(()),
        }
    }
}

fn is_gone(error: &SourceError) -> bool {
    error.kind == SourceErrorKind::NotFound && error.operation == "ListShards"
}

/// As when the scaler asks in another account, or another region, than the application.
fn none_is_there(mut gone: Vec<(StreamIdentifier, Box<SourceError>)>) -> Box<SourceError> {
    let count = gone.len();
    let (StreamIdentifier { account, .. }, mut error) = gone.swap_remove(0);
    let of_all = match count {
        1 => "It is the only stream of the lease table".to_owned(),
        count => format!("None of the {count} streams of the lease table is found"),
    };
    error.hint = format!(
        "{of_all}. The leases are of account {account}, and the scaler asks by name in the account of the identity that \
         asks: name a role of account {account} in awsRoleArn where that is another, or correct awsRegion"
    );
    error
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::shards::HashRange;
    use tokio::time::advance;

    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn id(name: &str) -> StreamIdentifier {
        format!("1:{name}:100").parse().unwrap()
    }

    fn shards(name: &str) -> Result<Vec<Shard>, Box<SourceError>> {
        Ok(vec![Shard {
            id: format!("1:{name}:100:shardId-0").into(),
            parents: [].into(),
            hash_range: HashRange { start: 0, end: 1 },
            starting_sequence_number: "0".parse().unwrap(),
            closed: false,
        }])
    }

    fn fails(name: &str, kind: SourceErrorKind) -> Result<Vec<Shard>, Box<SourceError>> {
        Err(Box::new(SourceError {
            operation: "ListShards",
            resource: format!("stream {name}"),
            ..kind.example()
        }))
    }

    type Answer = (&'static str, Result<Vec<Shard>, Box<SourceError>>);

    fn look<const N: usize>(
        lists: &mut Lists,
        answers: [Answer; N],
    ) -> Result<Vec<String>, Box<SourceError>> {
        let mut look = Look::default();
        for (name, answer) in answers {
            lists.take(id(name), answer, KEEP, &mut look)?;
        }
        let shards = look.shards()?;
        Ok(shards.iter().map(|it| it.id.to_string()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_fails_keeps_its_last_list_as_long_as_an_answer_may_stand_in() {
        let mut lists = Lists::default();
        let both = ["1:orders:100:shardId-0", "1:payments:100:shardId-0"];
        let fail = || fails("orders", SourceErrorKind::Throttled);
        // It was never listed.
        let answers = [("orders", fail()), ("payments", shards("payments"))];
        let error = look(&mut lists, answers).unwrap_err();
        assert_eq!(error.resource, "stream orders");

        let answers = [
            ("orders", shards("orders")),
            ("payments", shards("payments")),
        ];
        assert_eq!(look(&mut lists, answers).unwrap(), both);
        advance(KEEP / 2).await;
        let answers = [("orders", fail()), ("payments", shards("payments"))];
        assert_eq!(look(&mut lists, answers).unwrap(), both);
        assert!(lists.is_kept("1:orders:100") && !lists.is_kept("1:payments:100"));
        // A failure of all is one of the look.
        let payments = fails("payments", SourceErrorKind::Throttled);
        assert!(look(&mut lists, [("orders", fail()), ("payments", payments)]).is_err());

        advance(KEEP / 2).await;
        let answers = [("payments", shards("payments")), ("orders", fail())];
        let error = look(&mut lists, answers).unwrap_err();
        assert_eq!(error.resource, "stream orders");
        // It answers again.
        let answers = [
            ("orders", shards("orders")),
            ("payments", shards("payments")),
        ];
        assert_eq!(look(&mut lists, answers).unwrap(), both);
        assert!(!lists.is_kept("1:orders:100"));
        // The application does not read it any more.
        lists.follow([id("payments")].iter());
        assert!(!lists.0.contains_key("1:orders:100"));
    }

    #[test]
    fn streams_of_which_none_is_there_are_looked_for_in_the_wrong_place() {
        let mut lists = Lists::default();
        let gone = |name| fails(name, SourceErrorKind::NotFound);
        let answers = [("orders", gone("orders")), ("payments", shards("payments"))];
        assert_eq!(look(&mut lists, answers).unwrap().len(), 1);
        let answers = [("orders", gone("orders")), ("payments", gone("payments"))];
        let error = look(&mut lists, answers).unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::NotFound);
        for part in ["None of the 2 streams", "account 1", "awsRoleArn"] {
            assert!(error.hint.contains(part), "{part} is not in {error:?}");
        }
    }
}
