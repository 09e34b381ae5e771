//! An empty table gets a lease for each shard of a whole list.

use super::*;

#[test]
fn an_empty_table_gets_a_lease_for_each_shard() {
    let listed = [ranged("1", 10, u128::MAX), ranged("0", 0, 9)];
    for (position, want) in [
        (InitialPosition::Latest, "0=LATEST 1=LATEST"),
        (
            InitialPosition::TrimHorizon,
            "0=TRIM_HORIZON 1=TRIM_HORIZON",
        ),
        (AT, "0=AT_TIMESTAMP 1=AT_TIMESTAMP"),
    ] {
        let leases = initial(&listed, position).expect("no holes");
        assert_eq!(text(&leases), want);
        assert!(
            leases[0].parents.contains("9"),
            "parents are written even if they have no lease"
        );
    }
    assert_eq!(
        initial_filter(AT),
        ShardFilter::AtTimestamp(jiff::Timestamp::UNIX_EPOCH)
    );
}

#[rstest]
#[case::none(&[], Hole::Missing(HashRange { start: 0, end: u128::MAX }))]
#[case::at_the_start(&[(1, u128::MAX)], Hole::Missing(HashRange { start: 0, end: 0 }))]
#[case::between(&[(0, 4), (7, u128::MAX)], Hole::Missing(HashRange { start: 5, end: 6 }))]
#[case::at_the_end(&[(0, 4)], Hole::Missing(HashRange { start: 5, end: u128::MAX }))]
#[case::overlap(&[(0, 4), (3, u128::MAX)], Hole::Overlap(HashRange { start: 3, end: 4 }))]
#[case::overlap_at_the_end(&[(0, u128::MAX), (7, 8)], Hole::Overlap(HashRange { start: 7, end: 8 }))]
fn an_empty_table_waits_for_a_whole_list(#[case] ranges: &[(u128, u128)], #[case] want: Hole) {
    let listed: Vec<_> = ranges
        .iter()
        .map(|&(start, end)| ranged("1", start, end))
        .collect();
    assert_eq!(initial(&listed, InitialPosition::Latest), Err(want));
}
