//! The five RPCs of KEDA's external scaler: metadata in, policy, then the answer of the source's
//! watcher.
//!
//! GetMetricSpec and StreamMetricSpec depend on the metadata alone: KEDA's `fallback` needs a spec
//! while AWS is down.

mod push;

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use self::push::{Activity, OpenStream};
use super::{connection::Peer, live::Live, places::Places};
use crate::{
    decision::answer::Answer,
    error::{Error, Wrong, shortened},
    metrics::Metrics,
    proto::{
        GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
        MetricValue, ScaledObjectRef, external_scaler_server::ExternalScaler,
    },
    report::journal::Journal,
    trigger::{Trigger, tenant::Tenant},
    watch::Watchers,
};

/// Metadata keys of one trigger. A ScaledObject has a handful.
const MOST_KEYS: usize = 1_000;

/// A namespace is kept as long as one of its sources is watched. Kubernetes gives it 63 characters.
const LONGEST_NAMESPACE: usize = 253;

/// What the RPCs share.
#[derive(Debug)]
pub struct Scaler {
    /// The region for triggers that name none.
    pub default_region: Option<String>,
    /// Who may ask for what, now.
    pub live: watch::Receiver<Arc<Live>>,
    /// What is known of the sources.
    pub watchers: Arc<Watchers>,
    /// What each ScaledObject was answered, for `/explain`.
    pub journal: Arc<Journal>,
    /// Where RPCs are counted.
    pub metrics: Arc<Metrics>,
    /// When cancelled, push streams end with OK.
    pub draining: CancellationToken,
    /// The open push streams.
    pub(super) streams: Arc<Places>,
    /// How often StreamIsActive repeats `true` while it holds.
    pub repeat: Duration,
}

/// Who asks, on whose behalf, for which ScaledObject.
struct Caller {
    tenant: Tenant,
    /// Cancelled when the caller's certificate would not be admitted any more.
    expelled: CancellationToken,
    /// Of the ScaledObject, shortened.
    name: String,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let (peer, object) = asked(request);
        let answer = async {
            let (caller, trigger) = self.trigger(peer, object)?;
            let answer = self.answer(&caller, &trigger).await?;
            Ok(IsActiveResponse {
                result: answer.active,
            })
        };
        self.timed("IsActive", answer).await
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let (peer, object) = asked(request);
        let answer = async { Ok(metric_spec(&self.trigger(peer, object)?.1)) };
        self.timed("GetMetricSpec", answer).await
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let (peer, request) = asked(request);
        let GetMetricsRequest {
            scaled_object_ref,
            metric_name,
        } = request;
        let answer = async {
            let object = scaled_object_ref.unwrap_or_default();
            let (caller, trigger) = self.trigger(peer, object)?;
            let own = trigger.metric_name();
            if metric_name != own {
                return Err(Error::InvalidMetadata(vec![Wrong {
                    key: "metricName",
                    value: Some(shortened(&metric_name).into_owned()),
                    want: want_name(&own, &metric_name),
                }]));
            }
            let answer = self.answer(&caller, &trigger).await?;
            Ok(metric_value(own, answer.value))
        };
        self.timed("GetMetrics", answer).await
    }

    type StreamIsActiveStream = Responses<IsActiveResponse>;

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (peer, object) = asked(request);
        let answer = async {
            let (caller, trigger) = self.trigger(peer, object)?;
            let activity = Activity::open(self, caller, trigger)?;
            let states = stream::unfold(Some(activity), |activity| async {
                let mut activity = activity?;
                match activity.next().await? {
                    Ok(result) => Some((Ok(IsActiveResponse { result }), Some(activity))),
                    // The last.
                    Err(status) => Some((Err(status), None)),
                }
            });
            Ok(states.boxed())
        };
        self.timed("StreamIsActive", answer).await
    }

    type StreamMetricSpecStream = Responses<GetMetricSpecResponse>;

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let (peer, object) = asked(request);
        let answer = async {
            let (caller, trigger) = self.trigger(peer, object)?;
            let spec = metric_spec(&trigger);
            // The spec follows from the metadata, which KEDA sends anew when they change: there is
            // never a second one.
            let mut open = OpenStream::new(self, caller, Arc::new(trigger))?;
            let end = stream::once(async move { open.ended().await.err() });
            let specs = stream::once(async { Ok(spec) });
            Ok(specs
                .chain(end.filter_map(|end| async { end.map(Err) }))
                .boxed())
        };
        self.timed("StreamMetricSpec", answer).await
    }
}

