//! Calls that bring leases, or ask for them: many at once, and the coordinator waits for none.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::{
    edge::{kinesis::KinesisError, lease_table::TableError},
    model::{keys::LeaseKey, lease::Lease},
    run::{
        context::Context,
        proof::{Proof, prove},
        stream::Stream,
    },
};

/// Concurrent calls.
pub(super) const CONCURRENCY: usize = 16;

/// What a call is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// To take a lease that nobody holds.
    Take,
    /// To take the lease of a worker of KCL 2.x.
    Steal,
    /// To take the lease of a shard whose parent ended here, unless another parent is unfinished.
    Child,
    /// To ask a worker of this library for its lease.
    Ask,
    /// To take back the request of a worker that is gone for a lease of ours.
    Refuse,
    /// To take back the request of a worker that has shown no life: if it lives, it asks again.
    Challenge,
}

impl Kind {
    /// As events name it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Take | Self::Steal | Self::Child => "take",
            Self::Ask => "ask",
            Self::Refuse | Self::Challenge => "withdraw",
        }
    }
}

/// A call that was answered.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) kind: Kind,
    /// The lease as it was read.
    pub(super) lease: Lease,
    pub(super) began: Instant,
    /// The lease as it was taken. `None`: asked for, or left alone.
    pub(super) answer: Result<Option<Lease>, TableError>,
}

/// The calls that are planned and under way. One that began is never broken off: a lease that was
/// taken must be known, or nobody releases it.
#[derive(Default)]
pub(super) struct Moves {
    waiting: VecDeque<BoxFuture<'static, Moved>>,
    under_way: FuturesUnordered<BoxFuture<'static, Moved>>,
    proving: BTreeSet<LeaseKey>,
    proofs: FuturesUnordered<BoxFuture<'static, Proved>>,
}

/// What the proof of a lease came to, which changes nothing in the table.
pub(super) type Proved = (Lease, Result<Proof, KinesisError>);

/// An answer.
pub(super) enum Answer {
    Moved(Box<Moved>),
    Proved(Box<Proved>),
}

impl Moves {
    pub(super) fn push(&mut self, context: &Arc<Context>, kind: Kind, lease: Lease) {
        let call = make(Arc::clone(context), kind, lease);
        self.waiting.push_back(call.boxed());
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks whether the lease's position is of this stream, unless that is under way.
    pub(super) fn prove(&mut self, context: &Arc<Context>, stream: Arc<Stream>, lease: Lease) {
        if self.proving.insert(lease.key.clone()) {
            let context = Arc::clone(context);
            let proof = async move {
                let proof = prove(&context, &stream, &lease).await;
                (lease, proof)
            };
            self.proofs.push(proof.boxed());
        }
    }

    /// The next answer. `None`: no call is left.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        while self.under_way.len() < CONCURRENCY
            && let Some(call) = self.waiting.pop_front()
        {
            self.under_way.push(call);
        }
        tokio::select! {
            biased;
            Some(moved) = self.under_way.next() => Some(Answer::Moved(Box::new(moved))),
            Some(proved) = self.proofs.next() => {
                self.proving.remove(&proved.0.key);
                Some(Answer::Proved(Box::new(proved)))
            }
            else => None,
        }
    }

    /// Begins no more calls, and undoes those that are under way as they are answered.
    pub(super) async fn undo(&mut self, context: &Context) {
        self.waiting.clear();
        self.proofs.clear();
        let undone = |moved| undo(context, moved);
        std::mem::take(&mut self.under_way)
            .for_each_concurrent(None, undone)
            .await;
    }
}

async fn make(context: Arc<Context>, kind: Kind, mut lease: Lease) -> Moved {
    if matches!(kind, Kind::Take | Kind::Steal | Kind::Child) {
        // What it took before stands in the lease until this worker has measured it.
        let before = lease.share_permille.unwrap_or(0);
        lease.share_permille = context.deals_by_load().then_some(before);
    }
    let began = Instant::now();
    let (table, me) = (&context.table, &context.config.worker_id);
    let answer = match kind {
        Kind::Take | Kind::Steal => take(&context, &lease).await.map(Some),
        Kind::Child => take_child(&context, &lease).await,
        Kind::Ask => {
            let has = lease.handover_has.unwrap_or_default();
            table.ask(&lease, me, has).await.map(|()| None)
        }
        Kind::Refuse | Kind::Challenge => {
            let asker = lease.handover_to.as_deref().unwrap_or_default();
            table.withdraw(&lease.key, asker).await.map(|()| None)
        }
    };
    Moved {
        kind,
        lease,
        began,
        answer,
    }
}

async fn take_child(context: &Context, child: &Lease) -> Result<Option<Lease>, TableError> {
    for parent in child.parent_keys() {
        let parent = context.table.read(&parent).await?;
        if parent.is_some_and(|parent| !parent.is_finished()) {
            return Ok(None);
        }
    }
    take(context, child).await.map(Some)
}

async fn take(context: &Context, lease: &Lease) -> Result<Lease, TableError> {
    let lease = Lease {
        failover_millis: Some(context.failover_millis()),
        ..lease.clone()
    };
    context.table.take(&lease, &context.config.worker_id).await
}

async fn undo(context: &Context, moved: Moved) {
    match &moved.answer {
        Ok(Some(taken)) => release(context, taken).await,
        // Also one whose answer did not come.
        _ if moved.kind == Kind::Ask => withdraw(context, &moved.lease.key).await,
        _ if matches!(moved.kind, Kind::Refuse | Kind::Challenge) => {}
        Ok(None) => {}
        Err(TableError::Conflict(Some(current))) => forsake(context, &moved.lease, current).await,
        Err(_) => match context.table.read(&moved.lease.key).await {
            Ok(Some(current)) => forsake(context, &moved.lease, &current).await,
            Ok(None) => {}
            Err(error) => context.table_failed(Some(&moved.lease.key), "read", &error),
        },
    }
}

/// Releases what was taken as `read` shows it, if it was, although nobody said so.
async fn forsake(context: &Context, read: &Lease, current: &Lease) {
    let is_ours = current.owner.as_ref() == Some(&context.config.worker_id);
    if is_ours && current.is_native() && current.counter == read.counter + 1 {
        release(context, current).await;
    }
}

/// Takes our request back. Where it is granted already, the lease is nobody's.
pub(super) async fn withdraw(context: &Context, key: &LeaseKey) {
    let me = &context.config.worker_id;
    match context.table.withdraw(key, me).await {
        // While a KCL 3 leader moves it, it is still its holder's.
        Err(TableError::Conflict(Some(given))) if given.holder() == Some(me) => {
            release(context, &given).await;
        }
        Ok(()) | Err(TableError::Conflict(_)) => {}
        Err(error) => context.table_failed(Some(key), "withdraw", &error),
    }
}

pub(super) async fn release(context: &Context, taken: &Lease) {
    match context.table.release(taken).await {
        Ok(()) | Err(TableError::Conflict(_)) => {}
        Err(error) => context.table_failed(Some(&taken.key), "release", &error),
    }
}
