//! Tables, the example of KCL's source among them.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::model::sequence::{Position, SequenceNumber};

mod empty;
mod readable;
mod reading;

const AT: InitialPosition = InitialPosition::AtTimestamp(jiff::Timestamp::UNIX_EPOCH);

fn shard(id: &str, parents: &[&str], closed: bool) -> Shard {
    Shard {
        id: id.into(),
        parents: parents.iter().map(|&parent| parent.into()).collect(),
        hash_range: HashRange {
            start: 0,
            end: u128::MAX,
        },
        starting_sequence_number: format!("{}", 100 + id.parse::<u64>().expect("a number"))
            .parse()
            .expect("digits"),
        closed,
    }
}

/// `"0 1 2>6"`: shard 0, 1, and 6 with parent 2; `2+3>7`: a merge; a trailing `.`: open.
fn shards(table: &str) -> Vec<Shard> {
    let shard = |text: &str| {
        let closed = !text.ends_with('.');
        let text = text.trim_end_matches('.');
        match text.split_once('>') {
            Some((parents, id)) => shard(id, &parents.split('+').collect::<Vec<_>>(), closed),
            None => shard(text, &[], closed),
        }
    };
    table.split_whitespace().map(shard).collect()
}

/// `"4 5!"`: a lease for 4, a finished one for 5; `6=LATEST`: at that checkpoint.
fn leases(table: &str, shards: &[Shard]) -> Vec<Lease> {
    let lease = |text: &str| {
        let (key, checkpoint) = match text.split_once('=') {
            Some((key, checkpoint)) => (key, checkpoint),
            None => (
                text.trim_end_matches('!'),
                if text.ends_with('!') {
                    "SHARD_END"
                } else {
                    "1000"
                },
            ),
        };
        let mut lease = Lease::new(key, Checkpoint::parse(checkpoint, 0).expect("a checkpoint"));
        if let Some(shard) = shards.iter().find(|shard| shard.id == key) {
            lease.parents.clone_from(&shard.parents);
            lease.hash_range = Some(shard.hash_range);
        }
        lease
    };
    table.split_whitespace().map(lease).collect()
}

fn text(leases: &[Lease]) -> String {
    let texts: Vec<_> = leases
        .iter()
        .map(|lease| format!("{}={}", lease.key.shard, lease.checkpoint))
        .collect();
    texts.join(" ")
}

/// The stream in the comment of `HierarchicalShardSyncer.java`.
const JAVA: &str = "0 1 2 3 4. 5 0+1>6 2+3>7 6+7>8. 5>9. 5>10.";

