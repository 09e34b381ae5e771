//! Streams.

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::types::{StreamMode, StreamModeDetails};

use super::super::words::{done, said};
use super::Script;
use crate::support::{ACCOUNT, REGION};

impl Script {
    pub(super) async fn streams(&mut self) {
        let client = self.client.clone();
        let create = |name: &str| {
            client
                .create_stream()
                .stream_name(name)
                .shard_count(2)
                .send()
        };
        self.note("create", said(create("s").await, done));
        self.settle("s").await;
        self.note("create again", said(create("s").await, done));
        self.note("create with a bad name", said(create("a b").await, done));
        let none = client
            .create_stream()
            .stream_name("n")
            .shard_count(0)
            .send()
            .await;
        self.note("create without shards", said(none, done));
        let summary = client
            .describe_stream_summary()
            .stream_name("s")
            .send()
            .await;
        self.note(
            "describe",
            said(summary, |it| {
                let it = it.stream_description_summary().unwrap();
                let mode = it.stream_mode_details().map(|it| it.stream_mode().as_str());
                format!(
                    "{} {} {} {mode:?}",
                    it.stream_arn(),
                    it.open_shard_count(),
                    it.retention_period_hours()
                )
            }),
        );
        let arn = format!("arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s");
        let by_arn = client
            .describe_stream_summary()
            .stream_arn(arn)
            .send()
            .await;
        self.note(
            "describe by ARN",
            said(by_arn, |it| {
                it.stream_description_summary()
                    .unwrap()
                    .stream_name()
                    .to_owned()
            }),
        );
        let unknown = client
            .describe_stream_summary()
            .stream_name("nope")
            .send()
            .await;
        let message = unknown
            .as_ref()
            .err()
            .and_then(|error| error.message().map(str::to_owned));
        self.note("describe an unknown one", said(unknown, done));
        self.note("how that is worded", message.unwrap_or_default());
        let nothing = client.describe_stream_summary().send().await;
        self.note("describe none", said(nothing, done));
        self.shards("shards").await;
        let longer = client
            .increase_stream_retention_period()
            .stream_name("s")
            .retention_period_hours(48)
            .send()
            .await;
        self.note("longer retention", said(longer, done));
        self.settle("s").await;
        let wrong = client
            .increase_stream_retention_period()
            .stream_name("s")
            .retention_period_hours(24)
            .send()
            .await;
        self.note("longer retention that is shorter", said(wrong, done));
    }

    pub(super) async fn rest(&mut self) {
        let client = self.client.clone();
        let mode = StreamModeDetails::builder()
            .stream_mode(StreamMode::OnDemand)
            .build()
            .unwrap();
        let on_demand = client
            .create_stream()
            .stream_name("o")
            .stream_mode_details(mode)
            .send()
            .await;
        self.note("create ON_DEMAND", said(on_demand, done));
        self.settle("o").await;
        let summary = client
            .describe_stream_summary()
            .stream_name("o")
            .send()
            .await;
        self.note(
            "describe ON_DEMAND",
            said(summary, |it| {
                it.stream_description_summary()
                    .unwrap()
                    .open_shard_count()
                    .to_string()
            }),
        );
        let answer = self.resize("o", 5).await;
        self.note("resize ON_DEMAND", answer);
        let list = client.list_streams().send().await;
        self.note(
            "list streams",
            said(list, |it| {
                format!("{:?} {}", it.stream_names(), it.has_more_streams())
            }),
        );
        let list = client.list_streams().limit(1).send().await;
        self.note(
            "list one stream",
            said(list, |it| {
                format!("{:?} {}", it.stream_names(), it.has_more_streams())
            }),
        );
        self.note(
            "delete",
            said(client.delete_stream().stream_name("o").send().await, done),
        );
        self.note(
            "delete an unknown one",
            said(
                client.delete_stream().stream_name("nope").send().await,
                done,
            ),
        );
    }
}
