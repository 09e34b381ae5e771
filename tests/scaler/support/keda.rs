//! Asks what KEDA asks of a trigger, all five RPCs, and checks that the answers agree with each
//! other.

use std::collections::HashMap;

use keda_kinesis_scaler::proto::{
    GetMetricSpecResponse, GetMetricsRequest, ScaledObjectRef,
    external_scaler_client::ExternalScalerClient,
};
use tonic::{Code, Status, transport::Channel};

/// What the scaler says to one trigger.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Every RPC is refused with INVALID_ARGUMENT; these are the lines.
    Refused(Vec<String>),
    /// There is a spec, and the value is an error.
    Failing { spec: (String, i64), code: Code },
    /// All is well. Both streams opened with the same.
    Value {
        spec: (String, i64),
        value: f64,
        active: bool,
    },
    /// There is a spec; it was not asked for more.
    Spec((String, i64)),
}

/// Asks one scaler.
pub(crate) struct Keda {
    pub(crate) client: ExternalScalerClient<Channel>,
}

impl Keda {
    /// The answer to a trigger with this metadata; without its value, if that is not wanted.
    pub(crate) async fn ask(
        &mut self,
        metadata: &HashMap<String, String>,
        value_too: bool,
    ) -> Answer {
        let object = ScaledObjectRef {
            name: "orders-consumer".to_owned(),
            namespace: "shop".to_owned(),
            scaler_metadata: metadata.clone(),
        };
        let spec = match self.spec(&object).await {
            Ok(spec) if !value_too => return Answer::Spec(spec),
            Ok(spec) => spec,
            Err(status) => {
                let refused = Answer::Refused(lines(&status));
                // A name that was never given: the trigger is refused before it is looked at.
                assert_eq!(
                    Answer::Refused(lines(&self.value(&object, "x").await.unwrap_err())),
                    refused
                );
                assert_eq!(
                    Answer::Refused(lines(&self.active(&object).await.unwrap_err())),
                    refused
                );
                assert_eq!(
                    Answer::Refused(lines(&self.pushed_active(&object).await.unwrap_err())),
                    refused
                );
                assert_eq!(
                    Answer::Refused(lines(&self.pushed_spec(&object).await.unwrap_err())),
                    refused
                );
                return refused;
            }
        };
        assert_eq!(self.pushed_spec(&object).await.unwrap(), spec);
        match (
            self.value(&object, &spec.0).await,
            self.active(&object).await,
        ) {
            (Ok(value), Ok(active)) => {
                assert_eq!(self.pushed_active(&object).await.unwrap(), active);
                Answer::Value {
                    spec,
                    value,
                    active,
                }
            }
            (Err(value), Err(active)) => {
                assert_eq!(
                    (value.code(), value.message()),
                    (active.code(), active.message())
                );
                Answer::Failing {
                    spec,
                    code: value.code(),
                }
            }
            (value, active) => panic!("they disagree: {value:?} and {active:?}"),
        }
    }

    async fn spec(&mut self, object: &ScaledObjectRef) -> Result<(String, i64), Status> {
        let answer = self
            .client
            .get_metric_spec(object.clone())
            .await?
            .into_inner();
        Ok(only_spec(answer))
    }

    async fn value(&mut self, object: &ScaledObjectRef, metric_name: &str) -> Result<f64, Status> {
        let asked = GetMetricsRequest {
            scaled_object_ref: Some(object.clone()),
            metric_name: metric_name.to_owned(),
        };
        let answer = self.client.get_metrics(asked).await?.into_inner();
        let [value] = &*answer.metric_values else {
            panic!("{answer:?}")
        };
        assert_eq!(value.metric_name, metric_name);
        #[expect(deprecated, reason = "KEDA before 2.17 reads nothing else")]
        let whole = value.metric_value;
        assert_eq!(whole as f64, value.metric_value_float);
        Ok(value.metric_value_float)
    }

    async fn active(&mut self, object: &ScaledObjectRef) -> Result<bool, Status> {
        Ok(self
            .client
            .is_active(object.clone())
            .await?
            .into_inner()
            .result)
    }

    async fn pushed_active(&mut self, object: &ScaledObjectRef) -> Result<bool, Status> {
        let mut stream = self
            .client
            .stream_is_active(object.clone())
            .await?
            .into_inner();
        Ok(stream.message().await?.expect("the state at once").result)
    }

    async fn pushed_spec(&mut self, object: &ScaledObjectRef) -> Result<(String, i64), Status> {
        let mut stream = self
            .client
            .stream_metric_spec(object.clone())
            .await?
            .into_inner();
        Ok(only_spec(
            stream.message().await?.expect("the specs at once"),
        ))
    }
}

fn only_spec(answer: GetMetricSpecResponse) -> (String, i64) {
    let [spec] = &*answer.metric_specs else {
        panic!("{answer:?}")
    };
    #[expect(deprecated, reason = "KEDA before 2.17 reads nothing else")]
    let target = spec.target_size;
    assert_eq!(target as f64, spec.target_size_float);
    (spec.metric_name.clone(), target)
}

fn lines(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.message().lines().map(str::to_owned).collect()
}
