//! What KEDA does for a trigger of type `external-push`: it keeps StreamIsActive open, and hears of
//! activity at once.

use std::{collections::HashMap, time::Duration};

use keda_kinesis_scaler::proto::external_scaler_client::ExternalScalerClient;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tonic::transport::Channel;

/// An open stream. Closed when dropped.
#[derive(Debug)]
pub(super) struct Pushes {
    heard: mpsc::UnboundedReceiver<bool>,
    stream: JoinHandle<()>,
}

impl Pushes {
    pub(super) fn open(
        mut scaler: ExternalScalerClient<Channel>,
        metadata: HashMap<String, String>,
    ) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let stream = tokio::spawn(async move {
            loop {
                let object = super::scaled_object(metadata.clone());
                if let Ok(answer) = scaler.stream_is_active(object).await {
                    let mut answers = answer.into_inner();
                    while let Ok(Some(answer)) = answers.message().await {
                        // Nobody listens: the task is about to be aborted.
                        let _ = tell.send(answer.result);
                    }
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        Self { heard, stream }
    }

    /// The next state that is pushed.
    pub(super) async fn next(&mut self) -> bool {
        match self.heard.recv().await {
            Some(active) => active,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.stream.abort();
    }
}
