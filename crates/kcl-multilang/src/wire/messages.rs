//! Messages to the child, byte for byte as the Java daemon writes them: compact, every key there,
//! in its order. Clients read keys that other languages would leave out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kinesis_consumer::{Batch, Checkpoint, Record};
use serde_json::{Value, json};

/// About so much is encoded at a time, however large the batch.
const CHUNK: usize = 64 << 10;
/// Data of one step: a multiple of 3, so that base64 pieces join without padding.
const DATA_STEP: usize = 48 << 10;

/// What the child is asked, but for records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The shard is its from now on.
    Initialize,
    /// Records.
    ProcessRecords,
    /// Another worker has the lease.
    LeaseLost,
    /// The shard is read to its end.
    ShardEnded,
    /// The lease goes: the last chance to checkpoint.
    ShutdownRequested,
}

impl Action {
    /// Its name on the wire, which the child's status repeats.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::ProcessRecords => "processRecords",
            Self::LeaseLost => "leaseLost",
            Self::ShardEnded => "shardEnded",
            Self::ShutdownRequested => "shutdownRequested",
        }
    }

    /// The message of an action that has nothing to say beyond its name.
    pub fn line(self) -> Vec<u8> {
        format!("{{\"action\":\"{}\"}}\n", self.name()).into_bytes()
    }
}

/// `initialize`: delivery starts after the checkpoint.
pub fn initialize(shard: &str, checkpoint: &Checkpoint) -> Vec<u8> {
    line(&json!({
        "action": "initialize",
        "shardId": shard,
        "sequenceNumber": checkpoint.as_str(),
        "subSequenceNumber": checkpoint.sub_sequence_number(),
    }))
}

/// The answer to a checkpoint: what was asked, as it was asked, and the error's name, if it failed.
pub fn checkpointed(
    sequence_number: Option<&str>,
    sub_sequence_number: &Value,
    error: Option<&str>,
) -> Vec<u8> {
    line(&json!({
        "action": "checkpoint",
        "sequenceNumber": sequence_number,
        "subSequenceNumber": sub_sequence_number,
        "error": error,
    }))
}

fn line(message: &Value) -> Vec<u8> {
    let mut line = message.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// `processRecords`, piece by piece: no second copy of a batch is ever in memory.
#[derive(Debug)]
pub struct Records<'a> {
    batch: &'a Batch,
    /// The record at hand; the batch's length: only the end is left.
    index: usize,
    /// How much of its data is encoded.
    encoded: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Begin,
    Record,
    Data,
    Done,
}

impl<'a> Records<'a> {
    /// The message of a batch.
    pub fn new(batch: &'a Batch) -> Self {
        Self {
            batch,
            index: 0,
            encoded: 0,
            state: State::Begin,
        }
    }

    /// Puts the next piece into `out`, in place of what it holds. `false`: there is none.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        while out.len() < CHUNK && self.state != State::Done {
            self.step(out);
        }
        !out.is_empty()
    }

    fn step(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Begin => {
                out.extend_from_slice(b"{\"action\":\"processRecords\",\"records\":[");
                self.state = State::Record;
            }
            State::Record => match self.batch.records.get(self.index) {
                Some(_) => {
                    out.extend_from_slice(if self.index > 0 {
                        b",{\"data\":\""
                    } else {
                        b"{\"data\":\""
                    });
                    self.encoded = 0;
                    self.state = State::Data;
                }
                None => {
                    let millis = self.batch.millis_behind_latest;
                    let end = format!("],\"millisBehindLatest\":{millis}}}\n");
                    out.extend_from_slice(end.as_bytes());
                    self.state = State::Done;
                }
            },
            State::Data => {
                let record = &self.batch.records[self.index];
                let left = &record.data[self.encoded..];
                let piece = &left[..left.len().min(DATA_STEP)];
                encode(piece, out);
                self.encoded += piece.len();
                if piece.len() == left.len() {
                    rest(record, out);
                    self.index += 1;
                    self.state = State::Record;
                }
            }
            State::Done => {}
        }
    }
}