#[rstest]
#[case::example_latest(JAVA, "4 5 7", InitialPosition::Latest, "6=LATEST")]
#[case::example_trim_horizon(
    JAVA,
    "4 5 7",
    InitialPosition::TrimHorizon,
    "0=TRIM_HORIZON 1=TRIM_HORIZON"
)]
#[case::example_at_timestamp(JAVA, "4 5 7", AT, "0=AT_TIMESTAMP 1=AT_TIMESTAMP")]
#[case::nothing_missing("0. 1.", "0 1", InitialPosition::Latest, "")]
#[case::open_without_ancestors("0. 1.", "0", InitialPosition::Latest, "1=LATEST")]
#[case::oldest_ancestors_first(
    "0 0>1 1>2. 3.",
    "3",
    InitialPosition::TrimHorizon,
    "0=TRIM_HORIZON"
)]
#[case::latest_skips_ancestors("0 0>1 1>2. 3.", "3", InitialPosition::Latest, "2=LATEST")]
#[case::a_child_comes_at_its_parents_end("0 0>1. 0>2.", "0", InitialPosition::Latest, "")]
#[case::grandchildren_too("0 0>1 1>2.", "0", InitialPosition::TrimHorizon, "")]
#[case::left_behind_by_a_finished_parent(
    "0 0>1. 0>2.",
    "0! 1",
    InitialPosition::Latest,
    "2=TRIM_HORIZON"
)]
#[case::between_finished_and_open("0 0>1 1>2.", "0!", AT, "1=TRIM_HORIZON")]
#[case::merge_with_one_side_finished(
    "0 1 0+1>2.",
    "0! 1",
    InitialPosition::Latest,
    "2=TRIM_HORIZON"
)]
#[case::merge_whose_other_side_was_never_read(
    "0 1 0+1>2.",
    "0!",
    InitialPosition::TrimHorizon,
    "1=TRIM_HORIZON 2=TRIM_HORIZON"
)]
#[case::merge_whose_other_side_starts_further_up(
    "0 1 1>3 0+3>2.",
    "0!",
    InitialPosition::TrimHorizon,
    "1=TRIM_HORIZON"
)]
#[case::merge_whose_other_side_is_gone(
    "0 0+1>2.",
    "0!",
    InitialPosition::TrimHorizon,
    "2=TRIM_HORIZON"
)]
#[case::parent_gone_from_the_stream_but_not_read_to_its_end(
    "0>1.",
    "0",
    InitialPosition::Latest,
    ""
)]
#[case::parent_gone_from_the_stream_and_finished(
    "0>1.",
    "0!",
    InitialPosition::Latest,
    "1=TRIM_HORIZON"
)]
#[case::parent_long_forgotten("0>1.", "7", InitialPosition::Latest, "1=LATEST")]
#[case::fixture_after_the_split("0 1. 0>2. 0>3.", "0! 1 2 3", InitialPosition::TrimHorizon, "")]
#[case::fixture_after_the_merge(
    "0 1. 0>2 0>3 2+3>4.",
    "0! 1 2! 3! 4",
    InitialPosition::TrimHorizon,
    ""
)]
fn creates_what_is_missing(
    #[case] stream: &str,
    #[case] table: &str,
    #[case] position: InitialPosition,
    #[case] want: &str,
) {
    let shards = shards(stream);
    let created = missing(&shards, &leases(table, &shards), position).expect("a consistent list");
    assert_eq!(text(&created), want);
    for lease in created {
        let shard = shards
            .iter()
            .find(|shard| shard.id == lease.key.shard)
            .expect("a shard");
        assert_eq!(
            (&lease.parents, lease.hash_range),
            (&shard.parents, Some(shard.hash_range))
        );
    }
}

#[test]
fn a_list_that_raced_a_reshard_is_refused() {
    let shards = shards("0. 0>1. 0>2.");
    let error =
        missing(&shards, &leases("0", &shards), InitialPosition::Latest).expect_err("inconsistent");
    assert_eq!(error.to_string(), "shard 1 and its parent 0 are both open");
}

#[test]
fn a_mesh_of_many_reshards_is_walked_once() {
    // Each level merges and splits: two paths from each shard to the level above, 2^60 from bottom
    // to top.
    let mut mesh = vec![shard("0", &[], true), shard("1", &[], true)];
    for level in 1..60 {
        let above = [(2 * level - 2).to_string(), (2 * level - 1).to_string()];
        for id in [2 * level, 2 * level + 1] {
            mesh.push(shard(&id.to_string(), &[&above[0], &above[1]], level < 59));
        }
    }
    assert_eq!(
        text(&missing(&mesh, &[], InitialPosition::TrimHorizon).expect("consistent")),
        "0=TRIM_HORIZON 1=TRIM_HORIZON"
    );
    let finished = leases("0! 1!", &mesh);
    assert_eq!(
        text(&missing(&mesh, &finished, AT).expect("consistent")),
        "2=TRIM_HORIZON 3=TRIM_HORIZON"
    );
}

#[test]
fn lines_of_many_generations_are_walked() {
    const GENERATIONS: usize = 20_000;
    let mut line = vec![shard("0", &[], true)];
    for id in 1..GENERATIONS {
        let parent = (id - 1).to_string();
        line.push(shard(&id.to_string(), &[&parent], id + 1 < GENERATIONS));
    }
    assert_eq!(
        text(&missing(&line, &[], InitialPosition::TrimHorizon).expect("consistent")),
        "0=TRIM_HORIZON"
    );
    let finished = leases("0!", &line);
    assert_eq!(
        text(&missing(&line, &finished, AT).expect("consistent")),
        "1=TRIM_HORIZON"
    );
    let seen = readability(&line, &finished, InitialPosition::TrimHorizon).expect("consistent");
    assert_eq!(seen.len(), GENERATIONS);
}

fn ranged(id: &str, start: u128, end: u128) -> Shard {
    Shard {
        hash_range: HashRange { start, end },
        ..shard(id, &["9"], false)
    }
}

