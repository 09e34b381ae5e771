//! KEDA and the HPA, for one ScaledObject: each tick asks the scaler over gRPC what KEDA asks, in
//! its order, decides as the HPA does, and scales the deployment.

mod push;

use std::{collections::HashMap, fmt, time::Duration};

use anyhow::{Context as _, Result};
use keda_kinesis_scaler::proto::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use keda_rules::{Autoscaling, Decision, Limits, Why};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::transport::{Channel, Endpoint};

use self::push::Pushes;
use crate::{
    pods::Deployment,
    state::{Board, Scaled, Source, Tick},
    times::human,
};

/// What `kubectl apply` of a ScaledObject says.
#[derive(Clone, Debug)]
pub struct ScaledObject {
    /// Its only trigger's metadata.
    pub metadata: HashMap<String, String>,
    /// Replicas and times.
    pub limits: Limits,
    /// Of type `external-push`? Then KEDA also listens.
    pub push: bool,
    /// KEDA's `pollingInterval`. At zero replicas it alone asks; else the HPA does, at each tick.
    pub polling_interval: Duration,
}

/// What the scaler said in one tick.
#[derive(Debug, PartialEq)]
struct Answer {
    metric: String,
    target: f64,
    value: f64,
    active: bool,
}

/// A connection to the scaler, made when it is first used.
pub fn connect(address: std::net::SocketAddr) -> Result<ExternalScalerClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(3))
        .timeout(Duration::from_secs(5))
        .connect_lazy();
    Ok(ExternalScalerClient::new(channel))
}

/// Ticks for ever: cancel it by dropping. Does nothing while no ScaledObject is applied.
pub async fn run(
    board: Board,
    mut scaler: ExternalScalerClient<Channel>,
    mut applied: watch::Receiver<Option<ScaledObject>>,
    deployment: Deployment,
    sync: Duration,
) {
    let mut autoscaling = None;
    let mut pushes: Option<Pushes> = None;
    let started = Instant::now();
    let mut asked = started;
    let (mut told, mut made_of_it) = (String::new(), String::new());
    let mut ticks = interval(sync);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let pushed = tokio::select! {
            () = became_active(&mut pushes) => true,
            _ = ticks.tick() => false,
        };
        let Some(object) = applied.borrow_and_update().clone() else {
            continue;
        };
        if object.push && pushes.is_none() {
            pushes = Some(Pushes::open(scaler.clone(), object.metadata.clone()));
        }
        // A changed trigger changes the HPA's target, not its memory.
        let autoscaling = autoscaling.get_or_insert_with(|| Autoscaling::new(object.limits));
        if deployment.replicas() == 0 {
            if pushed {
                board.say(Source::Keda, "StreamIsActive: true");
                let decision = autoscaling.decide(started.elapsed(), 0, 0.0, 1.0, true);
                board.say(
                    Source::Keda,
                    format!("woken: 0 → {}", pods(decision.replicas)),
                );
                scale(&board, &deployment, decision.replicas, true);
            }
            if pushed || asked.elapsed() < object.polling_interval {
                continue;
            }
        } else if pushed {
            // They run already: the next tick asks.
            continue;
        }
        asked = Instant::now();
        let answer = match ask(&mut scaler, object.metadata).await {
            Ok(answer) => answer,
            Err(error) => {
                say_once(
                    &board,
                    Source::Keda,
                    &mut told,
                    format!("no answer, so nothing is scaled: {error:#}"),
                );
                continue;
            }
        };
        say_once(&board, Source::Keda, &mut told, answer.to_string());
        let current = deployment.replicas();
        let Answer {
            metric,
            target,
            value,
            active,
        } = answer;
        let decision = autoscaling.decide(started.elapsed(), current, value, target, active);
        // While it waits to scale down, only the time left changes: said once.
        let gist = |text: &str| text.split(" for ").next().map(str::to_owned);
        let text = sentence(value, target, current, &decision);
        if gist(&text) != gist(&made_of_it) {
            board.say(Source::Hpa, text.clone());
            made_of_it = text;
        }
        scale(&board, &deployment, decision.replicas, false);
        board.update(|state| {
            state.ticks += 1;
            state.tick = Some(Tick {
                metric,
                value,
                target,
                active,
                current,
                decision,
            })
        });
    }
}

/// Returns when the scaler pushes that there is work; never without a stream.
async fn became_active(pushes: &mut Option<Pushes>) {
    let Some(pushes) = pushes else {
        return std::future::pending().await;
    };
    while !pushes.next().await {}
}

fn scale(board: &Board, deployment: &Deployment, to: u32, pushed: bool) {
    let from = deployment.replicas();
    deployment.scale(to);
    if from != to {
        let at = board.elapsed();
        let scaled = Scaled {
            at,
            from,
            to,
            pushed,
        };
        board.update(|state| state.scaled.push(scaled));
    }
}

