//! The leases in this worker's hands: their tasks begin and end.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::watch, task::JoinError, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{Coordinator, Held, looking::Curiosity, moves::Kind, streams::give_back};
use crate::{
    decide::fleet::{Role, first_renewal},
    face::{checkpointer::LeaseHandle, error::Error, event::Event},
    model::{keys::LeaseKey, lease::Lease},
    run::{
        held_lease::HeldLease,
        shard_consumer::{Ended, ShardConsumer, Stop},
    },
};

impl Coordinator {
    /// The leases that are ours: user code may go on with one that was lost.
    pub(super) fn held_keys(&self) -> BTreeSet<LeaseKey> {
        let ours = self.held.iter().filter(|(_, held)| !held.lease.is_over());
        ours.map(|(key, _)| key.clone()).collect()
    }

    /// Starts the tasks of a lease. `stored`: as the take that began at `began` left it.
    pub(super) fn start(&mut self, stored: Lease, from: Option<String>, began: Instant) {
        let Some(stream) = self.context.streams.of(&stored.key) else {
            // It went while the lease was taken.
            drop(tokio::spawn(give_back(Arc::clone(&self.context), stored)));
            return;
        };
        self.context.report(Event::LeaseAcquired {
            shard: stored.key.clone(),
            from,
        });
        if stored.stream_identity.is_none() {
            // It was taken before its shard was listed: only an audit of ours names its stream, as
            // whoever holds it knows whose its position is.
            self.context.reaudit.notify_one();
        }
        let now = Instant::now();
        self.note(&stored);
        self.curious.remove(&stored.key);
        self.coming.remove(&stored.key);
        if self.held.is_empty() {
            self.announce(&stored.key, now);
            if self.role == Role::Spare {
                // Others who joined as well show by now.
                let soon = now.max(self.scanned + self.context.config.times().peer_scan_interval);
                self.next_scan = self.next_scan.min(soon);
            }
        }
        let renewal = self.context.renew_interval();
        // Who is alone is told nothing by others; together, its checkpoints tell more of its pace.
        let first = match self.context.fleet.workers() {
            0 | 1 => renewal,
            _ => {
                let dues = self.held.values().map(|held| held.lease.due() - began);
                first_renewal(renewal, &dues.collect::<Vec<_>>())
            }
        };
        let lease = Arc::new(HeldLease::new(
            Arc::clone(&self.context),
            stored.clone(),
            began,
            first,
        ));
        let (stop, stopped) = watch::channel(None);
        let consumer = ShardConsumer::new(
            Arc::clone(&self.context),
            stream,
            Arc::clone(&lease),
            &stored,
            stopped,
        );
        let held = Held {
            consumer: self.consumers.spawn(consumer.run()),
            _renewal: AbortOnDropHandle::new(tokio::spawn(Arc::clone(&lease).keep())),
            lease,
            stop,
        };
        self.context.load.begin(&stored.key);
        self.held.insert(stored.key, held);
        self.context.load.hold(self.held.len());
        self.is_arranged = false;
        // Who asked before may get one now.
        self.refresh(now);
        let leases = std::mem::take(&mut self.leases);
        self.grant(&leases, now);
        self.leases = leases;
    }

    pub(super) fn ended(
        &mut self,
        ended: Result<(tokio::task::Id, Ended), JoinError>,
    ) -> Result<(), Error> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let key = self
            .held
            .iter()
            .find(|(_, held)| held.consumer.id() == id)
            .map(|(key, _)| key.clone());
        let stream = key.as_ref().and_then(|key| self.context.streams.of(key));
        let now = Instant::now();
        let held = key.and_then(|key| self.held.remove(&key));
        self.next_scan = match (&ended, &held) {
            (Ok((_, Ended::GivenUp)), Some(held)) if self.gave(held, now) => self.next_scan,
            _ => now,
        };
        if let Some(held) = held {
            // Checkpointers that user code kept refuse from now on.
            held.lease.close();
            self.context.load.end(LeaseHandle::key(&*held.lease));
            self.context.load.hold(self.held.len());
        }
        match ended {
            Ok((_, Ended::Finished(children))) => self.take_children(children),
            Ok((_, Ended::Failed(error))) => match stream {
                Some(stream) => {
                    stream.give_up(error)?;
                    self.context.streams.look.notify_one();
                }
                // It went while its user code ran, or its lease was taken anew.
                None if error.is_of_stream() && self.context.streams.are_several() => {
                    self.context.streams.look.notify_one();
                }
                None => return Err(error),
            },
            Ok((_, Ended::Lost | Ended::GivenUp)) => {}
            // A bug of ours: the lease expires, and whoever takes it goes on from the checkpoint.
            Err(error) => tracing::error!(%error, "a shard consumer ended without a result"),
        }
        Ok(())
    }

    /// Takes note that the lease went to whoever asked for it, and that it is to be looked after
    /// until that worker takes it. False: nobody asked for it.
    fn gave(&mut self, held: &Held, now: Instant) -> bool {
        let (Some(Stop::HandOver(to)), Some(lease)) =
            (held.stop.borrow().clone(), held.lease.try_copy())
        else {
            return false;
        };
        let soon = now + self.context.config.times().peer_scan_interval;
        self.curious.insert(lease.key.clone(), Curiosity::new(soon));
        self.note(&Lease {
            owner: Some(to),
            counter: lease.counter + 1,
            native_counter: Some(lease.counter + 1),
            native_process: None,
            native_clock: None,
            handover_to: None,
            handover_load: None,
            ..lease
        });
        self.is_arranged = false;
        true
    }

    /// Whoever finished a parent takes its children at once, unless another worker was quicker or
    /// another parent is unfinished. Otherwise a scan finds them.
    pub(super) fn take_children(&mut self, children: Vec<Lease>) {
        if self.context.leadership.is_led() {
            return;
        }
        for child in children {
            let unfinished = self.held.len() + self.moves.len();
            let is_free = child.owner.is_none() && !child.is_finished();
            if is_free && unfinished < self.context.config.max_leases {
                self.moves.push(&self.context, Kind::Child, child);
            }
        }
    }
}