#[test]
fn children_start_at_the_trim_horizon_and_name_their_parents() {
    let listed = shards("0 1 0+1>2.");
    let told = child_shards(&"0".into(), &listed);
    let parent = Lease::new("0", Checkpoint::Latest);
    let created = children(&parent, &told);
    assert_eq!(text(&created), "2=TRIM_HORIZON");
    assert_eq!(created[0].parents, BTreeSet::from(["0".into(), "1".into()]));
    assert_eq!(
        absent_merge_parent(&told, &leases("0", &listed)),
        Some(&"1".into())
    );
    assert_eq!(absent_merge_parent(&told, &leases("0 1", &listed)), None);
    assert_eq!(absent_merge_parent(&told, &leases("5", &listed)), None);
}

#[rstest]
#[case::children_got_going("0 0>1. 0>2.", "0! 1=50 2=LATEST", "0")]
#[case::a_child_has_not_started("0 0>1. 0>2.", "0! 1=50 2=TRIM_HORIZON", "")]
#[case::a_child_has_no_lease("0 0>1. 0>2.", "0! 1=50", "")]
#[case::not_finished("0 0>1.", "0=50 1=50", "")]
#[case::oldest_first("0 0>1 1>2.", "0! 1! 2=50", "0")]
#[case::closed_without_children_is_kept_while_listed("0 1.", "0! 1=50", "")]
#[case::gone_from_the_stream("1.", "0! 1=50", "0")]
#[case::gone_but_a_child_would_be_forgotten("0>1. 2.", "0! 2=50", "")]
#[case::gone_with_a_child_that_waits("0>1. 2.", "0! 1=TRIM_HORIZON", "0")]
#[case::no_list("", "0! 1=50", "")]
fn deletes_what_nobody_needs(#[case] stream: &str, #[case] table: &str, #[case] want: &str) {
    let shards = shards(stream);
    let keys: Vec<_> = deletable(&leases(table, &shards), &shards)
        .into_iter()
        .map(|lease| lease.key.shard)
        .collect();
    assert_eq!(keys.join(" "), want);
}

#[test]
fn holes_are_what_no_unfinished_lease_covers() {
    let lease = |key: &str, range: Option<(u128, u128)>, checkpoint| Lease {
        hash_range: range.map(|(start, end)| HashRange { start, end }),
        ..Lease::new(key, checkpoint)
    };
    let low = lease("0", Some((0, 9)), Checkpoint::Latest);
    let low_end = lease("0", Some((0, 9)), Checkpoint::ShardEnd);
    let high = lease("1", Some((10, u128::MAX)), Checkpoint::Latest);
    let all = lease("2", Some((0, u128::MAX)), Checkpoint::TrimHorizon);
    let middle = lease("3", Some((3, 4)), Checkpoint::TrimHorizon);
    let unknown = lease("4", None, Checkpoint::Latest);
    let hole = |start, end| HashRange { start, end };
    assert_eq!(holes(&[low.clone(), high.clone()]), []);
    assert_eq!(holes(std::slice::from_ref(&low)), [hole(10, u128::MAX)]);
    assert_eq!(holes(&[low_end.clone(), high.clone()]), [hole(0, 9)]);
    assert_eq!(
        holes(&[low_end, high.clone(), middle.clone()]),
        [hole(0, 2), hole(5, 9)]
    );
    assert_eq!(holes(&[all, middle]), []);
    assert_eq!(holes(&[high, unknown.clone()]), []);
    assert_eq!(holes(&[]), [hole(0, u128::MAX)]);
    let shards = [ranged("4", 0, 9), ranged("0", 0, 9)];
    assert_eq!(
        hash_ranges(&[low.clone(), unknown], &shards),
        [("4".into(), hole(0, 9))]
    );
    assert_eq!(
        hash_ranges(&[low], &[ranged("0", 0, 8)]),
        [("0".into(), hole(0, 8))],
        "the stream knows better"
    );
}

#[test]
fn a_lease_says_of_its_shard_what_the_stream_says() {
    let mut lease = Lease::new("2", Checkpoint::Latest);
    lease.parents = ["0", "2", "3", "9"].map(Into::into).into();
    lease.hash_range = Some(HashRange { start: 1, end: 2 });
    correct(&mut lease, &shard("2", &["0", "1"], false));
    assert_eq!(lease.parents, BTreeSet::from(["0".into()]));
    assert_eq!(lease.hash_range.expect("a range").end, u128::MAX);
}

