//! The rows of a lease table that are leases of one stream.

use std::sync::Arc;

use kinesis_consumer::lease::{self, Item, Lease, PROJECTION, Parsed};
use kinesis_edge::{Failure, Kind, Service};

use super::Leases;
use crate::{
    error::{SourceError, shortened},
    source::aws::{Client, Known, Resource, Rows, SharedRows},
    trigger::{LeaseTable, Stream},
};

/// The most broken rows that are named.
const MOST_NAMED: usize = 20;

/// The largest table that is read, in pages of 1 MB. A scan of it is 12,800 read units.
const MOST_PAGES: usize = 100;

/// The most rows that are read: they are held in memory, some 60 MB.
const MOST_ROWS: usize = 100_000;

pub(super) const OPERATION: &str = "Scan";

pub(super) async fn leases(
    client: &Arc<Client>,
    stream: &Stream,
    table: &LeaseTable,
    shared: &SharedRows,
) -> Result<Option<Leases>, SourceError> {
    let Some(rows) = rows(client, table, shared).await? else {
        return Ok(None);
    };
    let mut found = Leases::default();
    for (key, row) in rows.iter() {
        found.add(key, row, stream);
    }
    match found.nonsense() {
        Some(message) => Err(senseless(client, table, &message)),
        None => Ok(Some(found)),
    }
}

/// The table's rows cannot be of what is asked about.
pub(super) fn senseless(client: &Arc<Client>, table: &LeaseTable, message: &str) -> SourceError {
    let failure = Failure::senseless(Service::DynamoDb, OPERATION, message);
    client.error(Resource::LeaseTable(table.as_asked()), &failure)
}

/// The table's rows. `None`: there is no such table.
pub(super) async fn rows(
    client: &Arc<Client>,
    table: &LeaseTable,
    shared: &SharedRows,
) -> Result<Option<Rows>, SourceError> {
    let error = |failure| client.error(Resource::LeaseTable(table.as_asked()), &failure);
    Ok(Some(
        match shared.get(client.refresh().mul_f64(0.9)).await {
            Known::Rows(rows) => rows,
            Known::TooLarge(failure) => return Err(error(failure)),
            Known::Nothing(turn) => match scan(client, table).await {
                Ok(rows) => {
                    let rows = Arc::new(rows);
                    turn.share(&rows);
                    rows
                }
                // As DynamoDB says it: another NotFound is the identity's.
                Err(failure)
                    if failure.kind == Kind::NotFound && failure.operation == OPERATION =>
                {
                    return Ok(None);
                }
                Err(failure) => {
                    if failure.kind == Kind::TooLarge {
                        turn.remember_too_large(&failure);
                    }
                    return Err(error(failure));
                }
            },
        },
    ))
}

/// All rows, all pages.
async fn scan(client: &Arc<Client>, table: &LeaseTable) -> Result<Vec<(String, Parsed)>, Failure> {
    let mut rows = Vec::new();
    let mut count = 0;
    let row = |row: &Item| {
        count += 1;
        if count <= MOST_ROWS {
            rows.push((lease::key(row).to_owned(), lease::parse(row)));
        }
    };
    let table = client.table(table).await;
    table.scan(&PROJECTION, MOST_PAGES, row).await?;
    if count > MOST_ROWS {
        let message = format!("the table has {count} rows; {MOST_ROWS} are the most that is read");
        return Err(Failure::too_large(Service::DynamoDb, OPERATION, &message));
    }
    Ok(rows)
}

impl Leases {
    /// Why the table cannot be used: a table without one readable row is no new table, unless its
    /// rows are other streams', and leases of a stream of the same name in another account say
    /// nothing about this one.
    pub(super) fn nonsense(&self) -> Option<String> {
        let is_of_others = self.others > 0 && self.broken_shards.is_empty();
        if let (true, false, Some((key, reason))) =
            (self.leases.is_empty(), is_of_others, self.malformed.first())
        {
            return Some(format!(
                "none of the table's {} rows is a lease, such as {key:?}: {reason}",
                self.broken + self.others
            ));
        }
        (self.accounts.len() > 1).then(|| {
            format!(
                "the table has leases of this stream's name in the accounts {}: name the stream by streamArn",
                self.accounts.join(", ")
            )
        })
    }

    fn add(&mut self, key: &str, row: &Parsed, wanted: &Stream) {
        match row {
            Parsed::Lease(lease) => {
                let Some(of) = &lease.key.stream else {
                    return self.leases.push(Lease::clone(lease));
                };
                self.is_of_several = true;
                let is_account = wanted.account().is_none_or(|account| account == of.account);
                let is_wanted = of.name == wanted.name() && is_account;
                if is_wanted && !self.accounts.contains(&of.account) {
                    self.accounts.push(of.account.clone());
                }
                if is_wanted && of.epoch > self.epoch {
                    // The stream was made anew: what was found so far is of the older one.
                    self.epoch = of.epoch;
                    self.others += self.leases.len();
                    self.leases.clear();
                }
                if is_wanted && of.epoch == self.epoch {
                    self.leases.push(Lease::clone(lease));
                } else {
                    self.others += 1;
                }
            }
            Parsed::Other(_) => self.others += 1,
            Parsed::Broken(reason) => {
                // `shardId`, or of a multi-stream table `account:stream:epoch:shardId`.
                let (of, shard) = key.rsplit_once(':').unwrap_or(("", key));
                let is_ours = of.is_empty() || of.split(':').nth(1) == Some(wanted.name());
                self.break_row(key, if is_ours { shard } else { "" }, reason);
            }
        }
    }

