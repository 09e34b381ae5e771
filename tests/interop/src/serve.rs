//! The real scaler, as a process that is asked over gRPC all along, as KEDA asks it: what it knows
//! of an application has come about fetch by fetch.

use std::{io::Write as _, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keda_kinesis_scaler::proto::{
    GetMetricsRequest, ScaledObjectRef, external_scaler_client::ExternalScalerClient,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use crate::{PATIENCE, process::binary, scaler, services::Services};

/// It asks AWS so often, and so is asked.
const REFRESH: Duration = Duration::from_secs(1);

/// What KEDA is told: the value of the metric of `readableShards`, and whether `lag` is active.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) readable: f64,
    pub(crate) active: bool,
}

/// The scaler's process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Scaler {
    answers: watch::Receiver<Result<Answers, String>>,
    asking: JoinHandle<()>,
    _process: Child,
    _config: tempfile::NamedTempFile,
}

impl Scaler {
    /// Starts it, and whoever asks it about the application on this stream.
    pub(crate) async fn start(services: &Services, stream: &str) -> Result<Self> {
        let mut config = tempfile::NamedTempFile::new()?;
        let seconds = REFRESH.as_secs();
        // Time-outs are for the machine: it may be busy.
        writeln!(
            config,
            "{}aws: {{refresh: {seconds}s, timeout: 30s}}",
            scaler::POLICY
        )?;
        let mut process = Command::new(binary("keda-kinesis-scaler")?)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--log-format", "json", "--config"])
            .arg(config.path())
            .env_clear()
            .envs(services.environment())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut log = BufReader::new(process.stderr.take().context("no log")?).lines();
        let serving = async {
            while let Some(line) = log.next_line().await? {
                let line: Value = serde_json::from_str(&line)?;
                if line["message"] == "serving" {
                    return line["grpc"].as_str().map(str::to_owned).context("grpc");
                }
            }
            anyhow::bail!("the scaler ended before it served");
        };
        let address = timeout(PATIENCE, serving).await.context("not serving")??;
        let channel = Endpoint::from_shared(format!("http://{address}"))?;
        let client = ExternalScalerClient::new(channel.connect().await?);
        let object = |name: &str, scale_on| ScaledObjectRef {
            name: name.to_owned(),
            namespace: "interop".to_owned(),
            scaler_metadata: scaler::metadata(services, stream, scale_on)
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
        };
        let objects = (object("readable", "readableShards"), object("lag", "lag"));
        let (sender, answers) = watch::channel(Err("not asked yet".to_owned()));
        let asking = tokio::spawn(async move {
            // Read on, so that the scaler can write its log.
            let reading = async { while let Ok(Some(_)) = log.next_line().await {} };
            let asking = async {
                loop {
                    let answer = ask(client.clone(), &objects).await;
                    let _ = sender.send_replace(answer.map_err(|error| format!("{error:#}")));
                    sleep(REFRESH / 4).await;
                }
            };
            tokio::join!(reading, asking);
        });
        Ok(Self {
            answers,
            asking,
            _process: process,
            _config: config,
        })
    }

    /// Waits until it says so.
    pub(crate) async fn until(&mut self, wanted: Answers) -> Result<()> {
        let says = self.answers.wait_for(|it| *it == Ok(wanted));
        let said = timeout(PATIENCE, says).await.map(|said| said.map(|_| ()));
        let last = self.answers.borrow().clone();
        ensure!(
            said.is_ok(),
            "the scaler says {last:?} over gRPC, want {wanted:?}"
        );
        said?.context("nobody asks the scaler any more")
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn ask(
    mut client: ExternalScalerClient<Channel>,
    (readable, lag): &(ScaledObjectRef, ScaledObjectRef),
) -> Result<Answers> {
    let spec = client.get_metric_spec(readable.clone()).await?.into_inner();
    let spec = spec.metric_specs.into_iter().next().context("no spec")?;
    let request = GetMetricsRequest {
        scaled_object_ref: Some(readable.clone()),
        metric_name: spec.metric_name,
    };
    let metrics = client.get_metrics(request).await?.into_inner();
    let metric = metrics.metric_values.first().context("no value")?;
    let active = client.is_active(lag.clone()).await?.into_inner().result;
    Ok(Answers {
        readable: metric.metric_value_float,
        active,
    })
}
