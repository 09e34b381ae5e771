//! Many applications, each with 100 shards on which it is caught up: how soon all is decided, how
//! old verdicts become, and what a probe costs.
//!
//! `cargo bench --bench scaler -- applications`. `APPLICATIONS` (100) says how many. They share a
//! stream; each has a lease table of its own and is asked once a refresh.

use std::time::Duration;

use embedded_kinesis::{Config, EmbeddedKinesis};
use keda_kinesis_scaler::proto::external_scaler_client::ExternalScalerClient;
use tokio::time::{Instant, sleep};

use super::{
    application::{create_lease_table, object, serve},
    process::{Scaler, values},
};

const SHARDS: usize = 100;
const REFRESH: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(120);
const COLD_AT_MOST: Duration = Duration::from_secs(300);

pub(crate) async fn run() {
    let binary = super::binary();
    let applications = std::env::var("APPLICATIONS").map_or(100, |it| it.parse().unwrap());
    let kinesis = EmbeddedKinesis::start(Config::default()).await.unwrap();
    let aws = test_support::aws::kinesis(&kinesis.endpoint());
    let create = aws.create_stream().stream_name("large");
    create.shard_count(SHARDS as i32).send().await.unwrap();
    let database = dynoxide::Database::memory().unwrap();
    let name = |number: usize| format!("application-{number}");
    for number in 0..applications {
        create_lease_table(&database, &name(number), 0..SHARDS);
    }
    let dynamodb = serve(database).await;
    println!(
        "{applications} applications x {SHARDS} caught-up shards, a refresh of 15 s; {binary}\n"
    );

    let scaler = Scaler::with(&binary, "{refresh: 15s}", false).await;
    let client = ExternalScalerClient::new(scaler.channel.clone());
    let begin = Instant::now();
    for number in 0..applications {
        let object = object(&kinesis, &dynamodb, &name(number), "lag");
        let mut client = client.clone();
        tokio::spawn(async move {
            sleep(REFRESH.mul_f64(number as f64 / applications as f64)).await;
            loop {
                let _ = client.is_active(object.clone()).await;
                sleep(REFRESH).await;
            }
        });
    }
    let undecided = |metrics: &str| {
        let known = values(metrics, "keda_kinesis_scaler_undecided_shards");
        let known: Vec<_> = known.collect();
        known.iter().sum::<f64>() as usize + (applications - known.len()) * SHARDS
    };
    loop {
        let left = undecided(&scaler.metrics().await);
        if left == 0 {
            break println!(
                "  all decided after             {:>8.1} s",
                begin.elapsed().as_secs_f64()
            );
        }
        if begin.elapsed() > COLD_AT_MOST {
            break println!(
                "  undecided after {} s         {left:>8}",
                COLD_AT_MOST.as_secs()
            );
        }
        sleep(Duration::from_millis(500)).await;
    }
    kinesis.clear_calls();
    let (cpu, begin) = (scaler.cpu_seconds(), Instant::now());
    let (mut oldest, mut most_undecided) = (0.0_f64, 0);
    while begin.elapsed() < MEASURED {
        sleep(Duration::from_secs(2)).await;
        let metrics = scaler.metrics().await;
        let ages = values(&metrics, "keda_kinesis_scaler_oldest_verdict_age_seconds");
        oldest = ages.fold(oldest, f64::max);
        most_undecided = most_undecided.max(undecided(&metrics));
    }
    let (cpu, took) = (scaler.cpu_seconds() - cpu, begin.elapsed().as_secs_f64());
    let probes = kinesis.count("GetRecords") as f64;
    println!("  oldest verdict that stood in  {oldest:>8.1} s");
    println!("  most shards undecided         {most_undecided:>8}");
    println!("  probes a second               {:>8.0}", probes / took);
    println!(
        "  CPU                           {:>8.1} % of a core",
        cpu / took * 100.0
    );
    println!(
        "  CPU a probe, all included     {:>8.3} ms",
        cpu / probes * 1e3
    );
    println!(
        "  RSS                           {:>8.1} MiB",
        scaler.rss_mib()
    );
}
