//! Why a decision is what it is, as values. `sentences.rs` makes the sentences.

/// Why it is that many replicas. `pods` is the number wished by this decision.
///
/// [`Display`](std::fmt::Display) and JSON give the sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The first refresh: the pods that hold leases are taken as right.
    FirstLook {
        /// Pods that hold a lease.
        running: u32,
    },
    /// Owners of leases that were believed at the first refresh are dead.
    OwnersDead {
        /// How many.
        dead: u32,
        /// The pods wished.
        pods: u32,
    },
    /// No readable shard is known: nothing can be decided, and what was wished stays.
    NoShards {
        /// The pods wished.
        pods: u32,
    },
    /// Of some shards nothing is known yet: what runs stays.
    Undecided {
        /// Shards of which nothing is known.
        undecided: u32,
        /// Readable shards.
        shards: u32,
        /// The pods wished.
        pods: u32,
    },
    /// Checkpoints stand, of whole pods or of a third of the shards: what ran stays.
    Outage {
        /// The pods wished.
        pods: u32,
        /// Shards whose checkpoint stands.
        standing: u32,
        /// Shards with something unread, or read since the last of those stopped.
        unread: u32,
        /// Shards of which nothing is known now.
        undecided: u32,
        /// Since the first of them was last seen to move, in ms.
        stands_ms: u64,
        /// A pod of which nothing moves.
        pod: Option<String>,
        /// How many more such pods there are.
        more_pods: usize,
        /// Whether those pods hold no lease any more.
        gone: bool,
        /// Whether no pod does.
        nobody: bool,
    },
    /// Checkpoints stand for longer than usual: nothing is tried.
    CheckpointsStand {
        /// How many.
        shards: u32,
        /// The pods wished.
        pods: u32,
    },
    /// Shards could not be looked into for a while, or most of them now: nothing is tried.
    NotLookedInto {
        /// How many.
        shards: u32,
        /// The pods wished.
        pods: u32,
    },
    /// Checkpoints stand for longer than usual while fewer pods are tried: what that comes to
    /// cannot be seen.
    TrialBrokenOff {
        /// The pods that were tried.
        tried: u32,
        /// How many checkpoints stand.
        shards: u32,
        /// The pods wished.
        pods: u32,
    },
    /// The backlog of an outage is read.
    BacklogRead {
        /// The pods that ran before the outage, which are now wished.
        pods: u32,
        /// The pods that read it.
        from: u32,
    },
    /// Nobody takes some shards: the pods hold as many leases as they may.
    PodsFull {
        /// Shards that nobody takes.
        shards: u32,
        /// The most shards that a pod holds.
        per_pod: u32,
        /// The pods wished.
        pods: u32,
    },
    /// Pods that came took shards that nobody took before: those that ran were full.
    LimitShown {
        /// The most leases that a pod takes.
        per_pod: u32,
        /// The pods wished.
        pods: u32,
    },
    /// More pods were wished for shards that nobody takes, and took none.
    NobodyTook {
        /// Shards that nobody takes.
        shards: u32,
        /// The pods that were tried.
        tried: u32,
        /// The pods wished.
        pods: u32,
    },
    /// On time, but for shards that nobody takes, with more pods neither.
    Untaken {
        /// Shards that nobody takes.
        shards: u32,
        /// The pods wished.
        pods: u32,
    },
    /// On time, and a pod takes no more leases than it has.
    LeaseLimit {
        /// The pods wished.
        pods: u32,
        /// The most leases that a pod was seen to take.
        limit: u32,
    },
    /// Nothing is unread and nothing runs.
    NothingUnread {
        /// Wished when there is work again.
        pods: u32,
    },
    /// On time with one pod.
    OnTime {
        /// The pods wished.
        pods: u32,
    },
    /// On time, and it has to stay so before fewer pods are tried.
    Quiet {
        /// The pods wished.
        pods: u32,
        /// For so much longer, in ms.
        left_ms: u64,
    },
    /// Fewer pods are being tried.
    Trying {
        /// The pods that are tried.
        pods: u32,
        /// The trial has held after so much longer, in ms.
        left_ms: u64,
    },
    /// A trial begins.
    FewerTried {
        /// The pods to try.
        pods: u32,
        /// The pods that were on time.
        from: u32,
    },
    /// A trial made records late.
    TrialFailed {
        /// The pods that were too few.
        tried: u32,
        /// The shard that fell behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// Position gained, in thousandths of a second per second.
        progress_milli: u64,
        /// The pods wished.
        pods: u32,
    },
    /// On time, and a pod is known not to carry the shards that fewer pods would give it.
    CarryKnown {
        /// The pods wished.
        pods: u32,
        /// Shards that a pod carries, in thousandths.
        carry_milli: u64,
        /// Shards per pod that come next.
        next: u32,
        /// They are tried in so long, in ms.
        left_ms: u64,
    },
    /// On time; by what the pods say, fewer would be too busy.
    FewerTooBusy {
        /// The pods wished.
        pods: u32,
    },
    /// By what the pods say, fewer suffice.
    NotBusy {
        /// The pods wished.
        pods: u32,
    },
    /// A pod says that it is too busy.
    TooBusy {
        /// Shards of that pod.
        holds: u32,
        /// How busy it is, in thousandths.
        busy_milli: u64,
        /// Shards per pod that are wished.
        per_pod: u32,
    },
    /// The same where shards are not dealt by number.
    TooBusyTogether {
        /// Shards of that pod.
        holds: u32,
        /// How busy it is, in thousandths.
        busy_milli: u64,
        /// How busy all are together, in thousandths of a pod.
        together_milli: u64,
        /// The pods wished.
        pods: u32,
    },
    /// Pods are wished, and none holds a lease.
    NoneRun {
        /// The pods wished.
        pods: u32,
    },
    /// On time although fewer pods hold leases than were wished: they are taken as right.
    FewerRun {
        /// Pods that hold a lease, which are now wished.
        running: u32,
    },
    /// On time, and more pods hold leases than are wished.
    MoreRun {
        /// The pods wished.
        pods: u32,
        /// Pods that hold a lease.
        running: u32,
    },
    /// A shard is behind by too much to try fewer pods, and not late.
    Uneasy {
        /// The shard that is furthest behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
    },
    /// The latest shard has no owner.
    LateWithoutOwner {
        /// The shard, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// The pods wished.
        pods: u32,
    },
    /// Late, and no pod with more than one shard was watched for long enough.
    LateUnmeasured {
        /// The shard that is furthest behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// The pods wished.
        pods: u32,
    },
    /// Late by a shard that has a pod of its own: more pods do not help.
    LateAlone {
        /// The shard that is furthest behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// Position gained by the shard that is too big, in thousandths of a second per second.
        progress_milli: u64,
        /// The shard that is too big for one pod, by id.
        too_big: String,
    },
    /// Late, and the pods that are wished catch up.
    LateButEnough {
        /// The shard of the tightest pod that is furthest behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// Position gained, in thousandths of a second per second.
        progress_milli: u64,
        /// The pods wished.
        pods: u32,
    },
    /// Late, and a pod carries fewer shards than it has.
    LateBeyondCarry {
        /// The shard of the tightest pod that is furthest behind, by id.
        shard: String,
        /// How far it is behind, in ms.
        lag_ms: u64,
        /// Position gained, in thousandths of a second per second.
        progress_milli: u64,
        /// Shards that the pod carries, in thousandths.
        carry_milli: u64,
        /// Shards that it has.
        holds: u32,
        /// Shards per pod that suffice.
        per_pod: u32,
        /// Pods that suffice, where shards are not dealt by number.
        pods: Option<u32>,
        /// What comes of it.
        remedy: Remedy,
    },
}

