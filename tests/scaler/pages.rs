//! Lists of several pages: all of them or an error, never a part; and asked once, whoever wants to
//! know.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::*;
use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use test_support::{Said, Scripted, shard_id, shards};
use tonic::Code;

/// What all pages together come to. The first page of shards alone would be 2, and the first page
/// of leases alone 4.
const READABLE: f64 = 3.0;

/// An application whose shards and leases are two pages each.
struct Paged {
    aws: Scripted,
    /// The second page of this operation is this error.
    fails: Arc<Mutex<Option<(&'static str, &'static str)>>>,
}

fn lease(shard: &str, parents: &[&str]) -> Value {
    let parents: Vec<_> = parents.iter().map(|parent| shard_id(parent)).collect();
    let mut row = json!({
        "leaseKey": {"S": shard_id(shard)},
        "leaseCounter": {"N": "1"},
        "checkpoint": {"S": "TRIM_HORIZON"},
    });
    if !parents.is_empty() {
        row["parentShardId"] = json!({"SS": parents});
    }
    row
}

fn is_second(asked: &Value) -> bool {
    asked.get("NextToken").is_some() || asked.get("ExclusiveStartKey").is_some()
}

fn page(operation: &str, asked: &Value) -> Said {
    Ok(match (operation, is_second(asked)) {
        ("ListShards", false) => json!({"Shards": shards("0 1. 0>3."), "NextToken": "second"}),
        ("ListShards", true) => {
            assert_eq!(asked["NextToken"], "second");
            json!({"Shards": shards("2. 0>4.")})
        }
        ("Scan", false) => {
            let items = [lease("1", &[]), lease("3", &["0"]), lease("4", &["0"])];
            json!({"Items": items, "LastEvaluatedKey": {"leaseKey": {"S": shard_id("4")}}})
        }
        ("Scan", true) => {
            assert_eq!(asked["ExclusiveStartKey"]["leaseKey"]["S"], shard_id("4"));
            json!({"Items": [lease("2", &[]), lease("0", &[])]})
        }
        ("GetShardIterator", _) => json!({"ShardIterator": "at the tip"}),
        ("GetRecords", _) => {
            json!({"Records": [], "NextShardIterator": "at the tip", "MillisBehindLatest": 0})
        }
        (other, _) => panic!("{other}"),
    })
}

impl Paged {
    async fn start() -> Self {
        let fails = Arc::<Mutex<Option<_>>>::default();
        let failing = Arc::clone(&fails);
        let aws = Scripted::start(move |operation, asked| {
            let fails: Option<(&str, &str)> = *failing.lock().unwrap();
            match fails {
                Some((fails, code)) if fails == operation && is_second(asked) => Err(code),
                _ => page(operation, asked),
            }
        });
        Self {
            aws: aws.await,
            fails,
        }
    }

    fn fail(&self, operation: &'static str, code: &'static str) {
        *self.fails.lock().unwrap() = Some((operation, code));
    }

    /// How often an operation was begun.
    fn begun(&self, operation: &str) -> usize {
        let calls = self.aws.calls(operation);
        calls.iter().filter(|asked| !is_second(asked)).count()
    }

    /// How often it was gone on with.
    fn gone_on(&self, operation: &str) -> usize {
        self.aws.calls(operation).len() - self.begun(operation)
    }
}

