//! The sentences of decisions: all English of this crate but the errors of a replay.

use std::fmt::{Display, Formatter, Result};

use serde::{Serialize, Serializer};

use crate::{
    observation::Unknown,
    reason::{Note, Reason, Remedy},
    words::{count, decimal, shard, time},
};

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::FirstLook { running: 0 } => write!(f, "first look: nothing runs, so 1 pod"),
            Self::FirstLook { running: 1 } => write!(f, "first look: 1 pod holds leases"),
            Self::FirstLook { running } => write!(f, "first look: {running} pods hold leases"),
            Self::OwnersDead { dead, pods } => {
                let dead = count(*dead, "owner");
                write!(
                    f,
                    "{dead} of leases did not renew them: so {}",
                    count(*pods, "pod")
                )
            }
            Self::NoShards { pods } => write!(
                f,
                "undecided: {}; still {} wished",
                Unknown::NoShards,
                count(*pods, "pod")
            ),
            Self::Undecided {
                undecided,
                shards,
                pods,
            } => write!(
                f,
                "{undecided} of {} not known yet to have unread records or none: at least {}",
                if *shards == 1 {
                    "1 shard is".into()
                } else {
                    format!("{shards} shards are")
                },
                count(*pods, "pod")
            ),
            Self::Outage {
                pods,
                standing,
                unread,
                undecided,
                stands_ms,
                pod,
                more_pods,
                gone,
                nobody,
            } => {
                let of = count(*unread, "shard");
                write!(f, "outage: {standing} of {of} with unread records")?;
                if *undecided > 0 {
                    write!(f, " ({undecided} undecided)")?;
                }
                write!(f, " stand still for {}", time(*stands_ms))?;
                if let Some(pod) = pod {
                    let pods = match more_pods {
                        0 => pod.clone(),
                        n => format!("{pod} and {n} more"),
                    };
                    let are = if *more_pods == 0 { "is" } else { "are" };
                    let have = if *more_pods == 0 { "has" } else { "have" };
                    match (gone, nobody) {
                        (false, _) => write!(f, ", all that {pods} {have}")?,
                        (true, false) => write!(f, ", all that {pods} had, now gone")?,
                        (true, true) => write!(f, ": {pods} {are} gone, and nobody came")?,
                    }
                }
                if pod.is_none() && *nobody {
                    write!(f, ", and nobody came")?;
                }
                if *nobody {
                    return write!(f, "; still {} wished", count(*pods, "pod"));
                }
                stay(f, *pods)
            }
            Self::CheckpointsStand { shards, pods } => {
                checkpoints_stand(f, *shards)?;
                stay(f, *pods)
            }
            Self::NotLookedInto { shards, pods } => {
                write!(f, "{} could not be looked into", count(*shards, "shard"))?;
                stay(f, *pods)
            }
            Self::TrialBrokenOff {
                tried,
                shards,
                pods,
            } => {
                checkpoints_stand(f, *shards)?;
                let (tried, pods) = (count(*tried, "pod"), count(*pods, "pod"));
                write!(f, ": no time to try {tried}; so {pods}")
            }
            Self::BacklogRead { pods, from } => {
                on_time(f, *from)?;
                let pods = count(*pods, "pod");
                write!(
                    f,
                    ", the backlog of the outage is read: {pods} as before it"
                )
            }
            Self::PodsFull {
                shards,
                per_pod,
                pods,
            } => {
                write!(
                    f,
                    "nobody takes {}, and no pod holds more than {per_pod}: they are full; so {}",
                    count(*shards, "shard"),
                    count(*pods, "pod")
                )
            }
            Self::LimitShown { per_pod, pods } => write!(
                f,
                "pods that came took what nobody took, and no pod takes more than {}: so {}",
                count(*per_pod, "lease"),
                count(*pods, "pod")
            ),
            Self::NobodyTook {
                shards,
                tried,
                pods,
            } => write!(
                f,
                "{} were wished, and none of {} without owner was taken: back to {}",
                count(*tried, "pod"),
                count(*shards, "shard"),
                count(*pods, "pod")
            ),
            Self::Untaken { shards, pods } => {
                write!(f, "nobody takes {}; but for that ", count(*shards, "shard"))?;
                on_time(f, *pods)
            }
            Self::LeaseLimit { pods, limit } => {
                on_time(f, *pods)?;
                write!(f, ": a pod takes no more than {}", count(*limit, "lease"))
            }
            Self::NothingUnread { pods } => {
                write!(
                    f,
                    "nothing is unread; {} when there is",
                    count(*pods, "pod")
                )
            }
            Self::OnTime { pods } => on_time(f, *pods),
            Self::Quiet { pods, left_ms } => {
                on_time(f, *pods)?;
                write!(f, "; fewer are tried after {} of quiet", time(*left_ms))
            }
            Self::Trying { pods, left_ms } => {
                write!(f, "trying {} for {}", count(*pods, "pod"), time(*left_ms))
            }
            Self::FewerTried { pods, from } => {
                write!(f, "trying {}: ", count(*pods, "pod"))?;
                on_time(f, *from)?;
                write!(f, " so far")
            }
            Self::TrialFailed {
                tried,
                shard: id,
                lag_ms,
                progress_milli,
                pods,
            } => {
                let were = if *tried == 1 { "was" } else { "were" };
                write!(
                    f,
                    "{} {were} too few: {} is {} behind and gains {} s a second; so {}",
                    count(*tried, "pod"),
                    shard(id),
                    time(*lag_ms),
                    decimal(*progress_milli),
                    count(*pods, "pod"),
                )
            }
            Self::CarryKnown {
                pods,
                carry_milli,
                next,
                left_ms,
            } => {
                on_time(f, *pods)?;
                write!(
                    f,
                    ": a pod carries {} shards, {next} are tried in {}",
                    decimal(*carry_milli),
                    time(*left_ms)
                )
            }
            Self::FewerTooBusy { pods } => {
                on_time(f, *pods)?;
                write!(f, ": fewer would be too busy")
            }
            Self::NotBusy { pods } => {
                write!(f, "pods are not busy: {} will do", count(*pods, "pod"))
            }
            Self::TooBusy {
                holds,
                busy_milli,
                per_pod,
            } => write!(
                f,
                "a pod with {holds} shards is {} % busy; so {} a pod",
                busy_milli / 10,
                count(*per_pod, "shard")
            ),
            Self::TooBusyTogether {
                holds,
                busy_milli,
                together_milli,
                pods,
            } => write!(
                f,
                "a pod with {holds} shards is {} % busy, all together as {} pods; so {}",
                busy_milli / 10,
                decimal(*together_milli),
                count(*pods, "pod")
            ),
            Self::NoneRun { pods } => write!(f, "{} wished, none runs", count(*pods, "pod")),
            Self::FewerRun { running } => write!(
                f,
                "on time, and only {} run: so that many",
                count(*running, "pod")
            ),
            Self::MoreRun { pods, running } => write!(
                f,
                "{} wished, {running} run and are on time",
                count(*pods, "pod")
            ),
            Self::Uneasy { shard: id, lag_ms } => write!(
                f,
                "{} is {} behind: neither late nor calm",
                shard(id),
                time(*lag_ms)
            ),
            Self::LateWithoutOwner {
                shard,
                lag_ms,
                pods,
            } => {
                late(f, shard, *lag_ms)?;
                write!(f, " and nobody holds it: {} wished", count(*pods, "pod"))
            }
            Self::LateUnmeasured {
                shard,
                lag_ms,
                pods,
            } => {
                late(f, shard, *lag_ms)?;
                let pods = count(*pods, "pod");
                write!(f, ": watching how fast it gains, {pods} wished")
            }
            Self::LateAlone {
                shard: id,
                lag_ms,
                progress_milli,
                too_big,
            } => {
                late(f, id, *lag_ms)?;
                write!(
                    f,
                    ", alone on its pod and gains {} s a second: {} is too big for one pod, split it",
                    decimal(*progress_milli),
                    shard(too_big)
                )
            }
            Self::LateButEnough {
                shard,
                lag_ms,
                progress_milli,
                pods,
            } => {
                late(f, shard, *lag_ms)?;
                gains(f, *progress_milli)?;
                write!(f, ": {} will do", count(*pods, "pod"))
            }
            Self::LateBeyondCarry {
                shard,
                lag_ms,
                progress_milli,
                carry_milli,
                holds,
                per_pod,
                pods,
                remedy,
            } => {
                late(f, shard, *lag_ms)?;
                gains(f, *progress_milli)?;
                if *carry_milli < u64::from(*holds) * 1000 {
                    let carries = decimal(*carry_milli);
                    write!(f, "; its pod carries {carries} of {holds} shards")?;
                } else {
                    write!(f, ", which takes its pod too long")?;
                }
                match pods {
                    Some(pods) => write!(f, "; so {}{remedy}", count(*pods, "pod")),
                    None => write!(f, "; so {} a pod{remedy}", count(*per_pod, "shard")),
                }
            }
        }
    }
}

