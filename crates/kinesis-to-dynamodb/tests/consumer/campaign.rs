//! Each AWS operation of the consumer × each fault × moments: the table ends equal to the stream.
//!
//! A sample runs with the other tests; `.ci/long campaign` runs all of it.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_kinesis::types::ScalingType;
use test_support::{
    PATIENCE, Proxy,
    campaign::{Campaign, Cell, Moment, Outcome},
    walk,
};
use tokio::time::{sleep, timeout};

use crate::support::{APPLICATION, Consumer, STREAM, Setup, TABLE, World, text};

const CAMPAIGN: Campaign = Campaign {
    name: "The consumer while AWS fails",
    operations: &[
        ("ListShards", &[Moment::Start]),
        ("GetShardIterator", &[Moment::Start, Moment::Reshard]),
        ("GetRecords", &Moment::ALL),
        ("DescribeTable", &[Moment::Start]),
        ("CreateTable", &[Moment::Start]),
        ("Scan", &[Moment::Start, Moment::Reshard]),
        ("BatchGetItem", &[Moment::Start]),
        ("PutItem", &Moment::ALL),
        ("UpdateItem", &Moment::ALL),
    ],
    at_once: 4,
    // Nothing takes so long; a machine that does much else must not decide.
    limit: Duration::from_secs(900),
};

/// Rounds of records; the trouble comes in the middle.
const ROUNDS: usize = 8;
/// Users that each round writes again: only the newest may stay.
const AGAIN: usize = 10;
/// Fewer calls than are to fail may come.
const UNTIL_MET: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_ends_equal_to_the_stream_whatever_aws_does() {
    let cells = CAMPAIGN.cells();
    CAMPAIGN.run(cells, scenario).await.judge();
}

/// A consumer that is started again when it ends, as a kubelet does.
struct Pod {
    setup: Setup,
    running: Consumer,
    restarts: usize,
}

impl Pod {
    fn start(setup: Setup) -> Self {
        Self {
            running: setup.start(),
            setup,
            restarts: 0,
        }
    }

    /// Starts it again if it has ended. That is for what it cannot go on from, and said by code 1.
    fn keep(&mut self) {
        if let Some(status) = self.running.has_ended() {
            assert_eq!(status.code(), Some(1), "{}", self.running.log());
            self.restarts += 1;
            self.running = self.setup.start();
        }
    }
}

async fn scenario(cell: Cell) -> Result<Outcome, String> {
    let mut random = fastrand::Rng::with_seed(cell.random_seed());
    let world = World::tutorial(2).await;
    let kinesis = Proxy::start(&world.embedded.endpoint()).await;
    let proxies = [&kinesis, &*world.dynamodb];
    let times = random.usize(1..=6);
    let inject = || {
        for proxy in proxies {
            let fault = cell.trouble.fault(cell.operation);
            proxy.faults().inject(cell.operation, fault, times);
        }
    };
    let met = || {
        proxies
            .iter()
            .map(|it| it.tally(cell.operation).faults)
            .sum()
    };

    if cell.moment == Moment::Start {
        inject();
    }
    let setup = world
        .consumer("pod-1")
        .with("AWS_ENDPOINT_URL_KINESIS", &kinesis.endpoint())
        // A busy machine must not lose leases: it is AWS that fails here.
        .with("FAILOVER_TIME", "3s");
    let mut pod = Pod::start(setup);
    if cell.moment != Moment::Start {
        world.put("first", r#"{"round":"first"}"#).await;
        world.user_when("first", |_| true).await;
    }
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 && cell.moment != Moment::Start {
            inject();
            if cell.moment == Moment::Reshard {
                let update = world.kinesis.update_shard_count().stream_name(STREAM);
                let update = update.scaling_type(ScalingType::UniformScaling);
                update.target_shard_count(3).send().await.unwrap();
            }
        }
        put(&world, round).await;
        pod.keep();
        // Spreads records over the trouble.
        sleep(Duration::from_millis(random.u64(50..200))).await;
    }
    let all_met = async {
        while met() < times as u64 {
            pod.keep();
            sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(UNTIL_MET, all_met).await;
    for proxy in proxies {
        proxy.faults().clear();
    }
    put(&world, ROUNDS).await;

    let wanted = stream(&world).await;
    let mut last = BTreeMap::new();
    let equal = async {
        while last != wanted {
            pod.keep();
            sleep(Duration::from_millis(20)).await;
            last = stored(&world).await;
        }
    };
    if timeout(PATIENCE, equal).await.is_err() {
        let differs = wanted
            .iter()
            .filter(|(user, round)| last.get(*user) != Some(*round));
        let differs: Vec<_> = differs.collect();
        let log = pod.running.log();
        let end: Vec<_> = log.lines().rev().take(40).collect();
        let end: Vec<_> = end.into_iter().rev().collect();
        return Err(format!(
            "the table is not equal to the stream: {differs:?}\n{}",
            end.join("\n")
        ));
    }
    let restarts = pod.restarts;
    pod.running.stop().await;
    for lease in world.items(APPLICATION).await {
        if lease.contains_key("leaseOwner") {
            return Err(format!("after SIGTERM a lease has an owner: {lease:?}"));
        }
    }
    if stored(&world).await != wanted {
        return Err("the table changed with SIGTERM".to_owned());
    }
    Ok(Outcome {
        met: met(),
        note: match restarts {
            0 => String::new(),
            1 => "1 restart".to_owned(),
            restarts => format!("{restarts} restarts"),
        },
    })
}

async fn put(world: &World, round: usize) {
    let again = (0..AGAIN).map(|user| format!("user-{user}"));
    let users = again.chain([format!("user-of-round-{round}")]);
    let data = format!(r#"{{"round":"{round}"}}"#);
    world.put_all(users.map(|user| (user, data.clone()))).await;
}

/// The round of each user's newest record.
async fn stream(world: &World) -> BTreeMap<String, String> {
    let newest = walk::newest(&world.kinesis, STREAM).await;
    let rounds = newest.into_iter().map(|(user, data)| {
        let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
        (user, data["round"].as_str().unwrap().to_owned())
    });
    rounds.collect()
}

async fn stored(world: &World) -> BTreeMap<String, String> {
    let items = world.items(TABLE).await;
    let rounds = items
        .iter()
        .map(|item| (text(item, "email"), text(item, "round")));
    rounds.collect()
}
