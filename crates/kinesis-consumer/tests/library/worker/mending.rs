//! What waiting does not mend: a table that cannot be used, a permission that was withdrawn.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kinesis_consumer::{
    Error, Event, KinesisError, Lasting, ProcessorError,
    test_util::{Fault, Outcome},
};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use super::world::{Answer, Running, Told, World, checkpointing, config, seconds};

// === tables that are there, and cannot be used ===

/// A told reason, and then the cause: how long is tried is a setting.
#[rstest]
#[case::being_made("CREATING")]
#[case::archived("ARCHIVED")]
#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_used_is_waited_for_as_long_as_a_setting_says(
    #[case] status: &'static str,
    #[values(true, false)] is_running: bool,
) {
    let world = World::new(2);
    world.table().set_status((!is_running).then_some(status));
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(200)).await;
    world.table().set_status(None);
    world.put(0, 2);
    sleep(seconds(60)).await;
    assert_eq!(world.delivered_once(0), [0, 1], "it goes on when it can");
    let of =
        |wanted: fn(&Event) -> bool| world.told().iter().filter(|told| told.is(wanted)).count();
    let failing =
        |event: &Event| matches!(event, Event::Failing { error, .. } if error.contains("it is"));
    if !is_running {
        assert_eq!(of(failing), 1);
        assert_eq!(of(|event| matches!(event, Event::Recovered { .. })), 1);
    }

    world.table().set_status(Some(status));
    let began = Instant::now();
    let worker = match is_running {
        true => worker,
        false => {
            worker.kill().await;
            world.start(config("a"), checkpointing())
        }
    };
    let error = worker.error().await;
    assert!(matches!(error, Error::Table { .. }), "{error}");
    let took = began.elapsed();
    assert!((seconds(295)..seconds(420)).contains(&took), "{took:?}");
}

// === permissions ===

/// A worker whose calls of that operation are denied while the switch is on.
fn denied(world: &World, operation: &'static str) -> (Arc<AtomicBool>, Running) {
    let switch = Arc::new(AtomicBool::new(false));
    let is_on = Arc::clone(&switch);
    let table = world.table().with_faults(move |call| {
        let is_denied = is_on.load(Ordering::Relaxed) && call.operation == operation;
        Fault {
            outcome: if is_denied {
                Outcome::Denied
            } else {
                Outcome::Done
            },
            ..Fault::default()
        }
    });
    (switch, world.start_on(config("a"), table, checkpointing()))
}

#[rstest]
#[case::renewing("renew")]
#[case::scanning("scan")]
#[case::looking_for_kcl_3("kcl3_state")]
#[tokio::test(start_paused = true)]
async fn a_permission_that_stays_withdrawn_ends_the_worker(#[case] operation: &'static str) {
    let world = World::new(2);
    let (switch, worker) = denied(&world, operation);
    sleep(seconds(90)).await;
    switch.store(true, Ordering::Relaxed);
    let withdrawn = Instant::now();
    let error = worker.error().await;
    assert!(matches!(error, Error::Table { .. }), "{error}");
    assert!(error.to_string().contains("denied by fault"), "{error}");
    let took = withdrawn.elapsed();
    assert!((seconds(295)..seconds(400)).contains(&took), "{took:?}");
    let leases = world.table().leases();
    assert!(
        leases.iter().all(|lease| lease.owner.is_none()),
        "{leases:#?}"
    );
    let failing = |told: &Told| told.is(|event| matches!(event, Event::Failing { .. }));
    assert!(world.told().iter().any(failing));
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_comes_back_in_time_ends_nothing() {
    let world = World::new(2);
    let (switch, worker) = denied(&world, "renew");
    for _ in 0..5 {
        switch.store(true, Ordering::Relaxed);
        sleep(seconds(200)).await;
        switch.store(false, Ordering::Relaxed);
        sleep(seconds(100)).await;
    }
    let of =
        |wanted: fn(&Event) -> bool| world.told().iter().filter(|told| told.is(wanted)).count();
    assert_eq!(of(|event| matches!(event, Event::Failing { .. })), 5);
    assert_eq!(of(|event| matches!(event, Event::Recovered { .. })), 5);
    worker.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_denied_ends_the_worker() {
    let world = World::new(1);
    let worker = world.start(config("a"), checkpointing());
    sleep(seconds(30)).await;
    world.refuse(
        0,
        (0..1000).map(|_| KinesisError::Permanent("key disabled".into())),
    );
    let error = worker.error().await;
    assert!(matches!(error, Error::Stream { .. }), "{error}");
    assert!(error.to_string().contains("key disabled"), "{error}");
}

// === what a processor writes to ===

/// Fails while the switch is on.
fn failing(switch: &Arc<AtomicBool>, error: fn() -> ProcessorError) -> Answer {
    let switch = Arc::clone(switch);
    Arc::new(move |_, _, checkpointer| {
        let fails = switch.load(Ordering::Relaxed);
        Box::pin(async move {
            if fails {
                return Err(error());
            }
            Ok(checkpointer.checkpoint().await?)
        })
    })
}

fn lasting() -> ProcessorError {
    Lasting("its table is gone".into()).into()
}

#[tokio::test(start_paused = true)]
async fn a_lasting_failure_of_a_processor_ends_the_worker_and_others_do_not() {
    let world = World::new(2);
    let on = Arc::new(AtomicBool::new(true));
    let worker = world.start(config("a"), failing(&on, || "not this record".into()));
    world.put(0, 5);
    sleep(seconds(3600)).await;
    worker.stop().await.unwrap();

    let worker = world.start(config("b"), failing(&on, lasting));
    let began = Instant::now();
    let error = worker.error().await;
    let text = error.to_string();
    assert!(
        matches!(error, Error::Processor { .. }) && text.contains("its table is gone"),
        "{text}"
    );
    let took = began.elapsed();
    assert!((seconds(300)..seconds(380)).contains(&took), "{took:?}");
    let leases = world.table().leases();
    assert!(leases.iter().all(|lease| lease.owner.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_works_again_in_time_ends_nothing() {
    let world = World::new(2);
    let switch = Arc::new(AtomicBool::new(false));
    let worker = world.start(config("a"), failing(&switch, lasting));
    for _ in 0..5 {
        switch.store(true, Ordering::Relaxed);
        world.put(0, 5);
        sleep(seconds(200)).await;
        switch.store(false, Ordering::Relaxed);
        sleep(seconds(100)).await;
    }
    let of =
        |wanted: fn(&Event) -> bool| world.told().iter().filter(|told| told.is(wanted)).count();
    assert_eq!(of(|event| matches!(event, Event::Failing { .. })), 5);
    assert_eq!(of(|event| matches!(event, Event::Recovered { .. })), 5);
    assert_eq!(world.delivered_once(0), (0..25).collect::<Vec<_>>());
    worker.stop().await.unwrap();
}