fn stay(f: &mut Formatter<'_>, pods: u32) -> Result {
    let stay = if pods == 1 { "stays" } else { "stay" };
    write!(f, ": {} {stay}", count(pods, "pod"))
}

fn checkpoints_stand(f: &mut Formatter<'_>, shards: u32) -> Result {
    let shards = count(shards, "checkpoint");
    write!(f, "{shards} stand for longer than usual")
}

fn on_time(f: &mut Formatter<'_>, pods: u32) -> Result {
    write!(f, "on time with {}", count(pods, "pod"))
}

fn late(f: &mut Formatter<'_>, id: &str, lag_ms: u64) -> Result {
    write!(f, "late: {} is {} old", shard(id), time(lag_ms))
}

fn gains(f: &mut Formatter<'_>, progress_milli: u64) -> Result {
    write!(f, " and gains {} s a second", decimal(progress_milli))
}

/// The end of a sentence about a pod that has too many shards.
impl Display for Remedy {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::MorePods => Ok(()),
            Self::AtTheLimit => write!(f, ", the fewest that shardCount allows"),
            Self::Awaited { pods, running } => {
                write!(f, ": {} wished, {running} run", count(*pods, "pod"))
            }
            Self::UnlessItSuffices => write!(f, ", unless the last change is enough: it gains"),
            Self::WhenSettled => write!(f, ", once the last change has settled"),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::ThresholdTooShort {
                threshold_ms,
                interval_ms,
                used_ms,
            } => write!(
                f,
                "lagThreshold {} is less than twice the checkpoint interval, \
                 which is about {}: decided as if it were {}",
                time(*threshold_ms),
                time(*interval_ms),
                time(*used_ms),
            ),
            Self::Standing {
                shard: id,
                stands_ms,
            } => write!(
                f,
                "{}'s checkpoint has not moved for {}: left out",
                shard(id),
                time(*stands_ms)
            ),
            Self::MoreStanding { shards } => {
                write!(f, "{shards} more checkpoints have not moved: left out")
            }
            Self::Malformed { shard: id, more } => {
                write!(f, "the row of {}", shard(id))?;
                match more {
                    0 => write!(f, " in the lease table cannot be read: left out"),
                    n => write!(
                        f,
                        " and {n} more in the lease table cannot be read: left out"
                    ),
                }
            }
            Self::NobodyTakes {
                shard: id,
                more,
                pods,
            } => {
                write!(f, "{}", shard(id))?;
                match more {
                    0 => write!(f, " has")?,
                    n => write!(f, " and {n} more have")?,
                }
                let pods = count(*pods, "pod");
                write!(
                    f,
                    " no owner; {pods} were wished for that, and none was taken"
                )
            }
            Self::TooBig { shard: id } => {
                write!(f, "{} is too big for one pod: split it", shard(id))
            }
        }
    }
}

impl Display for Unknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NoShards => write!(f, "no readable shard is known"),
            Self::NoneDecided { shards } => write!(
                f,
                "of none of {shards} readable shards is known whether it has unread records"
            ),
            Self::NothingUnread { undecided, shards } => write!(
                f,
                "of {undecided} of {shards} readable shards is not known whether they have unread \
                 records, and the others have none"
            ),
            Self::Stale { stale, decided } => write!(
                f,
                "what is known of {stale} of {decided} readable shards is too old"
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Note {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
