//! Consumers and subscriptions.

use std::time::Duration;

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::types::{ShardIteratorType, SubscribeToShardEventStream};

use super::super::words::{done, said};
use super::Script;
use crate::support::{ACCOUNT, Events, REGION, number, position, subscribe, text};

/// Longer than anything that is pushed takes.
const NOTHING: Duration = Duration::from_secs(2);

impl Script {
    /// Returns the ARN of a consumer.
    pub(super) async fn consumers(&mut self) -> String {
        let client = self.client.clone();
        let arn = format!("arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s");
        let register = |name: &str| {
            let call = client.register_stream_consumer().stream_arn(&arn);
            call.consumer_name(name).send()
        };
        let registered = register("app").await.unwrap();
        let registered = registered.consumer().unwrap().clone();
        let consumer = registered.consumer_arn().to_owned();
        let (named, _) = consumer.rsplit_once(':').unwrap();
        self.note("register", named.to_owned());
        self.note("register again", said(register("app").await, done));
        self.note("register a bad name", said(register("a b").await, done));
        let describe = || client.describe_stream_consumer();
        let mut status = String::new();
        for _ in 0..200 {
            let call = describe().consumer_arn(&consumer).send().await.unwrap();
            let described = call.consumer_description().unwrap();
            described.consumer_status().as_str().clone_into(&mut status);
            if status == "ACTIVE" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.note("a consumer's status after a second", status);
        let by_name = describe().stream_arn(&arn).consumer_name("app").send();
        let by_name = said(by_name.await, |it| {
            let it = it.consumer_description().unwrap();
            format!("{} {}", it.consumer_name(), it.stream_arn())
        });
        self.note("describe a consumer by name", by_name);
        let unknown = describe().stream_arn(&arn).consumer_name("nope").send();
        self.note("describe an unknown consumer", said(unknown.await, done));
        let list = client.list_stream_consumers().stream_arn(&arn).send();
        let list = said(list.await, |it| it.consumers().len().to_string());
        self.note("list consumers", list);
        consumer
    }

    pub(super) async fn subscriptions(&mut self, consumer: &str) {
        let from_start = self.subscribe(consumer, ShardIteratorType::TrimHorizon);
        let from_start = from_start.await;
        self.note("subscribe from TRIM_HORIZON", from_start);
        let again = self.subscribe(consumer, ShardIteratorType::Latest).await;
        self.note("subscribe again at once", again);
        let unknown = format!("{}:1", consumer.rsplit_once(':').unwrap().0);
        let unknown = self.subscribe(&unknown, ShardIteratorType::Latest).await;
        self.note("subscribe with an unknown consumer", unknown);
    }

    pub(super) async fn subscriptions_end(&mut self, consumer: &str) {
        // After the subscription before.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let closed = self.subscribe(consumer, ShardIteratorType::TrimHorizon);
        let closed = closed.await;
        self.note("subscribe to a closed shard", closed);
        let gone = self.client.deregister_stream_consumer();
        let gone = gone.consumer_arn(consumer).send().await;
        self.note("deregister", said(gone, done));
    }

    async fn subscribe(&self, consumer: &str, from: ShardIteratorType) -> String {
        let asked = subscribe(&self.client, consumer, position(from));
        match tokio::time::timeout(NOTHING, asked).await {
            Err(_) => "no answer".to_owned(),
            Ok(Err(error)) => said(Err::<(), _>(error), done),
            Ok(Ok(mut events)) => heard(&mut events).await,
        }
    }
}

/// What is heard until there is no more, or for a while.
async fn heard(events: &mut Events) -> String {
    let (mut texts, mut children, mut goes_on) = (Vec::new(), Vec::new(), true);
    let until = tokio::time::Instant::now() + NOTHING;
    let end = loop {
        match tokio::time::timeout_at(until, events.recv()).await {
            Err(_) => break "open".to_owned(),
            Ok(Err(error)) => break error.code().unwrap_or("an error").to_owned(),
            Ok(Ok(None)) => break "over".to_owned(),
            Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => {
                texts.extend(event.records().iter().map(text));
                children.extend(event.child_shards().iter().map(|it| number(it.shard_id())));
                goes_on = !event.continuation_sequence_number().is_empty();
            }
            Ok(Ok(Some(_))) => break "an unknown event".to_owned(),
        }
    };
    format!("{texts:?} children {children:?} goes on {goes_on} {end}")
}
