//! Consumers killed at random moments while the stream is resharded: the table ends equal to what
//! was sent.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Consumer, STREAM, TABLE, World, text, until};
use aws_sdk_kinesis::types::ScalingType;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const KILLS: usize = 10;
/// Users that every round writes again: only the newest may stay.
const AGAIN: usize = 20;
/// Users that one round writes: none may be missing.
const NEW: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_during_reshards_the_table_ends_equal_to_what_was_sent() {
    let world = World::tutorial(2).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let enough = CancellationToken::new();

    // The pauses spread records, reshards and kills over each other: what meets what is the point
    // of the randomness.
    let producer = async {
        let mut sent = BTreeMap::new();
        let mut round = 0;
        while !enough.is_cancelled() {
            let again = (0..AGAIN).map(|user| format!("user-{user}"));
            let new = (0..NEW).map(|user| format!("user-{round}-{user}"));
            let records: Vec<_> = again
                .chain(new)
                .map(|user| (user, format!("round {round}")))
                .collect();
            world
                .put_all(
                    records
                        .iter()
                        .map(|(user, text)| (user.clone(), format!(r#"{{"text":"{text}"}}"#))),
                )
                .await;
            sent.extend(records);
            round += 1;
            sleep(Duration::from_millis(100)).await;
        }
        sent
    };
    let reshards = async {
        for count in [4, 3, 2].iter().cycle() {
            tokio::select! {
                () = enough.cancelled() => break,
                () = sleep(Duration::from_millis(1500)) => {}
            }
            let update = world.kinesis.update_shard_count().stream_name(STREAM);
            update
                .scaling_type(ScalingType::UniformScaling)
                .target_shard_count(*count)
                .send()
                .await
                .unwrap();
        }
    };
    let kills = async {
        let mut names = 1..;
        let mut start = || {
            let name = format!("pod-{}", names.next().unwrap());
            world.consumer(&name).with("FAILOVER_TIME", "500ms").start()
        };
        let mut pods = vec![start(), start()];
        for _ in 0..KILLS {
            // One that works: killing one that has no shard yet shows nothing.
            let victim = until("a consumer at work", async || {
                let working: Vec<usize> =
                    (0..pods.len()).filter(|pod| works(&pods[*pod])).collect();
                (!working.is_empty()).then(|| working[random.usize(..working.len())])
            })
            .await;
            sleep(Duration::from_millis(random.u64(..400))).await;
            pods.swap_remove(victim).kill().await;
            pods.push(start());
        }
        enough.cancel();
        pods
    };
    let (sent, (), pods) = tokio::join!(producer, reshards, kills);

    until("the table equals what was sent", async || {
        let items = world.items(TABLE).await;
        let stored: BTreeMap<_, _> = items
            .iter()
            .map(|item| (text(item, "email"), text(item, "text")))
            .collect();
        (stored == sent).then_some(())
    })
    .await;
    for pod in pods {
        pod.stop().await;
    }
}

fn works(pod: &Consumer) -> bool {
    pod.log().contains("shard started")
}
