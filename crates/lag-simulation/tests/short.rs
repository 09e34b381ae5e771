//! The simulation in short: a few workloads, with seeds that nothing was tuned on, within bounds
//! that chance does not reach and broken rules do. The whole of it is in docs/lag.md.

use lag_simulation::{
    cluster::{Consumer, Placement},
    policy::{Eyes, Policy},
    report::{Score, Scores},
    run::{Moment, Setup, run},
    workload::{Workload, held_out, known},
};

const SEEDS: [u64; 2] = [21, 22];
const MIXED: [&str; 6] = ["steady60", "step", "bursts", "hot", "reshard", "3 shards"];

fn named(name: &str) -> Workload {
    let mut all = known().into_iter().chain(held_out());
    all.find(|workload| workload.name == name)
        .unwrap_or_else(|| panic!("no workload is called {name}"))
}

/// The means over workloads and seeds.
fn score(names: &[&str], policy: Policy, setup: &Setup) -> Score {
    let workloads: Vec<Workload> = names.iter().map(|name| named(name)).collect();
    Scores::default().fill(|scores| scores.over(&workloads, policy, setup, &SEEDS))
}

/// At most so much of everything.
fn within(score: Score, most: Score) {
    let is = [score.pods, score.p99, score.above, score.changes];
    let may = [most.pods, most.p99, most.above, most.changes];
    let too_much = is.iter().zip(may).any(|(is, may)| *is > may);
    assert!(
        !too_much && score.max <= most.max,
        "{score:?}, not within {most:?}"
    );
    // Fewer pods than this leave records behind, whatever the other figures say.
    assert!(score.pods > 0.8, "{score:?}");
}

#[test]
fn a_few_more_pods_than_an_oracle_and_records_stay_young() {
    let score = score(&MIXED, Policy::Lag, &Setup::new(Consumer::Own));
    within(
        score,
        Score {
            pods: 1.25,
            p99: 42.0,
            max: 130,
            above: 0.4,
            changes: 3.0,
            ..Score::default()
        },
    );
}

#[test]
fn also_when_leases_move_as_slowly_as_javas() {
    let score = score(&MIXED, Policy::Lag, &Setup::new(Consumer::Java));
    within(
        score,
        Score {
            pods: 1.3,
            p99: 90.0,
            max: 200,
            above: 3.0,
            changes: 3.2,
            ..Score::default()
        },
    );
}

#[test]
fn also_when_pods_say_how_busy_they_are_and_then_nothing_is_tried() {
    let score = score(&MIXED, Policy::Busy, &Setup::new(Consumer::Own));
    within(
        score,
        Score {
            pods: 1.3,
            p99: 30.0,
            max: 130,
            above: 0.4,
            changes: 3.2,
            ..Score::default()
        },
    );
}

#[test]
fn leases_dealt_by_load_need_fewer_pods_for_hot_shards_and_noise() {
    let own = Setup::new(Consumer::Own);
    let by_load = Setup {
        placement: Placement::Load,
        ..own
    };
    for (name, part) in [("hot", 0.7), ("moving hot", 0.7), ("noisy", 0.95)] {
        let [number, load] = [own, by_load].map(|setup| score(&[name], Policy::Busy, &setup));
        assert!(
            load.pods < part * number.pods,
            "{name}: {load:?}, {number:?}"
        );
        let is_late = load.p99 > number.p99.max(30.0) || load.above > number.above;
        assert!(!is_late, "{name}: {load:?}, {number:?}");
    }
    // Where shards are alike it is as good as the number.
    for name in ["steady60", "step", "diurnal", "merge"] {
        let [number, load] = [own, by_load].map(|setup| score(&[name], Policy::Busy, &setup));
        assert!(
            load.pods < number.pods + 0.05,
            "{name}: {load:?}, {number:?}"
        );
        assert!(load.p99 < number.p99 + 5.0, "{name}: {load:?}, {number:?}");
    }
}

#[test]
fn a_step_is_answered_within_minutes_and_then_left_alone() {
    for seed in SEEDS {
        let outcome = run(
            &named("step"),
            Policy::Lag,
            &Setup::new(Consumer::Own),
            seed,
        );
        // Four pods' load, in twelve shards: of five pods one would have three of them.
        let (from, to) = (3600 + 420, 9000);
        let during = |moment: &&Moment| (from..to).contains(&moment.second);
        let pods = outcome.moments.iter().filter(during).map(|it| it.replicas);
        let (least, most) = (pods.clone().min(), pods.max());
        assert!(
            least >= Some(4) && most <= Some(6),
            "{least:?} to {most:?} pods, seed {seed}"
        );
        let late = outcome
            .moments
            .iter()
            .filter(during)
            .filter(|it| it.age > 30);
        assert!(
            late.count() < 20,
            "late for more than five minutes, seed {seed}"
        );
    }
}

#[test]
fn a_steady_load_is_tried_with_fewer_and_left_in_peace() {
    let score = score(
        &["steady60", "steady90"],
        Policy::Lag,
        &Setup::new(Consumer::Own),
    );
    within(
        score,
        Score {
            pods: 1.1,
            p99: 32.0,
            max: 60,
            above: 0.0,
            changes: 1.5,
            ..Score::default()
        },
    );
}

#[test]
fn what_a_scaler_may_meet_costs_little() {
    let plain = Setup::new(Consumer::Own);
    let bad_eyes = Eyes {
        jitter: 10,
        throttled: 0.2,
        skew: 5,
        ..Eyes::default()
    };
    let met = [
        Setup {
            eyes: bad_eyes,
            ..plain
        },
        Setup {
            stuck: Some(3600),
            ..plain
        },
        Setup {
            two_scalers: true,
            ..plain
        },
        Setup {
            checkpoint: 60,
            threshold: 120,
            ..plain
        },
    ];
    for setup in met {
        let score = score(&["steady60", "hot"], Policy::Lag, &setup);
        let most = Score {
            pods: 1.8,
            p99: 1.5 * setup.threshold as f64,
            max: 4 * setup.threshold,
            above: 0.5,
            changes: 3.5,
            ..Score::default()
        };
        within(score, most);
    }
}

#[test]
fn counting_late_shards_swings() {
    let score = score(&["step"], Policy::LateShards, &Setup::new(Consumer::Own));
    assert!(
        score.changes > 10.0,
        "{score:?}: the simulation tells nothing apart"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    let story = || {
        run(
            &named("3 shards"),
            Policy::Lag,
            &Setup::new(Consumer::Java),
            21,
        )
        .story
    };
    assert_eq!(story(), story());
    assert!(story().len() > 2, "{:?}", story());
}
