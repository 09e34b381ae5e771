//! Keeps records that cannot be stored: whole, in the rejects table, or by their position, in the
//! log.
//!
//! A record in the rejects table is one item, or numbered parts where it is larger than an item may
//! be: `record` (`<stream>/<shard>/<position>`; of several streams, `<stream>` is
//! `account:name:epoch`), `part` from 1, `parts`, `data` (binary: joined in
//! order they are the record's data), `partition_key`, `reason`, `stream`, `shard`,
//! `sequence_number`, `sub_sequence_number`, `arrived`, `rejected_by`. What a longer partition key
//! than any of Kinesis' own has beyond 2 KiB is in further parts, `partition_key_rest` (binary).
//! Written again, it is the same.

use std::sync::Arc;

use kinesis_consumer::{LeaseKey, Record};
use kinesis_edge::{AttributeValue, Blob, Failure, Kind, Table, Write};

use crate::{
    Error, Settings,
    aws::Clients,
    checks, fix,
    item::{Item, Rejected},
    metrics::Metrics,
    writer::{failed, patiently},
};

/// Data of one part: leaves room for names, the partition key and the reason.
const PART_BYTES: usize = 384 << 10;
/// The longest partition key that is kept in one piece. Kinesis' own have at most 1 KiB, those
/// within an aggregate any length.
const KEY_BYTES: usize = 2 << 10;
/// The longest reason that is kept.
const REASON_CHARS: usize = 1000;

/// Where rejects go.
#[derive(Debug)]
pub(crate) struct Rejects {
    table: Option<Table>,
    /// Where the leases do not name it.
    stream: String,
    rejected_by: String,
    region: String,
    metrics: Arc<Metrics>,
}

impl Rejects {
    pub(crate) fn new(settings: &Settings, clients: &Clients, metrics: Arc<Metrics>) -> Self {
        Self {
            table: settings.rejects_table().map(|table| clients.items(table)),
            stream: settings
                .reads()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned(),
            rejected_by: settings.instance_name(),
            region: clients.region.clone(),
            metrics,
        }
    }

    /// Returns when the record is kept.
    pub(crate) async fn keep(
        &self,
        lease: &LeaseKey,
        record: &Record,
        reason: &Rejected,
    ) -> Result<(), Error> {
        if let Some(table) = &self.table {
            // On the heap: many rejects without a table have small futures.
            Box::pin(self.keep_in(table, lease, record, reason)).await?;
        }
        self.metrics.rejected(reason);
        tracing::warn!(
            shard = %lease,
            sequence_number = record.sequence_number.as_str(),
            sub_sequence_number = record.sub_sequence_number,
            bytes = record.data.len(),
            %reason,
            kept_in = self.table.as_ref().map_or("the stream alone", Table::name),
            "record rejected"
        );
        Ok(())
    }

    async fn keep_in(
        &self,
        table: &Table,
        lease: &LeaseKey,
        record: &Record,
        reason: &Rejected,
    ) -> Result<(), Error> {
        for part in self.parts(lease, record, reason) {
            // One part at a time is in memory.
            let put = || table.put(part.clone(), Write::new());
            if let Err(failure) = patiently(&self.metrics, table.name(), put).await {
                return Err(self.failed(table, failure).await);
            }
        }
        Ok(())
    }

    async fn failed(&self, table: &Table, failure: Failure) -> Error {
        // The table may have been made anew, with another key.
        if failure.kind == Kind::Invalid
            && let Ok(description) =
                patiently(&self.metrics, table.name(), || table.describe()).await
            && let Err(problem) = checks::rejects_key(table.name(), description.keys, &self.region)
        {
            return Error::Write(problem);
        }
        let create = fix::create_rejects_table(table.name(), &self.region);
        failed(table, failure, &self.region, &create).await
    }