fn encode(data: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.resize(begin + data.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(data, &mut out[begin..]);
    out.truncate(begin + written.unwrap_or_default());
}

/// What follows a record's data.
fn rest(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\",\"partitionKey\":");
    // Writing a string into memory does not fail.
    let _ = serde_json::to_writer(&mut *out, &record.partition_key);
    // Without a time Python's client ends with an error, and AWS gives one with every record.
    let arrival = record.arrival.map_or(0, |time| time.as_millisecond());
    let rest = format!(
        ",\"sequenceNumber\":\"{}\",\"approximateArrivalTimestamp\":{arrival},\"subSequenceNumber\":{},\
         \"action\":\"record\"}}",
        record.sequence_number, record.sub_sequence_number
    );
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn text(mut records: Records<'_>) -> String {
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        while records.next_into(&mut piece) {
            assert!(piece.len() < 3 * CHUNK, "a piece of {}", piece.len());
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    }

    fn record(number: &str, key: &str, data: Vec<u8>) -> Record {
        Record::new(number.parse().unwrap(), key, data)
    }

    #[test]
    fn messages_are_javas_byte_for_byte() {
        let checkpoint = Checkpoint::TrimHorizon;
        assert_eq!(
            String::from_utf8(initialize("shardId-000000000007", &checkpoint)).unwrap(),
            "{\"action\":\"initialize\",\"shardId\":\"shardId-000000000007\",\"sequenceNumber\":\"TRIM_HORIZON\",\
             \"subSequenceNumber\":0}\n"
        );
        let mut one = record("4968060441", "k1", vec![b'h', b'i', 0, 255]);
        one.arrival = Some(jiff::Timestamp::from_millisecond(1_795_756_931_000).unwrap());
        assert_eq!(
            text(Records::new(&Batch::new(vec![one]))),
            "{\"action\":\"processRecords\",\"records\":[{\"data\":\"aGkA/w==\",\"partitionKey\":\"k1\",\
             \"sequenceNumber\":\"4968060441\",\"approximateArrivalTimestamp\":1795756931000,\
             \"subSequenceNumber\":0,\"action\":\"record\"}],\"millisBehindLatest\":0}\n"
        );
        assert_eq!(
            String::from_utf8(checkpointed(Some("4968060441"), &Value::Null, None)).unwrap(),
            "{\"action\":\"checkpoint\",\"sequenceNumber\":\"4968060441\",\"subSequenceNumber\":null,\
             \"error\":null}\n"
        );
        for (action, want) in [
            (Action::LeaseLost, "{\"action\":\"leaseLost\"}\n"),
            (Action::ShardEnded, "{\"action\":\"shardEnded\"}\n"),
            (
                Action::ShutdownRequested,
                "{\"action\":\"shutdownRequested\"}\n",
            ),
        ] {
            assert_eq!(action.line(), want.as_bytes());
        }
    }

    #[test]
    fn a_batch_without_records_is_an_empty_list() {
        assert_eq!(
            text(Records::new(&Batch::new(Vec::new()))),
            "{\"action\":\"processRecords\",\"records\":[],\"millisBehindLatest\":0}\n"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_batch_is_one_line_of_json_with_its_data(
            records in prop::collection::vec((".*", prop::collection::vec(any::<u8>(), 0..300), 0..3usize), 0..20),
        ) {
            let records = records.into_iter().zip(1..).map(|((key, data, large), number)| {
                // Some are longer than a step, at every remainder of 3.
                let data = if large == 0 { data.repeat(400) } else { data };
                record(&number.to_string(), &key, data)
            });
            let batch = Batch::new(records.collect());
            let text = text(Records::new(&batch));
            prop_assert_eq!(text.matches('\n').count(), 1);
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let sent = parsed["records"].as_array().unwrap();
            prop_assert_eq!(sent.len(), batch.records.len());
            for (sent, record) in sent.iter().zip(&batch.records) {
                let data = STANDARD.decode(sent["data"].as_str().unwrap()).unwrap();
                prop_assert_eq!(&data, &record.data);
                prop_assert_eq!(sent["partitionKey"].as_str().unwrap(), &record.partition_key);
            }
        }
    }
}
