//! What can be read now: tables, and a property against a model that runs an application to its
//! end.

use super::*;

/// `0! 1 2<1 3-` : finished, readable, waits for 1, not wanted. `4=LATEST`: readable, its lease is
/// yet to be created there.
fn verdicts(stream: &[Shard], leases: &[Lease], position: InitialPosition) -> String {
    let verdicts = readability(stream, leases, position).expect("a consistent list");
    let text = |(id, verdict): (ShardId, _)| match verdict {
        Readability::Finished => format!("{id}!"),
        Readability::Readable { start: None } => id.to_string(),
        Readability::Readable { start: Some(start) } => format!("{id}={start}"),
        Readability::WaitsFor(parents) => {
            format!("{id}<{}", Vec::from_iter(parents).join("+"))
        }
        Readability::NotWanted => format!("{id}-"),
    };
    verdicts.into_iter().map(text).collect::<Vec<_>>().join(" ")
}

#[rstest]
#[case::open_shards("0. 1.", "0 1", "0 1")]
#[case::no_leases_at_all("0 0>1. 0>2.", "", "0=TRIM_HORIZON 1<0 2<0")]
#[case::split("0 0>1. 0>2.", "0 1 2", "0 1<0 2<0")]
#[case::split_whose_children_have_no_leases("0 0>1 1>2. 0>3.", "0", "0 1<0 2<1 3<0")]
#[case::split_read_to_its_end("0 0>1. 0>2.", "0! 1=TRIM_HORIZON 2", "0! 1 2")]
#[case::child_left_behind("0 0>1. 0>2.", "0! 1", "0! 1 2=TRIM_HORIZON")]
#[case::merge_waits_for_both("0 1 0+1>2.", "0 1 2", "0 1 2<0+1")]
#[case::merge_waits_for_one("0 1 0+1>2.", "0! 1 2", "0! 1 2<1")]
#[case::merge_without_lease("0 1 0+1>2.", "0! 1", "0! 1 2<1")]
#[case::merge_whose_other_side_comes_later("0 1 1>3 0+3>2.", "0! 1", "0! 1 2<3 3<1")]
#[case::merge_whose_other_side_was_never_read("0 1 0+1>2.", "0!", "0! 1=TRIM_HORIZON 2<1")]
#[case::finished_parents_were_cleaned_up("0 0>1. 0>2.", "1 2", "0- 1 2")]
#[case::started_below_closed_shards("0 0>1 1>2. 3.", "2=LATEST 3=LATEST", "0- 1- 2 3")]
#[case::finished_below_unread("0 0>1 1>2. 1>3.", "1! 2 3", "0- 1! 2 3")]
#[case::the_stream_has_forgotten_the_parent("0>1. 0>2.", "0! 1 2", "1 2")]
#[case::and_the_parent_was_not_read_to_its_end("0>1. 0>2.", "0 1", "1 2=TRIM_HORIZON")]
#[case::garbage_rows_say_nothing("0. 1.", "0 1 7 8!", "0 1")]
#[case::fixture_after_the_split("0 1. 0>2. 0>3.", "0! 1 2 3", "0! 1 2 3")]
#[case::fixture_after_the_merge("0 1. 0>2 0>3 2+3>4.", "0! 1 2! 3! 4", "0! 1 2! 3! 4")]
#[case::java_example(
    JAVA,
    "4 5 7",
    "0=TRIM_HORIZON 1=TRIM_HORIZON 10<5 2- 3- 4 5 6<0+1 7 8<6+7 9<5"
)]
fn says_what_can_be_read(#[case] stream: &str, #[case] table: &str, #[case] want: &str) {
    let stream = shards(stream);
    let leases = leases(table, &stream);
    assert_eq!(
        verdicts(&stream, &leases, InitialPosition::TrimHorizon),
        want
    );
}

#[test]
fn where_the_application_starts_matters_to_shards_that_no_lease_leads_to() {
    let stream = shards("0 0>1. 2.");
    let verdicts = |table, position| verdicts(&stream, &leases(table, &stream), position);
    let oldest = "0=TRIM_HORIZON 1<0 2";
    assert_eq!(
        verdicts("2=LATEST", InitialPosition::Latest),
        "0- 1=LATEST 2"
    );
    assert_eq!(
        verdicts("2", InitialPosition::Latest),
        oldest,
        "it got going"
    );
    assert_eq!(verdicts("2", InitialPosition::TrimHorizon), oldest);
}

#[test]
fn a_lease_that_lacks_its_parents_waits_for_nobody() {
    let stream = shards("0 0>1.");
    let mut leases = leases("0 1", &stream);
    leases[1].parents.clear();
    assert_eq!(
        verdicts(&stream, &leases, InitialPosition::TrimHorizon),
        "0 1"
    );
}

#[test]
fn a_list_that_raced_a_reshard_says_nothing() {
    readability(&shards("0. 0>1."), &[], InitialPosition::Latest).expect_err("inconsistent");
}