#[rstest]
#[case::shards_throttled("ListShards", "LimitExceededException", Code::ResourceExhausted)]
#[case::shards_denied("ListShards", "AccessDeniedException", Code::PermissionDenied)]
#[case::shards_expired("ListShards", "ExpiredTokenException", Code::Unauthenticated)]
#[case::shards_page_expired("ListShards", "ExpiredNextTokenException", Code::Unavailable)]
#[case::shards_broken("ListShards", "InternalFailure", Code::Unavailable)]
#[case::leases_throttled(
    "Scan",
    "ProvisionedThroughputExceededException",
    Code::ResourceExhausted
)]
#[case::leases_denied("Scan", "AccessDeniedException", Code::PermissionDenied)]
#[case::leases_expired("Scan", "ExpiredTokenException", Code::Unauthenticated)]
#[case::leases_broken("Scan", "InternalServerError", Code::Unavailable)]
#[tokio::test]
async fn a_second_page_that_fails(
    #[case] operation: &'static str,
    #[case] error: &'static str,
    #[case] code: Code,
    #[values("readableShards", "lag")] scale_on: &str,
) {
    let paged = Paged::start().await;
    let stack = Stack::start().await;
    assert!(config().aws.max_stale > PATIENCE);
    let mut client = stack.client().await;

    // From cold: the error, in every answer.
    paged.fail(operation, error);
    let object = stack.scripted(&paged.aws, "orders", &[("scaleOn", scale_on)]);
    wait_for_code(&mut client, &object, code).await;
    for _ in 0..5 {
        let status = value(&mut client, &object).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        for wanted in [operation, error] {
            assert!(status.message().contains(wanted), "{wanted}: {status}");
        }
        let active = client.is_active(object.clone()).await.unwrap_err();
        assert_eq!(active.code(), code, "{active}");
    }

    // Warm: the last whole answer, or where it is permanent the error.
    *paged.fails.lock().unwrap() = None;
    let whole = first_value(&mut client, &object).await;
    if scale_on == "readableShards" {
        assert_eq!(whole, READABLE);
    }
    paged.fail(operation, error);
    let before = paged.gone_on(operation);
    let asked = async {
        while paged.gone_on(operation) < before + 20 {
            match value(&mut client, &object).await {
                Ok(value) => assert_eq!(value, whole, "never a part"),
                Err(status) => assert_eq!((status.code(), code), (code, Code::PermissionDenied)),
            }
        }
    };
    eventually("twenty second pages", asked).await;
    if code == Code::PermissionDenied {
        wait_for_code(&mut client, &object, code).await;
    } else {
        assert_eq!(value(&mut client, &object).await.unwrap(), whole);
    }

    *paged.fails.lock().unwrap() = None;
    assert_eq!(first_value(&mut client, &object).await, whole);
}