    fn parts<'a>(
        &self,
        lease: &LeaseKey,
        record: &'a Record,
        reason: &Rejected,
    ) -> impl Iterator<Item = Item> + Send + use<'a> {
        let shard = lease.shard.as_str();
        let of_several = lease.stream.as_ref().map(ToString::to_string);
        let stream = of_several.as_deref().unwrap_or(&self.stream);
        let Record {
            sequence_number,
            sub_sequence_number,
            partition_key,
            data,
            arrival,
            ..
        } = record;
        let (key, rest) = partition_key.split_at(partition_key.floor_char_boundary(KEY_BYTES));
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: usize| AttributeValue::N(number.to_string());
        let mut common = Item::from([
            (
                "record".into(),
                AttributeValue::S(format!(
                    "{stream}/{shard}/{sequence_number}.{sub_sequence_number}"
                )),
            ),
            ("partition_key".into(), text(key)),
            (
                "reason".into(),
                AttributeValue::S(reason.to_string().chars().take(REASON_CHARS).collect()),
            ),
            ("stream".into(), text(stream)),
            ("shard".into(), text(shard)),
            ("sequence_number".into(), text(sequence_number.as_str())),
            (
                "sub_sequence_number".into(),
                AttributeValue::N(sub_sequence_number.to_string()),
            ),
            ("rejected_by".into(), text(&self.rejected_by)),
        ]);
        if let Some(arrival) = arrival {
            common.insert("arrived".into(), AttributeValue::S(arrival.to_string()));
        }
        // No data is one empty part.
        let mut chunks: Vec<(&[u8], &[u8])> = data
            .chunks(PART_BYTES)
            .map(|chunk| (chunk, &[][..]))
            .collect();
        if chunks.is_empty() {
            chunks.push((&[], &[]));
        }
        let of_key = rest.as_bytes().chunks(PART_BYTES);
        chunks.extend(of_key.map(|chunk| (&[][..], chunk)));
        common.insert("parts".into(), number(chunks.len()));
        chunks
            .into_iter()
            .zip(1..)
            .map(move |((chunk, of_key), part)| {
                let mut item = common.clone();
                item.insert("part".into(), AttributeValue::N(part.to_string()));
                item.insert("data".into(), AttributeValue::B(Blob::new(chunk)));
                if !of_key.is_empty() {
                    let of_key = AttributeValue::B(Blob::new(of_key));
                    item.insert("partition_key_rest".into(), of_key);
                }
                item
            })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn rejects() -> Rejects {
        let arguments = [
            "x",
            "--stream-name=s",
            "--table-name=t",
            "--application-name=a",
        ];
        Rejects {
            table: None,
            stream: "s".to_owned(),
            rejected_by: "pod-1".to_owned(),
            region: "us-east-1".to_owned(),
            metrics: Arc::new(Metrics::new(&Settings::parse_from(arguments))),
        }
    }

    /// Within an aggregate, a partition key may be as long as the aggregate.
    #[test]
    fn a_partition_key_of_any_length_is_kept_whole() {
        let key = "\u{1f600}x".repeat(100_000);
        let sequence_number = "7".parse().expect("digits");
        let record = Record::new(sequence_number, key.as_str(), "data".as_bytes());
        let reason = Rejected::Refused("why".to_owned());
        let parts: Vec<_> = rejects().parts(&"shard".into(), &record, &reason).collect();
        let binary = |part: &Item, name: &str| {
            let value = part.get(name).and_then(|value| value.as_b().ok());
            value
                .map(|blob| blob.clone().into_inner())
                .unwrap_or_default()
        };
        let mut kept = parts[0]["partition_key"]
            .as_s()
            .expect("text")
            .clone()
            .into_bytes();
        assert!(kept.len() <= KEY_BYTES);
        for part in &parts {
            assert!(
                binary(part, "data").len() + binary(part, "partition_key_rest").len() <= PART_BYTES
            );
            kept.extend(binary(part, "partition_key_rest"));
        }
        assert_eq!(kept, key.as_bytes());
        let data: Vec<_> = parts.iter().flat_map(|part| binary(part, "data")).collect();
        assert_eq!(data, b"data");
        assert_eq!(
            parts[0]["parts"],
            AttributeValue::N(parts.len().to_string())
        );
    }
}
