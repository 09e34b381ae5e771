//! A property: streams resharded at random are read whole.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Workers that only follow the rules read every shard below the first leases, each after its
    /// parents, and forget none; also if one of them dies between SHARD_END and its children's
    /// leases, as only a buggy one would.
    #[test]
    fn every_shard_is_read_after_its_parents(
        start in 1_usize..5, choices in prop::collection::vec(any::<u8>(), 0..12), forget: u64, clean: bool,
    ) {
        let stream = reshard(start, &choices);
        let roots: Vec<_> = stream.iter().filter(|shard| shard.parents.is_empty()).cloned().collect();
        let mut table = initial(&roots, InitialPosition::TrimHorizon).expect("the first shards cover all");
        let mut read: Vec<ShardId> = Vec::new();
        for round in 0..10 * stream.len() {
            for lease in missing(&stream, &table, InitialPosition::TrimHorizon).expect("consistent") {
                prop_assert!(!read.contains(&lease.key.shard), "{} would be read twice", lease.key.shard);
                table.push(lease);
            }
            let snapshot = table.clone();
            let now = readability(&stream, &table, InitialPosition::TrimHorizon).expect("consistent");
            for index in 0..snapshot.len() {
                let lease = table[index].clone();
                if now[&lease.key.shard] != (Readability::Readable { start: None }) {
                    continue;
                }
                let shard = stream.iter().find(|shard| shard.id == lease.key.shard).expect("a shard");
                table[index].checkpoint = Checkpoint::At(Position {
                    sequence_number: SequenceNumber::try_from("9999".to_owned()).expect("digits"),
                    sub_sequence_number: 0,
                });
                let told = child_shards(&lease.key.shard, &stream);
                if !shard.closed || absent_merge_parent(&told, &snapshot).is_some() {
                    continue;
                }
                read.push(lease.key.shard.clone());
                table[index].checkpoint = Checkpoint::ShardEnd;
                if forget >> (round % 64) & 1 == 1 {
                    continue;
                }
                for child in children(&lease, &told) {
                    if table.iter().all(|lease| lease.key.shard != child.key.shard) {
                        table.push(child);
                    }
                }
            }
            if clean {
                let gone = deletable(&table, &stream);
                table.retain(|lease| !gone.contains(lease));
            }
        }
        let open: BTreeSet<_> = stream.iter().filter(|shard| !shard.closed).map(|shard| &shard.id).collect();
        let unfinished: BTreeSet<_> = table.iter().filter(|lease| !lease.is_finished()).map(|lease| &lease.key.shard).collect();
        prop_assert_eq!(open, unfinished);
        prop_assert_eq!(read.len(), stream.iter().filter(|shard| shard.closed).count());
        for (at, id) in read.iter().enumerate() {
            let shard = stream.iter().find(|shard| shard.id == *id).expect("a shard");
            prop_assert!(shard.parents.iter().all(|parent| read[..at].contains(parent)), "{} before a parent", id);
        }
        prop_assert_eq!(holes(&table), []);
    }
}