/// The first answer that is no error.
async fn first_value(
    client: &mut Client,
    object: &keda_kinesis_scaler::proto::ScaledObjectRef,
) -> f64 {
    let asked = async {
        loop {
            if let Ok(value) = value(client, object).await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("an answer", asked).await
}

#[tokio::test]
async fn a_list_whose_page_expired_is_begun_anew() {
    let once = Mutex::new(true);
    let aws = Scripted::start(move |operation, asked| {
        let is_late = operation == "ListShards" && is_second(asked);
        if is_late && std::mem::take(&mut *once.lock().unwrap()) {
            return Err("ExpiredNextTokenException");
        }
        page(operation, asked)
    })
    .await;
    let stack = Stack::with(never_again).await;
    let object = stack.scripted(&aws, "orders", &[("scaleOn", "readableShards")]);
    let mut client = stack.client().await;
    assert_eq!(value(&mut client, &object).await.unwrap(), READABLE);
    assert_eq!(aws.calls("ListShards").len(), 4, "no shard counts twice");
}

#[tokio::test]
async fn a_look_costs_one_scan_whoever_asks() {
    let paged = Paged::start().await;
    let stack = Stack::with(never_again).await;
    let client = stack.client().await;
    let object = |number: usize| {
        let threshold = format!("{}s", 30 + number % 7);
        let replicas = (1 + number % 3).to_string();
        let more = match number % 2 {
            0 => vec![("scaleOn", "lag"), ("lagThreshold", &*threshold)],
            _ => vec![("scaleOn", "readableShards"), ("shardCount", &*replicas)],
        };
        let mut object = stack.scripted(&paged.aws, "orders", &more);
        object.name = format!("object-{number}");
        object.namespace = format!("team-{}", number % 5);
        object
    };
    let mut pushed = Vec::new();
    for number in 0..50 {
        let mut client = client.clone();
        let states = client.stream_is_active(object(number)).await.unwrap();
        pushed.push(states.into_inner());
    }
    for states in &mut pushed {
        eventually("the first state", states.message())
            .await
            .unwrap();
    }
    let asked = (0..200).map(|number| {
        let (mut client, object) = (client.clone(), object(number));
        async move {
            for _ in 0..3 {
                let value = value(&mut client, &object).await.unwrap();
                assert!(number % 2 == 0 || value == READABLE, "{value}");
                client.is_active(object.clone()).await.unwrap();
            }
        }
    });
    eventually("all answers", join_all(asked)).await;
    for operation in ["Scan", "ListShards"] {
        let calls = paged.aws.calls(operation);
        assert_eq!(calls.len(), 2, "the pages of one look: {calls:?}");
    }
}

#[tokio::test]
async fn each_refresh_costs_one_scan_more() {
    let paged = Paged::start().await;
    let stack = Stack::start().await;
    let client = stack.client().await;
    let asked = (0..40).map(|number| {
        let scale_on = if number % 2 == 0 {
            "lag"
        } else {
            "readableShards"
        };
        let mut object = stack.scripted(&paged.aws, "orders", &[("scaleOn", scale_on)]);
        object.name = format!("object-{number}");
        let (mut client, paged) = (client.clone(), &paged);
        async move {
            // The shards are listed once a look.
            while paged.begun("ListShards") < 10 {
                value(&mut client, &object).await.unwrap();
            }
        }
    });
    eventually("ten looks", join_all(asked)).await;
    stack.stop().await;
    // The leases of a look come before its shards.
    let (lists, scans) = (paged.begun("ListShards"), paged.begun("Scan"));
    assert!((lists..=lists + 1).contains(&scans), "{scans}, {lists}");
}

#[tokio::test]
async fn a_table_of_several_streams_is_scanned_once_for_all_of_them() {
    let aws = Scripted::start(|operation, asked| match operation {
        "Scan" => {
            let items = ["orders", "payments", "refunds"].map(|stream| {
                let stream = format!("111122223333:{stream}:1700000000");
                let mut row = lease("0", &[]);
                row["leaseKey"]["S"] = format!("{stream}:{}", shard_id("0")).into();
                row["streamName"] = json!({"S": stream});
                row["shardId"] = json!({"S": shard_id("0")});
                row
            });
            Ok(json!({"Items": items}))
        }
        "ListShards" => Ok(json!({"Shards": shards("0.")})),
        _ => page(operation, asked),
    })
    .await;
    let stack = Stack::with(never_again).await;
    let client = stack.client().await;
    let asked = (0..60).map(|number| {
        let stream = ["orders", "payments", "refunds"][number % 3];
        let mut object = stack.scripted(&aws, stream, &[("scaleOn", "readableShards")]);
        object.name = format!("object-{number}");
        let mut client = client.clone();
        async move { assert_eq!(value(&mut client, &object).await.unwrap(), 1.0) }
    });
    eventually("all answers", join_all(asked)).await;
    assert_eq!(aws.calls("ListShards").len(), 3);
    assert_eq!(aws.calls("Scan").len(), 1);
}

/// So many pages of one lease, and a stream of one shard.
async fn large(pages: usize, rows_a_page: usize) -> Scripted {
    let shard = shards("0.");
    let items: Vec<_> = (0..rows_a_page).map(|_| lease("0", &[])).collect();
    Scripted::start(move |operation, asked| match operation {
        "ListShards" => Ok(json!({"Shards": shard})),
        "Scan" => {
            let at = &asked["ExclusiveStartKey"]["leaseKey"]["S"];
            let page: usize = at.as_str().map_or(1, |at| at.parse().unwrap());
            let mut answer = json!({"Items": items});
            if page < pages {
                answer["LastEvaluatedKey"] = json!({"leaseKey": {"S": (page + 1).to_string()}});
            }
            Ok(answer)
        }
        other => panic!("{other}"),
    })
    .await
}

#[rstest]
#[case::megabytes(101, 1, "more than 100 pages of 1 MB")]
#[case::endless(usize::MAX, 1, "more than 100 pages of 1 MB")]
#[case::rows(51, 2_000, "102000 rows; 100000 are the most")]
#[tokio::test]
async fn a_lease_table_beyond_the_bounds_is_an_error_that_says_which_and_is_read_once(
    #[case] pages: usize,
    #[case] rows_a_page: usize,
    #[case] bound: &str,
) {
    let aws = large(pages, rows_a_page).await;
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    let object = stack.scripted(&aws, "orders", &[("scaleOn", "readableShards")]);
    let status = wait_for_code(&mut client, &object, Code::Unavailable).await;
    let said = async {
        let mut status = status;
        while !status.message().contains("TooLarge") {
            status = value(&mut client, &object).await.unwrap_err();
        }
        status
    };
    let status = eventually("the error", said).await;
    for part in [bound, "lease table billing", "a lease table of its own"] {
        assert!(status.message().contains(part), "{part}: {status}");
    }
    let scans = aws.calls("Scan").len();
    assert_eq!(scans, pages.min(100));
    // Refreshes go on, each 50 ms; none of them reads it again.
    scraped(stack.admin, "ten failures", |text| {
        text.contains("keda_kinesis_scaler_watchers{state=\"failing\"} 1")
    })
    .await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        value(&mut client, &object).await.unwrap_err();
    }
    assert_eq!(aws.calls("Scan").len(), scans);
}

#[tokio::test]
async fn a_lease_table_of_a_hundred_megabytes_is_read() {
    let aws = large(100, 1).await;
    let stack = Stack::start().await;
    let object = stack.scripted(&aws, "orders", &[("scaleOn", "readableShards")]);
    assert_eq!(first_value(&mut stack.client().await, &object).await, 1.0);
}

/// As many as AWS gives a stream: ten pages of shards, a table of ten pages.
#[tokio::test]
async fn ten_thousand_shards_are_counted() {
    const PAGES: usize = 10;
    let page = |token: &Value| token.as_str().map_or(0, |it| it.parse().unwrap());
    let numbers = |page: usize| page * 1_000..(page + 1) * 1_000;
    let aws = Scripted::start(move |operation, asked| match operation {
        "ListShards" => {
            let page = page(&asked["NextToken"]);
            let text: Vec<_> = numbers(page).map(|number| format!("{number}.")).collect();
            let mut answer = json!({"Shards": shards(&text.join(" "))});
            if page + 1 < PAGES {
                answer["NextToken"] = (page + 1).to_string().into();
            }
            Ok(answer)
        }
        "Scan" => {
            let page = page(&asked["ExclusiveStartKey"]["leaseKey"]["S"]);
            let items = numbers(page).map(|number| lease(&number.to_string(), &[]));
            let mut answer = json!({"Items": items.collect::<Vec<_>>()});
            if page + 1 < PAGES {
                answer["LastEvaluatedKey"] = json!({"leaseKey": {"S": (page + 1).to_string()}});
            }
            Ok(answer)
        }
        other => panic!("{other}"),
    })
    .await;
    let stack = Stack::with(never_again).await;
    let object = stack.scripted(&aws, "orders", &[("scaleOn", "readableShards")]);
    let count = first_value(&mut stack.client().await, &object).await;
    assert_eq!(count, 10_000.0);
    assert_eq!(
        (aws.calls("ListShards").len(), aws.calls("Scan").len()),
        (PAGES, PAGES)
    );
}