/// What comes of a pod that has more shards than it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Remedy {
    /// More pods, now.
    MorePods,
    /// None: `shardCount` allows no more pods.
    AtTheLimit,
    /// The pods that are wished already.
    Awaited {
        /// The pods wished.
        pods: u32,
        /// Pods that hold a lease.
        running: u32,
    },
    /// More pods, unless the last change suffices: the shard gains.
    UnlessItSuffices,
    /// More pods, when the last change has settled.
    WhenSettled,
}

/// What a user should know besides.
///
/// [`Display`](std::fmt::Display) and JSON give the sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// `lagThreshold` is less than twice the checkpoint interval.
    ThresholdTooShort {
        /// `lagThreshold`, in ms.
        threshold_ms: u64,
        /// The checkpoint interval, in ms.
        interval_ms: u64,
        /// The threshold that is used instead, in ms.
        used_ms: u64,
    },
    /// A checkpoint does not move although something is unread: the shard is left out.
    Standing {
        /// The shard, by id.
        shard: String,
        /// For how long, in ms.
        stands_ms: u64,
    },
    /// More checkpoints do not move than are named.
    MoreStanding {
        /// So many more.
        shards: usize,
    },
    /// Rows of the lease table cannot be read: their shards are left out.
    Malformed {
        /// The first of the shards, by id.
        shard: String,
        /// How many more there are.
        more: usize,
    },
    /// Nobody takes these shards, more pods neither.
    NobodyTakes {
        /// The first of them, by id.
        shard: String,
        /// How many more there are.
        more: usize,
        /// The pods that did not take them.
        pods: u32,
    },
    /// A shard falls behind on a pod of its own.
    TooBig {
        /// The shard, by id.
        shard: String,
    },
}
