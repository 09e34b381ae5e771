//! What goes wrong meanwhile: AWS, certificates, configurations.

use std::{sync::Arc, time::Duration};

use embedded_kinesis::{FOREVER, Fault};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{clients::Counted, scaler::Scaler, world::World};

const OPERATIONS: [&str; 5] = [
    "DescribeStreamSummary",
    "ListShards",
    "Scan",
    "GetShardIterator",
    "GetRecords",
];

/// Begins; faults come and go until `stop`.
pub(super) fn start(
    world: &Arc<World>,
    scaler: &Arc<Scaler>,
    stop: &CancellationToken,
) -> JoinHandle<Counted> {
    let (world, scaler, stop) = (Arc::clone(world), Arc::clone(scaler), stop.clone());
    tokio::spawn(async move {
        let mut counted = Counted::default();
        let mut random = fastrand::Rng::with_seed(0);
        let mut round = 0_usize;
        while !stop.is_cancelled() {
            if random.bool() {
                let operation = OPERATIONS[random.usize(..OPERATIONS.len())];
                let fault = fault(operation, &mut random);
                let faults = match operation {
                    "Scan" => world.dynamodb.faults(),
                    _ => world.kinesis.faults(),
                };
                faults.inject(operation, fault, FOREVER);
                counted.count("faults");
            }
            if round.is_multiple_of(3) {
                scaler.rotate();
                counted.count("rotations");
            }
            if !round.is_multiple_of(2) {
                scaler.configure(round);
                counted.count("reloads");
            }
            round += 1;
            sleep(Duration::from_millis(random.u64(200..1_000))).await;
            // Some last longer than the last good answers stand in.
            if random.u8(..3) > 0 {
                world.heal();
            }
        }
        counted
    })
}

fn fault(operation: &str, random: &mut fastrand::Rng) -> Fault {
    match random.u8(..9) {
        0 => Fault::throttling_of(operation),
        1 => Fault::internal_error(),
        2 => Fault::Status(503),
        3 => Fault::Hang,
        4 => Fault::Reset,
        5 => Fault::HalfBody,
        6 => Fault::Garbage,
        7 => Fault::expired_token(),
        _ => Fault::access_denied(),
    }
}
