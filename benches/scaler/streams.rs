//! 5,000 streams of one account with default settings, against a Kinesis that enforces AWS's rates,
//! asked 10,000 times a minute; then 10,000 push streams.
//!
//! `cargo bench --bench scaler -- streams`. Once in plain text and once with TLS.

use std::time::Duration;

use embedded_kinesis::{Config, EmbeddedKinesis};
use keda_kinesis_scaler::proto::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tonic::transport::Channel;

use super::process::{Scaler, values};

const STREAMS: usize = 5_000;
const RPCS_A_MINUTE: usize = 10_000;
const PUSH_STREAMS: usize = 10_000;
const MEASURED: Duration = Duration::from_secs(60);
/// Prometheus' usual interval.
const SCRAPED: Duration = Duration::from_secs(15);

pub(crate) async fn run() {
    let binary = super::binary();
    println!("{STREAMS} streams, {RPCS_A_MINUTE} RPCs a minute; {binary}");
    for tls in [false, true] {
        println!("\n{}", if tls { "TLS" } else { "plain text" });
        measure(&binary, tls).await;
    }
}

async fn measure(binary: &str, tls: bool) {
    let config = Config {
        shard_limit: STREAMS,
        ..Config::default()
    };
    let kinesis = EmbeddedKinesis::start(config).await.unwrap();
    let aws = test_support::aws::kinesis(&kinesis.endpoint());
    for number in 0..STREAMS {
        let create = aws.create_stream().stream_name(format!("stream-{number}"));
        create.shard_count(1).send().await.unwrap();
    }
    kinesis.configure(|config| config.api_limits = true);
    let scaler = Scaler::with(binary, "{}", tls).await;
    let client = ExternalScalerClient::new(scaler.channel.clone());
    let objects: Vec<_> = (0..STREAMS).map(|n| object(n, &kinesis)).collect();
    paced(&client, &objects, MEASURED).await;

    kinesis.clear_calls();
    let (cpu, begin) = (scaler.cpu_seconds(), Instant::now());
    let asked = paced(&client, &objects, MEASURED);
    let ages = async {
        let mut oldest = 0.0_f64;
        while begin.elapsed() < MEASURED {
            sleep(SCRAPED).await;
            let metrics = scaler.metrics().await;
            let ages = values(&metrics, "keda_kinesis_scaler_oldest_snapshot_age_seconds");
            oldest = ages.fold(oldest, f64::max);
        }
        oldest
    };
    // Others use half of the account's quota.
    let others = async {
        let (mut throttled, mut ticks) = (0, interval(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begin.elapsed() < MEASURED {
            ticks.tick().await;
            let theirs = aws.describe_stream_summary().stream_name("stream-0");
            throttled += usize::from(theirs.send().await.is_err());
        }
        throttled
    };
    let (failed, oldest, throttled) = tokio::join!(asked, ages, others);
    let (cpu, took) = (scaler.cpu_seconds() - cpu, begin.elapsed().as_secs_f64());
    println!("  oldest answer                 {oldest:>8.1} s");
    println!("  RPCs that failed              {failed:>8}");
    println!("  others' calls throttled       {throttled:>8}");
    println!(
        "  AWS calls a second            {:>8.0}",
        kinesis.count("*") as f64 / took
    );
    println!(
        "  CPU                           {:>8.1} % of a core",
        cpu / took * 100.0
    );
    println!(
        "  RSS                           {:>8.1} MiB",
        scaler.rss_mib()
    );

    let mut open = Vec::with_capacity(PUSH_STREAMS);
    for object in objects.iter().cycle().take(PUSH_STREAMS) {
        let states = client.clone().stream_is_active(object.clone()).await;
        open.push(states.unwrap().into_inner());
    }
    for states in &mut open {
        assert!(states.message().await.unwrap().unwrap().result);
    }
    let (cpu, begin) = (scaler.cpu_seconds(), Instant::now());
    sleep(MEASURED / 2).await;
    let (cpu, took) = (scaler.cpu_seconds() - cpu, begin.elapsed().as_secs_f64());
    println!(
        "  {PUSH_STREAMS} push streams: CPU      {:>8.1} % of a core",
        cpu / took * 100.0
    );
    println!(
        "  {PUSH_STREAMS} push streams: RSS      {:>8.1} MiB",
        scaler.rss_mib()
    );
}

fn object(number: usize, kinesis: &EmbeddedKinesis) -> ScaledObjectRef {
    let metadata = [
        ("scalerAddress", "keda-kinesis-scaler.keda:6000".to_owned()),
        ("streamName", format!("stream-{number}")),
        ("awsRegion", "us-east-1".to_owned()),
        ("awsEndpoint", kinesis.endpoint()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    ScaledObjectRef {
        name: format!("scaled-object-{number}"),
        namespace: format!("team-{}", number % 10),
        scaler_metadata: metadata.into_iter().collect(),
    }
}

/// Each ScaledObject in turn, GetMetrics and IsActive; how many of them failed.
async fn paced(
    client: &ExternalScalerClient<Channel>,
    objects: &[ScaledObjectRef],
    time: Duration,
) -> usize {
    let mut ticks = interval(Duration::from_secs(60) * 2 / RPCS_A_MINUTE as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begin = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    for object in objects.iter().cycle() {
        ticks.tick().await;
        if begin.elapsed() >= time {
            break;
        }
        let (mut client, object) = (client.clone(), object.clone());
        asked.spawn(async move {
            let name = format!("aws-kinesis-{}", object.scaler_metadata["streamName"]);
            let active = client.is_active(object.clone()).await.is_ok();
            let metrics = client.get_metrics(GetMetricsRequest {
                scaled_object_ref: Some(object),
                metric_name: name,
            });
            usize::from(!active) + usize::from(metrics.await.is_err())
        });
    }
    asked.join_all().await.into_iter().sum()
}
