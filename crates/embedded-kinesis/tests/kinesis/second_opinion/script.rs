//! The script of calls.

mod fan_out;
mod records;
mod reshards;
mod streams;

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ScalingType, ShardIteratorType};

use super::words::{lineage, page, said};
use crate::support::{REGION, client, credentials};

/// Steps and what was answered, in words.
pub(crate) type Answers = Vec<(&'static str, String)>;

/// A client and the stream the script is about.
struct Script {
    client: Client,
    answers: Answers,
}

impl Script {
    fn note(&mut self, step: &'static str, answer: String) {
        self.answers.push((step, answer));
    }

    /// Until the stream is ACTIVE.
    async fn settle(&self, stream: &str) {
        loop {
            let answer = self
                .client
                .describe_stream_summary()
                .stream_name(stream)
                .send()
                .await
                .unwrap();
            if answer
                .stream_description_summary()
                .unwrap()
                .stream_status()
                .as_str()
                == "ACTIVE"
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn shards(&mut self, step: &'static str) {
        let answer = self.client.list_shards().stream_name("s").send().await;
        self.note(step, said(answer, |it| lineage(it.shards())));
    }

    async fn iterator(
        &self,
        shard: u32,
        kind: ShardIteratorType,
        sequence: Option<&str>,
        at: Option<DateTime>,
    ) -> Result<String, String> {
        let call = self
            .client
            .get_shard_iterator()
            .stream_name("s")
            .shard_id(format!("shardId-{shard:012}"));
        let call = call
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence.map(str::to_owned))
            .set_timestamp(at);
        match call.send().await {
            Ok(answer) => Ok(answer.shard_iterator().unwrap().to_owned()),
            Err(error) => Err(error.code().unwrap_or("an error without a code").to_owned()),
        }
    }

    async fn read(
        &mut self,
        step: &'static str,
        iterator: Result<String, String>,
        limit: Option<i32>,
    ) -> Option<String> {
        let iterator = match iterator {
            Ok(iterator) => iterator,
            Err(code) => {
                self.note(step, code);
                return None;
            }
        };
        let answer = self
            .client
            .get_records()
            .shard_iterator(iterator)
            .set_limit(limit)
            .send()
            .await;
        let next = answer
            .as_ref()
            .ok()
            .and_then(|it| it.next_shard_iterator().map(str::to_owned));
        self.note(step, said(answer, page));
        next
    }

    async fn resize(&self, stream: &str, shards: i32) -> String {
        let call = self
            .client
            .update_shard_count()
            .stream_name(stream)
            .target_shard_count(shards);
        said(
            call.scaling_type(ScalingType::UniformScaling).send().await,
            |it| {
                format!(
                    "{:?} to {:?}",
                    it.current_shard_count(),
                    it.target_shard_count()
                )
            },
        )
    }
}

/// Runs it all against one endpoint.
pub(crate) async fn script(endpoint: &str) -> Answers {
    let mut script = Script {
        client: client(endpoint, REGION, credentials("AKIDSECOND")),
        answers: Vec::new(),
    };
    script.streams().await;
    let sequences = script.puts().await;
    script.reads(&sequences).await;
    let consumer = script.consumers().await;
    script.subscriptions(&consumer).await;
    script.reshards().await;
    script.subscriptions_end(&consumer).await;
    script.rest().await;
    script.answers
}