impl Scaler {
    /// Who asks and the trigger, if the trigger is right and the namespace may have it. Pure.
    /// Nothing else of the request is kept while it waits.
    fn trigger(&self, peer: Peer, object: ScaledObjectRef) -> Result<(Caller, Trigger), Error> {
        let metadata: &HashMap<_, _> = &object.scaler_metadata;
        if metadata.len() > MOST_KEYS {
            return Err(Error::InvalidMetadata(vec![Wrong {
                key: "scalerMetadata",
                value: Some(format!("{} keys", metadata.len())),
                want: format!("at most {MOST_KEYS}"),
            }]));
        }
        let namespace = &object.namespace;
        if namespace.len() > LONGEST_NAMESPACE {
            return Err(Error::InvalidMetadata(vec![Wrong {
                key: "namespace",
                value: Some(shortened(namespace).into_owned()),
                want: format!("at most {LONGEST_NAMESPACE} bytes"),
            }]));
        }
        let trigger = Trigger::parse(metadata, self.default_region.as_deref())?;
        let live = Arc::clone(&self.live.borrow());
        live.policy.check(&object.namespace, &trigger)?;
        let caller = Caller {
            name: shortened(&object.name).into_owned(),
            expelled: peer.expelled,
            tenant: Tenant {
                peer: peer.name,
                namespace: object.namespace,
            },
        };
        Ok((caller, trigger))
    }

    /// Value and activity, and a note of them for `/explain`.
    async fn answer(&self, caller: &Caller, trigger: &Trigger) -> Result<Answer, Error> {
        let Caller { tenant, name, .. } = caller;
        let answer = self.watchers.answer(tenant.clone(), trigger).await;
        if let Err(error) = &answer {
            self.count_limit(error);
        }
        self.journal.note(tenant, name, trigger, &answer);
        answer
    }

    /// Counts who has its share of a bound already.
    fn count_limit(&self, error: &Error) {
        if let Error::Exhausted { limit, .. } = error {
            self.metrics.limited(limit);
        }
    }

    async fn timed<T>(
        &self,
        method: &'static str,
        answer: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<Response<T>, Status>
    where
        T: Send,
    {
        let started = Instant::now();
        let answer = answer.await;
        let code = answer.as_ref().map_or_else(Error::code, |_| Code::Ok);
        self.metrics.rpc(method, code, started.elapsed());
        Ok(Response::new(answer?))
    }
}

/// Who asks, and what.
fn asked<T>(request: Request<T>) -> (Peer, T) {
    let peer = request.extensions().get::<Peer>().cloned();
    (peer.unwrap_or_default(), request.into_inner())
}

/// What GetMetrics should have asked for. KEDA takes its own `s0-` off the name.
fn want_name(own: &str, asked: &str) -> String {
    let mut want = format!("{own:?}, the name that GetMetricSpec gives for this trigger");
    if asked.ends_with(own) || asked.is_empty() {
        want.push_str("; KEDA 2.16 is the oldest that asks so and is supported");
    }
    want
}

// KEDA before 2.17 reads the deprecated integers only, and later ones read them wherever the float
// is not above 0.
#[expect(deprecated, reason = "both fields are always filled")]
fn metric_spec(trigger: &Trigger) -> GetMetricSpecResponse {
    GetMetricSpecResponse {
        metric_specs: vec![MetricSpec {
            metric_name: trigger.metric_name(),
            target_size: trigger.shard_count,
            target_size_float: trigger.shard_count as f64,
        }],
    }
}

#[expect(deprecated, reason = "both fields are always filled")]
fn metric_value(metric_name: String, value: i64) -> GetMetricsResponse {
    GetMetricsResponse {
        metric_values: vec![MetricValue {
            metric_name,
            metric_value: value,
            metric_value_float: value as f64,
        }],
    }
}
