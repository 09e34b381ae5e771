//! 1,000 ScaledObjects over 50 streams, asked as KEDA asks, with time compressed tenfold.
//!
//! `cargo bench --bench scaler`. The scaler runs as a process of its own, an embedded Kinesis and
//! the client in this one. `SCALER_BIN=target/dist/keda-kinesis-scaler cargo bench --bench scaler`
//! measures that binary instead.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use embedded_kinesis::EmbeddedKinesis;
use keda_kinesis_scaler::proto::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tonic::transport::Channel;

use super::process::Scaler;
use test_support::own_cpu_seconds;

const OBJECTS: usize = 1_000;
const STREAMS: usize = 50;
/// KEDA's poll every 10 s, tenfold.
const POLL: Duration = Duration::from_secs(1);
/// The scaler's refresh of 15 s, tenfold.
const REFRESH: Duration = Duration::from_millis(1_500);
const PACED: Duration = Duration::from_secs(15);
const FLAT_OUT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 64;
const STARTS: usize = 11;

type Client = ExternalScalerClient<Channel>;

pub(crate) async fn run() {
    let binary = super::binary();
    let size = fs::metadata(&binary).unwrap().len();

    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    create_streams(&kinesis).await;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Scaler::start(&binary, REFRESH).await.started_in);
    }
    starts.sort_unstable();

    let scaler = Scaler::start(&binary, REFRESH).await;
    let client = ExternalScalerClient::new(scaler.channel.clone());
    sleep(Duration::from_secs(1)).await;
    let rss_at_rest = scaler.rss_mib();
    let objects: Arc<Vec<_>> = Arc::new((0..OBJECTS).map(|n| object(n, &kinesis)).collect());
    warm_up(&client, &objects).await;

    kinesis.clear_calls();
    let (cpu, begin) = (scaler.cpu_seconds(), Instant::now());
    let mut latencies = paced(&client, &objects).await;
    let (cpu, took) = (scaler.cpu_seconds() - cpu, begin.elapsed());
    let described = kinesis.count("DescribeStreamSummary");
    let all_calls = kinesis.count("*");
    latencies.sort_unstable();
    let percentile = |p: f64| latencies[((latencies.len() - 1) as f64 * p) as usize];
    let refreshes = took.as_secs_f64() / REFRESH.as_secs_f64();

    let (cpu_before, own_before, begin) = (scaler.cpu_seconds(), own_cpu_seconds(), Instant::now());
    let rpcs = flat_out(&client, &objects).await;
    let flat_out_took = begin.elapsed().as_secs_f64();
    let scaler_cpu = scaler.cpu_seconds() - cpu_before;
    let own_cpu = own_cpu_seconds() - own_before;
    let rss_under_load = scaler.rss_mib();

    let row =
        |name: &str, value: String, wanted: &str| println!("{name:<44} {value:>14}   {wanted}");
    println!("{OBJECTS} ScaledObjects over {STREAMS} streams; {binary}\n");
    row(
        "AWS calls per stream and refresh",
        format!("{:.2}", all_calls as f64 / STREAMS as f64 / refreshes),
        "wanted: 1",
    );
    row(
        "  of them DescribeStreamSummary",
        format!("{described} of {all_calls}"),
        "",
    );
    row(
        "RPCs in the paced run, a second",
        format!("{:.0}", latencies.len() as f64 / took.as_secs_f64()),
        "",
    );
    row(
        "RPC p50",
        format!("{:.0} µs", percentile(0.50).as_secs_f64() * 1e6),
        "",
    );
    row(
        "RPC p99",
        format!("{:.0} µs", percentile(0.99).as_secs_f64() * 1e6),
        "wanted: under 2000 µs",
    );
    row(
        "CPU of the scaler in the paced run",
        format!("{:.1} %", cpu / took.as_secs_f64() * 100.0),
        "of one core",
    );
    row(
        "RPCs a second, flat out",
        format!("{:.0}", rpcs as f64 / flat_out_took),
        "client on the same machine",
    );
    row(
        "RPCs per CPU second of the scaler",
        format!("{:.0}", rpcs as f64 / scaler_cpu),
        "on one core",
    );
    row(
        "RPCs per CPU second of this client",
        format!("{:.0}", rpcs as f64 / own_cpu),
        "",
    );
    row(
        "RSS at rest",
        format!("{rss_at_rest:.1} MiB"),
        "wanted: at most 25 MiB",
    );
    row("RSS under load", format!("{rss_under_load:.1} MiB"), "");
    row(
        "exec to serving, median",
        format!("{:.1} ms", starts[STARTS / 2].as_secs_f64() * 1e3),
        "wanted: within 100 ms",
    );
    row(
        "exec to serving, worst",
        format!("{:.1} ms", starts[STARTS - 1].as_secs_f64() * 1e3),
        "",
    );
    row(
        "binary",
        format!("{:.1} MiB", size as f64 / (1 << 20) as f64),
        "wanted: under 20 MiB, stripped",
    );
}

