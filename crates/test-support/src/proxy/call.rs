//! A call as it came in: what it asks for, of what, and who asks.

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::{Value, json};

/// Operations of DynamoDB whose answers say what they cost, if they are asked to.
const METERED: [&str; 9] = [
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactWriteItems",
    "UpdateItem",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    DynamoDb,
    Kinesis,
    Sts,
}

impl Service {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::DynamoDb => "application/x-amz-json-1.0",
            Self::Kinesis => "application/x-amz-json-1.1",
            Self::Sts => "text/xml",
        }
    }

    /// The body of an error, with the code as this service writes it.
    pub(super) fn error(self, code: &str, message: &str) -> String {
        let prefix = match (self, code) {
            (Self::DynamoDb, "AccessDeniedException") => "com.amazon.coral.service#",
            (Self::DynamoDb, "ThrottlingException") => "com.amazon.coral.availability#",
            (Self::DynamoDb, _) => "com.amazonaws.dynamodb.v20120810#",
            (Self::Kinesis, _) => "",
            (Self::Sts, _) => {
                return format!(
                    "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
                );
            }
        };
        json!({"__type": format!("{prefix}{code}"), "message": message}).to_string()
    }
}

pub(super) struct Call {
    pub(super) service: Service,
    pub(super) operation: String,
    /// Of the signature; empty where there is none.
    pub(super) access_key: String,
    /// Of the signature; empty where there is none.
    pub(super) region: String,
    /// Tables or the stream; none where the call does not name one, as GetRecords.
    pub(super) on: Vec<String>,
    json: Value,
}

impl Call {
    pub(super) fn read(head: &HeaderMap, body: &Bytes) -> Self {
        let header = |name| {
            let value = head.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default()
        };
        let (service, operation) = match header("x-amz-target").split_once('.') {
            Some((target, operation)) if target.starts_with("DynamoDB") => {
                (Service::DynamoDb, operation.to_owned())
            }
            Some((_, operation)) => (Service::Kinesis, operation.to_owned()),
            None => {
                let form = String::from_utf8_lossy(body);
                let action = form.split('&').find_map(|it| it.strip_prefix("Action="));
                (Service::Sts, action.unwrap_or("Unknown").to_owned())
            }
        };
        let credential = header("authorization").split_once("Credential=");
        let mut scope = credential.map_or("", |(_, rest)| rest).split('/');
        // KEY/DATE/REGION/SERVICE/aws4_request
        let (access_key, region) = (scope.next(), scope.nth(1));
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            service,
            operation,
            access_key: access_key.unwrap_or_default().to_owned(),
            region: region.unwrap_or_default().to_owned(),
            on: named(&json),
            json,
        }
    }

    /// The table or stream, where it is one.
    pub(super) fn only(&self) -> Option<&str> {
        match &self.on[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The table, as the call writes it: by name or by ARN.
    pub(super) fn table(&self) -> Option<&str> {
        self.json["TableName"].as_str()
    }

    /// The same call, which also asks what it costs, and names its table as the embedded DynamoDB
    /// knows it, which takes no ARN. `None`: it is passed on as it came.
    pub(super) fn metered(&self) -> Option<Bytes> {
        if self.service != Service::DynamoDb || !METERED.contains(&&*self.operation) {
            return None;
        }
        let mut json = self.json.clone();
        let fields = json.as_object_mut()?;
        if let (Some(Value::String(table)), Some(name)) = (fields.get_mut("TableName"), self.only())
        {
            name.clone_into(table);
        }
        let total = || Value::from("TOTAL");
        fields.entry("ReturnConsumedCapacity").or_insert_with(total);
        // A condition that does not hold costs as much as the item that is there.
        if fields.contains_key("ConditionExpression") {
            let old = || Value::from("ALL_OLD");
            fields
                .entry("ReturnValuesOnConditionCheckFailure")
                .or_insert_with(old);
        }
        Some(json.to_string().into())
    }

    /// The items that it writes.
    pub(super) fn items(&self) -> Vec<&Value> {
        self.json.get("Item").into_iter().collect()
    }
}

fn named(json: &Value) -> Vec<String> {
    let last = |text: &str| text.rsplit(['/', ':']).next().unwrap_or(text).to_owned();
    let text = |key: &str| json[key].as_str().map(last);
    let one = text("TableName").or_else(|| text("StreamName"));
    let one = one.or_else(|| text("StreamARN"));
    // …:stream/NAME/consumer/…
    let of_consumer = || {
        let (stream, _) = json["ConsumerARN"].as_str()?.split_once("/consumer/")?;
        Some(last(stream))
    };
    let one = one.or_else(of_consumer);
    let several = json["RequestItems"].as_object().into_iter();
    let several = several.flat_map(|tables| tables.keys().map(|name| last(name)));
    let transacted = json["TransactItems"].as_array().into_iter().flatten();
    let transacted = transacted
        .filter_map(|item| item.as_object()?.values().next()?["TableName"].as_str())
        .map(last);
    let mut all: Vec<_> = one.into_iter().chain(several).chain(transacted).collect();
    all.dedup();
    all
}
