//! A stream that is being made has no shards yet: that is no answer, and never an idle stream.

use serde_json::json;
use tonic::Code;

use crate::support::*;

/// Kinesis while the stream is CREATING, as emulators have it: counted 0, listed without shards.
pub async fn creating(throttled: bool) -> Scripted {
    Scripted::start(move |operation, _| match operation {
        "DescribeStreamSummary" if throttled => Err("LimitExceededException"),
        "DescribeStreamSummary" => Ok(json!({"StreamDescriptionSummary": {
            "StreamName": "orders", "StreamARN": "arn:aws:kinesis:us-east-1:111122223333:stream/orders",
            "StreamStatus": "CREATING", "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1.0,
            "EnhancedMonitoring": [], "OpenShardCount": 0,
        }})),
        "ListShards" => Ok(json!({"Shards": []})),
        _ => Ok(json!({"Items": [], "Count": 0, "ScannedCount": 0})),
    })
    .await
}

#[tokio::test]
async fn it_is_not_yet_known() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    for (throttled, more) in [
        (false, &[("scaleOn", "openShards")][..]),
        (true, &[("scaleOn", "openShards")]),
        (false, &[("scaleOn", "readableShards")]),
        (false, &[("scaleOn", "lag")]),
    ] {
        let aws = creating(throttled).await;
        let mut object = stack.scripted(&aws, "orders", more);
        if more[0].1 == "openShards" {
            let keys = &mut object.scaler_metadata;
            keys.retain(|key, _| key != "applicationName" && key != "leaseTableEndpoint");
        }
        let status = value(&mut client, &object).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{more:?}: {status}");
        assert!(
            status.message().contains("no shards yet, it is being made"),
            "{more:?}: {status}"
        );
        let active = client.is_active(object).await.unwrap_err();
        assert_eq!(active.code(), Code::Unavailable, "{more:?}: {active}");
    }
}
