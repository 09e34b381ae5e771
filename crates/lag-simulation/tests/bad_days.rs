//! Some of the bad days, in short: what must hold on them, on a seed that nothing was tuned on. All
//! of them are run with the tables of docs/lag.md.

use lag_simulation::{
    bad_day::bad_days,
    cluster::Consumer,
    generator::generated,
    workload::{Workload, known},
};

fn steady() -> Workload {
    let mut all = known().into_iter();
    all.find(|workload| workload.name == "steady60")
        .expect("a workload")
}

fn holds(kinds: &[&str]) {
    let days = bad_days();
    for kind in kinds {
        let mut of_kind = days.iter().filter(|day| day.name.contains(kind)).peekable();
        assert!(of_kind.peek().is_some(), "no bad day is called {kind}");
        for bad_day in of_kind {
            let day = bad_day.run(&steady(), Consumer::Own, 31);
            assert!(day.broken.is_empty(), "{}: {:?}", bad_day.name, day.broken);
        }
    }
}

#[test]
fn what_ran_stays_in_an_outage_and_its_backlog_is_read_as_an_oracle_reads_it() {
    holds(&["stand for 2 h"]);
}

#[test]
fn so_it_does_when_pods_are_replaced_and_where_each_has_one_shard() {
    holds(&["replaced every 30 min", "a fourth of the pods"]);
}

#[test]
fn who_is_denied_as_the_consumer_is_holds_what_ran() {
    holds(&["the key is denied", "the same for half"]);
}

#[test]
fn habits_and_a_restored_table_are_no_outage() {
    holds(&["checkpoints every 5 min", "restored"]);
}

#[test]
fn shards_beyond_a_limit_of_leases_find_an_owner() {
    holds(&["leases of 12", "starts 5 min later"]);
}

#[test]
fn pods_that_come_and_go_are_no_outage() {
    holds(&["rolling deploy", "killed every 10 min"]);
}

#[test]
fn clocks_do_not_matter_where_awss_time_is_known() {
    holds(&["clock 35 s"]);
}

#[test]
fn a_poisoned_shard_and_throttled_probes_are_no_outage() {
    holds(&["poisoned", "throttled"]);
}

#[test]
fn a_seed_is_a_workload() {
    let written = |seed| format!("{:?}", generated(seed));
    assert_eq!(written(7), written(7));
    assert_ne!(written(7), written(8));
}
