//! Keeps records that cannot be stored: whole, in the rejects table, or by their position, in the
//! log.
//!
//! A record in the rejects table is one item, or numbered parts where it is larger than an item may
//! be: `record` (`<stream>/<shard>/<position>`), `part` from 1, `parts`, `data` (binary: joined in
//! order they are the record's data), `partition_key`, `reason`, `stream`, `shard`,
//! `sequence_number`, `sub_sequence_number`, `arrived`, `rejected_by`. Written again, it is the
//! same.

use std::sync::Arc;

use kinesis_consumer::Record;
use kinesis_edge::{AttributeValue, Blob, Table, Write};

use crate::{
    Error, Settings,
    aws::Clients,
    fix,
    item::{Item, Rejected},
    metrics::Metrics,
    writer::{failed, patiently},
};

/// Data of one part: leaves room for names, the partition key and the reason.
const PART_BYTES: usize = 384 << 10;
/// The longest reason that is kept.
const REASON_CHARS: usize = 1000;

/// Where rejects of one stream go.
#[derive(Debug)]
pub(crate) struct Rejects {
    table: Option<Table>,
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
                .stream_name
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
        shard: &str,
        record: &Record,
        reason: &Rejected,
    ) -> Result<(), Error> {
        if let Some(table) = &self.table {
            for part in self.parts(shard, record, reason) {
                // One part at a time is in memory.
                let put = || table.put(part.clone(), Write::new());
                if let Err(failure) = patiently(&self.metrics, put).await {
                    let create = fix::create_rejects_table(table.name(), &self.region);
                    return Err(failed(table, failure, &self.region, &create).await);
                }
            }
        }
        self.metrics.rejected(reason);
        tracing::warn!(
            shard,
            sequence_number = record.sequence_number.as_str(),
            sub_sequence_number = record.sub_sequence_number,
            bytes = record.data.len(),
            %reason,
            kept_in = self.table.as_ref().map_or("the stream alone", Table::name),
            "record rejected"
        );
        Ok(())
    }

    fn parts<'a>(
        &self,
        shard: &str,
        record: &'a Record,
        reason: &Rejected,
    ) -> impl Iterator<Item = Item> + Send + use<'a> {
        let Record {
            sequence_number,
            sub_sequence_number,
            partition_key,
            data,
            arrival,
            ..
        } = record;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: usize| AttributeValue::N(number.to_string());
        let mut common = Item::from([
            (
                "record".into(),
                AttributeValue::S(format!(
                    "{}/{shard}/{sequence_number}.{sub_sequence_number}",
                    self.stream
                )),
            ),
            ("partition_key".into(), text(partition_key)),
            (
                "reason".into(),
                AttributeValue::S(reason.to_string().chars().take(REASON_CHARS).collect()),
            ),
            ("stream".into(), text(&self.stream)),
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
        let mut chunks: Vec<&[u8]> = data.chunks(PART_BYTES).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        common.insert("parts".into(), number(chunks.len()));
        chunks.into_iter().zip(1..).map(move |(chunk, part)| {
            let mut item = common.clone();
            item.insert("part".into(), AttributeValue::N(part.to_string()));
            item.insert("data".into(), AttributeValue::B(Blob::new(chunk)));
            item
        })
    }
}
