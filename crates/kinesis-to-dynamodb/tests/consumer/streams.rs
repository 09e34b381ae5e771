//! Several streams: read by one application, their items and rejects told apart.

use aws_sdk_kinesis::primitives::Blob;

use crate::support::{self, TABLE, World, text};

const STREAMS: &str = "orders-*, payments";

async fn world() -> World {
    let world = World::tutorial(1).await;
    for name in ["orders-a", "orders-b", "payments"] {
        let create = world.kinesis.create_stream().stream_name(name);
        create.shard_count(1).send().await.unwrap();
    }
    world
}

async fn put(world: &World, stream: &str, key: &str, data: &str) {
    let put = world.kinesis.put_record().stream_name(stream);
    let put = put.partition_key(key).data(Blob::new(data));
    put.send().await.unwrap();
}

#[tokio::test]
async fn items_and_rejects_name_their_stream_and_the_later_arrival_wins() {
    let world = world().await;
    world.rejects_table("rejects").await;
    for stream in ["orders-a", "orders-b", "payments"] {
        put(&world, stream, stream, r#"{"v":1}"#).await;
    }
    put(&world, "orders", "none", "{}").await;
    let consumer = world
        .consumer("pod-1")
        .without("STREAM_NAME")
        .with("STREAMS", STREAMS)
        .with("REJECTS_TABLE", "rejects")
        .start();
    for stream in ["orders-a", "orders-b", "payments"] {
        let item = world.user_when(stream, |_| true).await;
        let shard = text(&item, "kinesis_shard");
        let (_, rest) = shard.split_once(':').unwrap();
        assert!(rest.starts_with(&format!("{stream}:")), "{shard}");
        assert!(rest.ends_with(":shardId-000000000000"), "{shard}");
    }
    put(&world, "orders-a", "both", r#"{"v":1}"#).await;
    world.user_when("both", |_| true).await;
    put(&world, "payments", "both", r#"{"v":2}"#).await;
    let later = world
        .user_when("both", |item| {
            text(item, "kinesis_shard").contains("payments")
        })
        .await;
    assert_eq!(later["v"].as_n().unwrap(), "2");

    put(&world, "orders-b", "bad", "no JSON").await;
    let ask = async || world.items("rejects").await.into_iter().next();
    let reject = support::until("the reject", ask).await;
    let stream = text(&reject, "stream");
    assert!(stream.contains(":orders-b:"), "{stream}");
    assert_eq!(text(&reject, "shard"), "shardId-000000000000");
    assert!(text(&reject, "record").starts_with(&format!("{stream}/shardId-")));
    consumer.stop().await;
    let items = world.items(TABLE).await;
    assert!(items.iter().all(|item| text(item, "email") != "none"));
}

#[tokio::test]
async fn a_table_of_one_stream_is_refused_with_what_would_be_right() {
    let world = world().await;
    let one = world.consumer("pod-1").start();
    put(&world, "orders", "one", "{}").await;
    world.user_when("one", |_| true).await;
    one.stop().await;
    let several = world
        .consumer("pod-1")
        .without("STREAM_NAME")
        .with("STREAMS", STREAMS);
    let (code, log) = several.run().await;
    assert_eq!(code, 1, "{log}");
    for wanted in [
        "not the lease table of an application that reads several streams",
        "a lease of an application that reads one stream",
        "another name",
    ] {
        assert!(log.contains(wanted), "{log}");
    }
    let both = world.consumer("pod-1").with("STREAMS", STREAMS);
    let (code, log) = both.run().await;
    assert_eq!(code, 2, "{log}");
    assert!(
        log.contains("--streams") && log.contains("--stream-name"),
        "{log}"
    );
}
