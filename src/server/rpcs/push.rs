//! StreamIsActive: the state at once, then changes, and now and then `true` again.
//!
//! KEDA acts on `true` only, and drops one that comes before it is ready, hence the repeat. While
//! AWS fails the stream is silent but open: KEDA's pause before it reconnects grows with every
//! error and is reset by a clean end only.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Caller, Scaler};
use crate::{
    error::{Error, shortened},
    metrics::Metrics,
    server::{live::Live, places::Place},
    trigger::{Trigger, tenant::Tenant},
    watch::{NoRoom, Subscription, Watchers},
};

/// The pause before subscribing again after a watcher ended.
const PAUSE: Duration = Duration::from_secs(1);

/// The states of a trigger, for as long as its stream is open.
pub(super) struct Activity {
    states: States,
    open: OpenStream,
}

struct States {
    watchers: Arc<Watchers>,
    tenant: Tenant,
    trigger: Arc<Trigger>,
    subscription: Subscription,
    sent: Option<bool>,
    repeat: Duration,
    repeat_at: Instant,
}

/// Holds a place, and counts as an open push stream, while it lives.
pub(super) struct OpenStream {
    namespace: String,
    trigger: Arc<Trigger>,
    live: watch::Receiver<Arc<Live>>,
    draining: CancellationToken,
    expelled: CancellationToken,
    place: Place,
    metrics: Arc<Metrics>,
}

impl Activity {
    pub(super) fn open(scaler: &Scaler, caller: Caller, trigger: Trigger) -> Result<Self, Error> {
        let trigger = Arc::new(trigger);
        let tenant = caller.tenant.clone();
        let open = OpenStream::new(scaler, caller, Arc::clone(&trigger))?;
        let subscription = scaler.watchers.subscribe(tenant.clone(), &trigger);
        let subscription = subscription.inspect_err(|error| scaler.count_limit(error))?;
        // ± 10 %, drawn once per stream, so that streams opened together do not repeat together.
        let repeat = scaler.repeat.mul_f64(0.9 + 0.2 * fastrand::f64());
        let states = States {
            watchers: Arc::clone(&scaler.watchers),
            tenant,
            trigger,
            subscription,
            sent: None,
            repeat,
            repeat_at: Instant::now() + repeat,
        };
        Ok(Self { states, open })
    }

    /// The next state to send, or why the stream ends; `None`: it ends cleanly.
    pub(super) async fn next(&mut self) -> Option<Result<bool, Status>> {
        tokio::select! {
            biased;
            ended = self.open.ended() => ended.err().map(Err),
            active = self.states.next() => Some(Ok(active)),
        }
    }
}

impl States {
    async fn next(&mut self) -> bool {
        loop {
            let answer = self.watchers.current(&self.trigger);
            let active = answer.and_then(|answer| Some(answer.ok()?.active));
            let due = Instant::now() >= self.repeat_at;
            if due {
                self.repeat_at = Instant::now() + self.repeat;
            }
            match active {
                Some(active) if self.sent != Some(active) || (active && due) => {
                    self.sent = Some(active);
                    self.repeat_at = Instant::now() + self.repeat;
                    return active;
                }
                _ => {}
            }
            tokio::select! {
                changed = self.subscription.changed() => if changed.is_err() {
                    self.subscribe_again().await;
                },
                () = sleep_until(self.repeat_at) => {}
            }
        }
    }

    /// Subscribes again: the watcher ended, by a panic or to make room.
    async fn subscribe_again(&mut self) {
        loop {
            sleep(PAUSE).await;
            let tenant = self.tenant.clone();
            if let Ok(subscription) = self.watchers.subscribe(tenant, &self.trigger) {
                self.subscription = subscription;
                return;
            }
        }
    }
}

impl OpenStream {
    pub(super) fn new(
        scaler: &Scaler,
        caller: Caller,
        trigger: Arc<Trigger>,
    ) -> Result<Self, Error> {
        let Caller {
            tenant, expelled, ..
        } = caller;
        let namespace = tenant.namespace.clone();
        let place = scaler.streams.take(tenant).map_err(|no_room| {
            let NoRoom { held, fair } = no_room;
            let namespace = shortened(&namespace);
            let why = format!(
                "this scaler has as many push streams open as limits.streams allows, {held} of them for namespace {namespace:?}, whose fair share is {fair}: raise limits.streams, or use triggers of type external"
            );
            Error::Exhausted { limit: "streams", why }
        })?;
        scaler.metrics.push_streams.inc();
        Ok(Self {
            namespace,
            trigger,
            live: scaler.live.clone(),
            draining: scaler.draining.clone(),
            expelled,
            place,
            metrics: Arc::clone(&scaler.metrics),
        })
    }

    /// Waits for the stream's end: a clean one when the scaler shuts down, or the client's
    /// connection goes with its certificate: a client with a new one comes back at once.
    ///
    /// # Errors
    /// The policy no longer allows it, or its place was needed more elsewhere.
    pub(super) async fn ended(&mut self) -> Result<(), Status> {
        loop {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return Ok(()),
                () = self.expelled.cancelled() => return Ok(()),
                () = self.place.taken.cancelled() => return Err(Status::resource_exhausted(
                    "all push streams that limits.streams allows are taken, and whoever holds most makes room for others",
                )),
                // Never without a sender: it goes with the server.
                Ok(()) = self.live.changed() => {
                    let live = Arc::clone(&self.live.borrow_and_update());
                    if let Err(refused) = live.policy.check(&self.namespace, &self.trigger) {
                        self.metrics.limited("policy");
                        return Err(refused.into());
                    }
                }
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.push_streams.dec();
    }
}
