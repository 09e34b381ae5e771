//! Leases of an older stream of the same name, which was deleted and made anew. Each stream of a
//! table is judged by itself.

use std::collections::HashMap;

use kinesis_consumer::{
    ShardId,
    lease::Lease,
    shards::{Shard, open_but_finished, recreated},
};

/// How often in a row each stream's leases did not fit its shards.
#[derive(Debug, Default)]
pub(super) struct OlderStreams(HashMap<String, u32>);

/// A stream whose leases do not fit its shards.
#[derive(Debug)]
pub(super) struct Misfit {
    /// `account:name:epoch`, or empty where the table is of one stream.
    pub(super) stream: String,
    /// A shard whose lease it is.
    pub(super) shard: ShardId,
    /// Looks in a row.
    pub(super) looks: u32,
}

impl OlderStreams {
    /// The streams with a lease that was finished, or is ahead, before its shard began. `leases`:
    /// sorted by stream. `is_kept`: the list of that stream's shards is of an earlier look, and
    /// proves nothing.
    pub(super) fn follow(
        &mut self,
        shards: &[Shard],
        leases: &[Lease],
        is_kept: impl Fn(&str) -> bool,
    ) -> Vec<Misfit> {
        let shards = shards.chunk_by(|one, next| stream_of(&one.id) == stream_of(&next.id));
        let shards: HashMap<_, _> = shards.map(|it| (stream_of(&it[0].id), it)).collect();
        let mut before = std::mem::take(&mut self.0);
        let mut misfits = Vec::new();
        for leases in leases.chunk_by(|one, next| of(one) == of(next)) {
            let stream = of(&leases[0]);
            let Some(shards) = shards.get(stream) else {
                continue;
            };
            let shard = open_but_finished(leases, shards).or_else(|| recreated(leases, shards));
            let Some(shard) = shard else {
                continue;
            };
            let looks = before.remove(stream).unwrap_or_default();
            let looks = looks.saturating_add(u32::from(!is_kept(stream)));
            let stream = stream.to_owned();
            self.0.insert(stream.clone(), looks);
            misfits.push(Misfit {
                stream,
                shard,
                looks,
            });
        }
        misfits
    }
}

impl Misfit {
    /// Is it certain since this look?
    pub(super) fn is_new(&self) -> bool {
        self.looks == 2
    }

    /// One list may lag behind a reshard, two in a row do not.
    pub(super) fn is_certain(&self) -> bool {
        self.looks >= 2
    }
}

/// The stream of a lease: `account:name:epoch`, or nothing where the table is of one stream.
pub(super) fn of(lease: &Lease) -> &str {
    stream_of(&lease.key.shard)
}

fn stream_of(shard: &ShardId) -> &str {
    // A shard's own id has no colon.
    let key = shard.as_str().rsplit_once(':');
    key.map_or("", |(stream, _)| stream)
}