/// Which shards are read at first, and which ever, by an application that finishes whatever it can
/// in rounds. Written without the function's own notions: only what [`missing`] and the worker's
/// wait for parents do.
fn run(
    stream: &[Shard],
    table: &[Lease],
    position: InitialPosition,
) -> (BTreeSet<ShardId>, BTreeSet<ShardId>) {
    let mut table = table.to_vec();
    let (mut first, mut ever) = (None, BTreeSet::new());
    for _ in 0..=2 * stream.len() {
        for lease in &mut table {
            if stream.iter().all(|shard| shard.id != lease.key.shard) {
                lease.checkpoint = Checkpoint::ShardEnd;
            }
        }
        table.extend(missing(stream, &table, position).expect("consistent"));
        let finished = |id: &ShardId| {
            table
                .iter()
                .filter(|lease| lease.key.shard == *id)
                .all(Lease::is_finished)
        };
        let now: BTreeSet<_> = table
            .iter()
            .filter(|lease| !lease.is_finished() && lease.parents.iter().all(finished))
            .map(|lease| lease.key.shard.clone())
            .collect();
        ever.extend(now.iter().cloned());
        for lease in table.clone() {
            let shard = stream.iter().find(|shard| shard.id == lease.key.shard);
            if !now.contains(&lease.key.shard) || !shard.is_some_and(|shard| shard.closed) {
                continue;
            }
            for child in children(&lease, &child_shards(&lease.key.shard, stream)) {
                if table.iter().all(|lease| lease.key.shard != child.key.shard) {
                    table.push(child);
                }
            }
            for finished in table.iter_mut().filter(|other| other.key == lease.key) {
                finished.checkpoint = Checkpoint::ShardEnd;
            }
        }
        first.get_or_insert(now);
    }
    (first.unwrap_or_default(), ever)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Whatever leases a table has, likely or not, and whatever the stream has forgotten.
    #[test]
    fn agrees_with_an_application_that_runs(
        start in 1_usize..5,
        choices in prop::collection::vec(any::<u8>(), 0..10),
        table in prop::collection::vec(0_u8..4, 24),
        forgotten in 0_usize..4,
        latest: bool,
    ) {
        let whole = reshard(start, &choices);
        let leases: Vec<_> = whole
            .iter()
            .zip(&table)
            .filter_map(|(shard, kind)| match kind {
                0 => None,
                // Closed shards only are read to their end.
                1 if shard.closed => Some(new_lease(shard, Checkpoint::ShardEnd)),
                _ => Some(new_lease(shard, Checkpoint::Latest)),
            })
            .collect();
        let oldest = whole.iter().take_while(|shard| shard.closed).count().min(forgotten);
        let stream = &whole[oldest..];
        let position = if latest { InitialPosition::Latest } else { InitialPosition::TrimHorizon };
        let position = late_position(&leases, position);
        let (first, ever) = run(stream, &leases, position);
        let verdicts = readability(stream, &leases, position).expect("consistent");
        prop_assert_eq!(verdicts.len(), stream.len());
        for (id, verdict) in verdicts {
            let finished = leases.iter().any(|lease| lease.key.shard == id && lease.is_finished());
            let want = match verdict {
                Readability::Finished => finished,
                Readability::Readable { start } => {
                    first.contains(&id) && start.is_none() == leases.iter().any(|lease| lease.key.shard == id)
                }
                Readability::WaitsFor(parents) => {
                    let shard = stream.iter().find(|shard| shard.id == id).expect("a shard");
                    !parents.is_empty() && parents.is_subset(&shard.parents) && ever.contains(&id) && !first.contains(&id)
                }
                Readability::NotWanted => !finished && !ever.contains(&id),
            };
            prop_assert!(want, "{} : first {:?}, ever {:?}, leases {:?}", id, first, ever, leases);
        }
    }
}

#[test]
fn a_lineage_of_a_hundred_thousand_shards_is_walked() {
    let number = 100_000;
    let id = |n: usize| n.to_string();
    let mut chain: Vec<_> = (1..number)
        .map(|n| shard(&id(n), &[&id(n - 1)], n + 1 < number))
        .collect();
    chain.insert(0, shard("0", &[], true));
    let oldest = Lease::new("0", Checkpoint::TrimHorizon);
    let mut finished = oldest.clone();
    finished.checkpoint = Checkpoint::ShardEnd;
    for (leases, first) in [(vec![], "0"), (vec![oldest], "0"), (vec![finished], "1")] {
        let known = readability(&chain, &leases, InitialPosition::TrimHorizon).expect("a list");
        let is_readable = |it: &Readability| matches!(it, Readability::Readable { .. });
        let readable = known.iter().filter(|(_, it)| is_readable(it));
        let readable: Vec<_> = readable.map(|(id, _)| id.as_str()).collect();
        assert_eq!(readable, [first]);
    }
}