fn say_once(board: &Board, source: Source, said: &mut String, text: String) {
    if *said != text {
        board.say(source, text.clone());
        *said = text;
    }
}

/// GetMetricSpec, then GetMetrics for the name it gave, then IsActive.
#[expect(
    deprecated,
    reason = "KEDA reads the integer fields where the floats are 0"
)]
async fn ask(
    scaler: &mut ExternalScalerClient<Channel>,
    metadata: HashMap<String, String>,
) -> Result<Answer> {
    let object = scaled_object(metadata);
    let specs = scaler
        .get_metric_spec(object.clone())
        .await
        .context("GetMetricSpec")?
        .into_inner();
    let spec = specs
        .metric_specs
        .into_iter()
        .next()
        .context("GetMetricSpec: got empty metric spec")?;
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object.clone()),
        metric_name: spec.metric_name.clone(),
    };
    let values = scaler
        .get_metrics(request)
        .await
        .context("GetMetrics")?
        .into_inner();
    let value = values
        .metric_values
        .into_iter()
        .next()
        .context("GetMetrics: no matching metrics found")?;
    let active = scaler
        .is_active(object)
        .await
        .context("IsActive")?
        .into_inner()
        .result;
    Ok(Answer {
        metric: spec.metric_name,
        target: float_or_int(spec.target_size_float, spec.target_size),
        value: float_or_int(value.metric_value_float, value.metric_value),
        active,
    })
}

fn scaled_object(metadata: HashMap<String, String>) -> ScaledObjectRef {
    ScaledObjectRef {
        name: "consumer".into(),
        namespace: "default".into(),
        scaler_metadata: metadata,
    }
}

/// The float field counts when it is above zero, else the older integer field.
fn float_or_int(float: f64, int: i64) -> f64 {
    if float > 0.0 { float } else { int as f64 }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            metric,
            target,
            value,
            active,
        } = self;
        write!(
            f,
            "GetMetricSpec: {metric}, target {target}; GetMetrics: {value}; IsActive: {active}"
        )
    }
}

fn sentence(value: f64, target: f64, current: u32, decision: &Decision) -> String {
    let Decision {
        replicas,
        wanted,
        why,
    } = decision;
    match (why, current) {
        (Why::Idle, 0) => return "not active: stays at 0 pods".to_owned(),
        (Why::Idle, _) => {
            let to = pods(*replicas);
            return format!("not active for the whole cooldown: {current} → {to}");
        }
        _ => {}
    }
    let outcome = match why {
        Why::Stabilising(left) => format!(
            "stays at {} for {} yet (stabilisation)",
            pods(*replicas),
            human(round(*left))
        ),
        _ if *replicas == current => format!("stays at {}", pods(current)),
        _ => format!("{current} → {}", pods(*replicas)),
    };
    format!("ceil({value} / {target}) = {}: {outcome}", pods(*wanted))
}

/// `1 pod`, `2 pods`.
pub(crate) fn pods(count: u32) -> String {
    if count == 1 {
        "1 pod".to_owned()
    } else {
        format!("{count} pods")
    }
}

fn round(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().div_ceil(100) as u64 * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_float_counts_when_it_is_above_zero() {
        assert_eq!(float_or_int(2.5, 3), 2.5);
        assert_eq!(float_or_int(0.0, 3), 3.0);
        assert_eq!(float_or_int(0.0, 0), 0.0);
    }

    #[test]
    fn sentences() {
        let decision = |replicas, wanted, why| Decision {
            replicas,
            wanted,
            why,
        };
        let text = sentence(2.0, 1.0, 1, &decision(2, 2, Why::Metric));
        assert_eq!(text, "ceil(2 / 1) = 2 pods: 1 → 2 pods");
        let text = sentence(
            2.0,
            1.0,
            3,
            &decision(3, 2, Why::Stabilising(Duration::from_millis(4321))),
        );
        assert_eq!(
            text,
            "ceil(2 / 1) = 2 pods: stays at 3 pods for 4.4 s yet (stabilisation)"
        );
        let text = sentence(3.0, 1.0, 3, &decision(0, 0, Why::Idle));
        assert_eq!(text, "not active for the whole cooldown: 3 → 0 pods");
        let text = sentence(3.0, 1.0, 0, &decision(0, 0, Why::Idle));
        assert_eq!(text, "not active: stays at 0 pods");
        let text = sentence(2.0, 3.0, 1, &decision(1, 1, Why::Tolerance));
        assert_eq!(text, "ceil(2 / 3) = 1 pod: stays at 1 pod");
    }
}