    /// Takes note of a row that cannot be read. `shard`: whose lease it would be, if it is known to
    /// be of what is asked about.
    pub(super) fn break_row(&mut self, key: &str, shard: &str, reason: &str) {
        self.broken += 1;
        if !shard.is_empty() {
            self.broken_shards.insert(shard.into());
        }
        if self.malformed.len() < MOST_NAMED {
            let reason = shortened(reason).into_owned();
            self.malformed.push((shortened(key).into_owned(), reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use kinesis_consumer::ShardId;
    use kinesis_edge::AttributeValue;

    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Item {
        let mut row = Item::from([
            ("leaseCounter".to_owned(), AttributeValue::N("1".to_owned())),
            (
                "checkpoint".to_owned(),
                AttributeValue::S("TRIM_HORIZON".to_owned()),
            ),
        ]);
        for (name, value) in pairs {
            row.insert((*name).to_owned(), AttributeValue::S((*value).to_owned()));
        }
        row
    }

    fn of(stream: &str, shard: &str) -> Item {
        let key = format!("{stream}:{shard}");
        row(&[
            ("leaseKey", &key),
            ("streamName", stream),
            ("shardId", shard),
        ])
    }

    fn read(wanted: &Stream, rows: &[Item]) -> Leases {
        let mut leases = Leases::default();
        for row in rows {
            leases.add(lease::key(row), &lease::parse(row), wanted);
        }
        leases
    }

    fn keys(leases: &Leases) -> Vec<&str> {
        leases
            .leases
            .iter()
            .map(|lease| lease.key.shard.as_str())
            .collect()
    }

    fn orders() -> Stream {
        Stream::Name("orders".to_owned())
    }

    #[test]
    fn rows_of_other_entities_and_broken_ones_are_left_out_and_named() {
        let rows = [
            row(&[("leaseKey", "0")]),
            row(&[("leaseKey", "Leader"), ("entityType", "LEADER")]),
            Item::from([("leaseKey".to_owned(), AttributeValue::S("1".to_owned()))]),
        ];
        let leases = read(&orders(), &rows);
        assert_eq!(keys(&leases), ["0"]);
        assert_eq!((leases.others, leases.broken), (1, 1));
        assert_eq!(leases.malformed[0].0, "1");
        assert!(
            leases.broken_shards.contains(&ShardId::from("1")),
            "{leases:?}"
        );
        assert!(leases.malformed[0].1.contains("checkpoint"), "{leases:?}");
        assert_eq!(leases.nonsense(), None);
    }

    #[test]
    fn a_table_of_broken_rows_is_no_new_table() {
        let broken = Item::from([("leaseKey".to_owned(), AttributeValue::S("1".to_owned()))]);
        let leases = read(&orders(), &[broken]);
        assert!(leases.nonsense().unwrap().contains("\"1\""), "{leases:?}");
    }

    #[test]
    fn a_broken_row_of_another_stream_is_no_reason_to_refuse_the_table() {
        let key = AttributeValue::S("111122223333:payments:300:shardId-4".to_owned());
        let broken = Item::from([("leaseKey".to_owned(), key)]);
        let leases = read(&orders(), &[broken, of("111122223333:payments:300", "3")]);
        assert_eq!((leases.broken, leases.nonsense()), (1, None));
    }

    #[test]
    fn of_a_multi_stream_table_the_newest_stream_of_that_name_counts() {
        let rows = [
            of("111122223333:orders:100", "0"),
            of("111122223333:orders:200", "1"),
            of("111122223333:orders:100", "2"),
            of("111122223333:payments:300", "3"),
        ];
        let leases = read(&orders(), &rows);
        assert_eq!(keys(&leases), ["1"]);
        assert_eq!(leases.others, 3);
    }

    #[test]
    fn two_accounts_are_told_apart_by_the_arn_alone() {
        let rows = [
            of("111122223333:orders:100", "0"),
            of("444455556666:orders:200", "1"),
        ];
        let nonsense = read(&orders(), &rows).nonsense().unwrap();
        assert!(nonsense.contains("streamArn"), "{nonsense}");
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/orders";
        let leases = read(&Stream::Arn(arn.to_owned()), &rows);
        assert_eq!((keys(&leases), leases.nonsense()), (vec!["0"], None));
    }
}
