//! What the scaler's scans of lease tables cost in a month: docs/lag.md has the table that this
//! prints.
//!
//! The units are those of whole scans of lease tables as Java KCL 2 writes them, as the proxy
//! before DynamoDB counts them.

use aws_sdk_dynamodb::types::{
    AttributeValue, KeyType, PutRequest, ScalarAttributeType, WriteRequest,
};

use crate::support::*;

/// On demand, us-east-1, in dollars for a million read request units.
const PRICE: f64 = 0.125;

const MONTH: f64 = 30.0 * 24.0 * 3600.0;

/// When the lease table of one application is scanned, and how often in a month.
const MODES: [(&str, f64); 5] = [
    ("`openShards`", 0.0),
    (
        "pods run, or a push stream is open: every 15 s",
        MONTH / 15.0,
    ),
    ("zero pods, asked every 30 s", MONTH / 30.0),
    ("zero pods, asked every 5 min", MONTH / 300.0),
    ("zero pods, asked every hour", MONTH / 3600.0),
];

fn lease(number: usize) -> WriteRequest {
    let (text, digits) = (AttributeValue::S, AttributeValue::N);
    let position = |shift: u32| format!("{}", u128::MAX >> shift);
    let item = [
        ("leaseKey", text(format!("shardId-{number:012}"))),
        (
            "checkpoint",
            text(format!("4968048347647580{}", position(0))),
        ),
        ("checkpointSubSequenceNumber", digits("0".to_owned())),
        ("leaseCounter", digits("123456".to_owned())),
        (
            "leaseOwner",
            text("billing-7d4f9c6b8d-x2x7q:4d1c3a52-6f53-4c43-9a0e-2f6f3a7f1f10".to_owned()),
        ),
        ("ownerSwitchesSinceCheckpoint", digits("3".to_owned())),
        ("startingHashKey", text(position(1))),
        ("endingHashKey", text(position(0))),
    ];
    let put = PutRequest::builder();
    let put = item
        .into_iter()
        .fold(put, |put, (name, value)| put.item(name, value));
    WriteRequest::builder()
        .put_request(put.build().unwrap())
        .build()
}

/// The read request units of one scan of so many leases.
async fn units(leases: usize) -> f64 {
    let dynamodb = DynamoDb::start().await;
    let key = ("leaseKey", KeyType::Hash, ScalarAttributeType::S);
    dynamodb.create_table("billing", &[key]).await;
    for first in (0..leases).step_by(25) {
        let rows = (first..leases.min(first + 25)).map(lease).collect();
        let write = dynamodb.client.batch_write_item();
        write.request_items("billing", rows).send().await.unwrap();
    }
    dynamodb.clear_tallies();
    let scan = dynamodb.client.scan().table_name("billing");
    let mut pages = scan.into_paginator().send();
    while let Some(page) = pages.next().await {
        page.unwrap();
    }
    let scanned = dynamodb.tally("Scan");
    assert_eq!(scanned.items, leases as u64);
    scanned.read_units
}

fn dollars(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        amount if amount < 0.01 => "< 0.01".to_owned(),
        amount if amount < 10.0 => format!("{amount:.2}"),
        amount => format!("{amount:.0}"),
    }
}

#[tokio::test]
async fn a_month_of_scans_costs_what_the_documentation_says() {
    let (small, large) = (units(100).await, units(5000).await);
    let mut table = format!(
        "| dollars a month | 100 leases, {small} units a scan: 1 application | 100 | 1,000 | \
         5,000 leases, {large} units: 1 application | 100 | 1,000 |\n|---|{}\n",
        "---|".repeat(6)
    );
    for (mode, scans) in MODES {
        let of = |units: f64, applications: f64| {
            dollars(scans * units * applications * PRICE / 1_000_000.0)
        };
        let cells: Vec<_> = [small, large]
            .into_iter()
            .flat_map(|units| [1.0, 100.0, 1000.0].map(|applications| of(units, applications)))
            .collect();
        table += &format!("| {mode} | {} |\n", cells.join(" | "));
    }
    println!("{table}");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lag.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(&table),
        "docs/lag.md has another table than\n{table}"
    );
}