async fn create_streams(kinesis: &EmbeddedKinesis) {
    let aws = test_support::aws::kinesis(&kinesis.endpoint());
    for stream in 0..STREAMS {
        let create = aws.create_stream().stream_name(format!("stream-{stream}"));
        create.shard_count(4).send().await.unwrap();
    }
}

fn object(number: usize, kinesis: &EmbeddedKinesis) -> ScaledObjectRef {
    let metadata = [
        ("scalerAddress", "keda-kinesis-scaler.keda:6000".to_owned()),
        ("streamName", format!("stream-{}", number % STREAMS)),
        ("awsRegion", "us-east-1".to_owned()),
        ("awsEndpoint", kinesis.endpoint()),
        ("shardCount", (number % 3 + 1).to_string()),
    ];
    ScaledObjectRef {
        name: format!("scaled-object-{number}"),
        namespace: format!("team-{}", number % 10),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    }
}

/// One tick of KEDA's scale loop. The times that its three RPCs took.
async fn tick(client: &mut Client, object: &ScaledObjectRef) -> [Duration; 3] {
    let begin = Instant::now();
    let specs = client.get_metric_spec(object.clone()).await.unwrap();
    let spec = begin.elapsed();
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object.clone()),
        metric_name: specs.into_inner().metric_specs[0].metric_name.clone(),
    };
    let begin = Instant::now();
    let metrics = client.get_metrics(request).await.unwrap().into_inner();
    let value = begin.elapsed();
    assert_eq!(metrics.metric_values[0].metric_value_float, 4.0);
    let begin = Instant::now();
    let active = client.is_active(object.clone()).await.unwrap();
    let active_took = begin.elapsed();
    assert!(active.into_inner().result);
    [spec, value, active_took]
}

async fn warm_up(client: &Client, objects: &[ScaledObjectRef]) {
    let mut client = client.clone();
    for object in objects {
        tick(&mut client, object).await;
    }
}

/// Every ScaledObject at its own moment of each poll interval.
async fn paced(client: &Client, objects: &Arc<Vec<ScaledObjectRef>>) -> Vec<Duration> {
    let mut loops = JoinSet::new();
    let end = Instant::now() + PACED;
    for number in 0..objects.len() {
        let (mut client, objects) = (client.clone(), Arc::clone(objects));
        loops.spawn(async move {
            sleep(POLL.mul_f64(number as f64 / objects.len() as f64)).await;
            let mut ticks = interval(POLL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut latencies = Vec::new();
            while Instant::now() < end {
                ticks.tick().await;
                latencies.extend(tick(&mut client, &objects[number]).await);
            }
            latencies
        });
    }
    loops.join_all().await.concat()
}

/// As many RPCs as will go. How many that was.
async fn flat_out(client: &Client, objects: &Arc<Vec<ScaledObjectRef>>) -> usize {
    let stop = Arc::new(AtomicBool::new(false));
    let mut loops = JoinSet::new();
    for first in 0..AT_ONCE {
        let (mut client, objects, stop) = (client.clone(), Arc::clone(objects), Arc::clone(&stop));
        loops.spawn(async move {
            let mut rpcs = 0;
            for object in objects.iter().cycle().skip(first) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                rpcs += tick(&mut client, object).await.len();
            }
            rpcs
        });
    }
    sleep(FLAT_OUT).await;
    stop.store(true, Ordering::Relaxed);
    loops.join_all().await.into_iter().sum()
}