#[test]
fn a_stream_made_anew_shows() {
    let shards = shards("0. 1.");
    assert_eq!(recreated(&leases("0=100 1=101", &shards), &shards), None);
    assert_eq!(
        recreated(&leases("0=100 1=99", &shards), &shards),
        Some("1".into())
    );
    assert_eq!(
        recreated(&leases("0=LATEST 7=5 1=SHARD_END", &shards), &shards),
        None
    );
    // The old one was resharded, and its first leases were deleted.
    assert_eq!(
        recreated(&leases("4=7 5=TRIM_HORIZON", &shards), &shards),
        Some("5".into())
    );
    // The retention took all that is leased.
    let newer = self::shards("6. 7.");
    assert_eq!(recreated(&leases("4=7 5!", &newer), &newer), None);
}

#[test]
fn an_open_shard_with_a_finished_lease_shows() {
    let shards = shards("0 0>1. 0>2.");
    assert_eq!(
        open_but_finished(&leases("0! 1 2=7", &shards), &shards),
        None
    );
    assert_eq!(
        open_but_finished(&leases("0! 1! 2=7", &shards), &shards),
        Some("1".into())
    );
}

#[test]
fn an_end_that_no_worker_wrote_shows() {
    let shards = shards("0 0>1. 0>2. 3. 4.");
    let mut leases = leases("0! 1! 2=7 3! 4=7", &shards);
    leases[3].children = ["9".into()].into();
    assert_eq!(
        ended_by_nobody(&leases, &shards),
        BTreeSet::from(["1".into()]),
        "3 is finished, and the list lags"
    );
    let closed = self::shards("1 1>5.");
    let mut wanted = missing(&closed, &leases[1..2], InitialPosition::Latest).expect("a plan");
    assert_eq!(below_ended_by_nobody(&leases[1..2], &wanted), []);
    leases[1].stream_identity = Some("ours".to_owned());
    let below = below_ended_by_nobody(&leases[1..2], &wanted);
    assert_eq!(below, [("1".into(), "5".into())]);
    leases.append(&mut wanted);
    assert_eq!(below_ended_by_nobody(&leases, &leases), []);
}

#[test]
fn leases_that_the_stream_cannot_have_show() {
    let shards = shards("0. 1.");
    let another = |text| of_another(&leases(text, &shards), &shards);
    assert_eq!(another("0=TRIM_HORIZON 1=LATEST"), None);
    assert_eq!(another("0! 1=TRIM_HORIZON"), Some("0".into()));
    assert_eq!(another("0=TRIM_HORIZON 2=TRIM_HORIZON"), Some("2".into()));
    assert_eq!(of_another(&leases("0!", &shards), &[]), None);
}

/// A stream of random splits and merges, as `ListShards` tells it.
fn reshard(start: usize, choices: &[u8]) -> Vec<Shard> {
    let width = u128::MAX / start as u128;
    let mut shards: Vec<Shard> = Vec::new();
    for index in 0..start {
        let low = width * index as u128;
        let high = if index + 1 == start {
            u128::MAX
        } else {
            low + width - 1
        };
        shards.push(Shard {
            parents: BTreeSet::new(),
            ..ranged(&index.to_string(), low, high)
        });
    }
    for choice in choices {
        let mut open: Vec<_> = (0..shards.len())
            .filter(|&index| !shards[index].closed)
            .collect();
        open.sort_by_key(|&index| shards[index].hash_range);
        let at = usize::from(*choice >> 1) % open.len();
        let (left, right) = (open[at], open.get(at + 1).copied());
        let id = shards.len();
        let HashRange { start, end } = shards[left].hash_range;
        let child = |id: usize, parents: &[usize], start, end| {
            let parents: Vec<_> = parents.iter().map(usize::to_string).collect();
            let parents: Vec<_> = parents.iter().map(String::as_str).collect();
            Shard {
                hash_range: HashRange { start, end },
                ..shard(&id.to_string(), &parents, false)
            }
        };
        shards[left].closed = true;
        match right {
            Some(right) if choice & 1 == 1 => {
                shards[right].closed = true;
                let merged = child(id, &[left, right], start, shards[right].hash_range.end);
                shards.push(merged);
            }
            _ => {
                let middle = start + (end - start) / 2;
                shards.push(child(id, &[left], start, middle));
                shards.push(child(id + 1, &[left], middle + 1, end));
            }
        }
    }
    shards
}
