//! StreamIsActive: the state at once, then changes, and now and then `true` again.
//!
//! KEDA acts on `true` only, and drops one that comes before it is ready, hence the repeat. While
//! AWS fails the stream is silent but open: KEDA's pause before it reconnects grows with every
//! error and is reset by a clean end only.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Scaler;
use crate::{
    error::Error,
    metrics::Metrics,
    trigger::Trigger,
    watch::{Subscription, Watchers},
};

/// The pause before subscribing again after a watcher ended.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Activity {
    watchers: Arc<Watchers>,
    namespace: String,
    trigger: Trigger,
    subscription: Subscription,
    draining: CancellationToken,
    sent: Option<bool>,
    repeat: Duration,
    repeat_at: Instant,
    _open: OpenStream,
}

/// Counts as an open push stream while it lives.
pub(super) struct OpenStream(Arc<Metrics>);

impl Activity {
    pub(super) fn open(
        scaler: &Scaler,
        namespace: String,
        trigger: Trigger,
    ) -> Result<Self, Error> {
        let subscription = scaler.watchers.subscribe(&namespace, &trigger)?;
        // ± 10 %, drawn once per stream, so that streams opened together do not repeat together.
        let repeat = scaler.repeat.mul_f64(0.9 + 0.2 * fastrand::f64());
        Ok(Self {
            watchers: Arc::clone(&scaler.watchers),
            namespace,
            trigger,
            subscription,
            draining: scaler.draining.clone(),
            sent: None,
            repeat,
            repeat_at: Instant::now() + repeat,
            _open: OpenStream::new(&scaler.metrics),
        })
    }

    /// The next state to send; `None`: the scaler shuts down.
    pub(super) async fn next(&mut self) -> Option<bool> {
        let draining = self.draining.clone();
        tokio::select! {
            biased;
            () = draining.cancelled() => None,
            active = self.next_state() => Some(active),
        }
    }

    async fn next_state(&mut self) -> bool {
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
            if let Ok(subscription) = self.watchers.subscribe(&self.namespace, &self.trigger) {
                self.subscription = subscription;
                return;
            }
        }
    }
}

impl OpenStream {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.push_streams.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.push_streams.dec();
    }
}
