//! The rows of a lease table that are leases of one stream.

use kinesis_consumer::lease_table::dynamodb::item::{self, Item, PROJECTION, Parsed};

use super::{Leases, MOST_PAGES};
use crate::{
    aws::{Asked, Client, Resource},
    error::{SourceError, SourceErrorKind, shortened},
    trigger::{LeaseTable, Stream},
};

/// Broken rows that are named.
const MOST_NAMED: usize = 20;

pub(super) async fn leases(
    client: &Client,
    stream: &Stream,
    table: &LeaseTable,
) -> Result<Option<Leases>, SourceError> {
    let asked = Asked {
        operation: "Scan",
        resource: Resource::LeaseTable(&table.name),
        region: client.region(),
    };
    let dynamodb = client.dynamodb(table.endpoint.as_ref()).await;
    // By alias: some attribute names are, or may become, words that DynamoDB reserves.
    let names = PROJECTION.iter().enumerate();
    let projection: Vec<_> = names.map(|(n, name)| (format!("#{n}"), *name)).collect();
    let aliases: Vec<_> = projection.iter().map(|(alias, _)| alias.as_str()).collect();
    let mut found = Leases::default();
    let mut start = None;
    for _ in 0..MOST_PAGES {
        let mut scan = dynamodb
            .scan()
            .table_name(&table.name)
            .projection_expression(aliases.join(", "))
            .set_exclusive_start_key(start.take());
        for (alias, name) in &projection {
            scan = scan.expression_attribute_names(alias, *name);
        }
        let answer = match client.attempt(asked, scan.send()).await {
            Ok(answer) => answer,
            Err(failed) if is_missing(&failed.error) => return Ok(None),
            Err(failed) => return Err(failed.error),
        };
        for row in answer.items.unwrap_or_default() {
            found.add(&row, stream);
        }
        start = answer.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            return Ok(Some(found));
        }
    }
    Err(asked.senseless("the scan of the table does not end"))
}

/// No such table, as DynamoDB says it: another NotFound is the identity's or the endpoint's.
fn is_missing(error: &SourceError) -> bool {
    error.kind == SourceErrorKind::NotFound && error.operation == "Scan"
}

impl Leases {
    fn add(&mut self, row: &Item, wanted: &Stream) {
        match item::parse(row) {
            Parsed::Lease {
                lease,
                stream: None,
            } => self.leases.push(*lease),
            Parsed::Lease {
                lease,
                stream: Some(of),
            } => {
                let is_account = wanted.account().is_none_or(|account| account == of.account);
                let is_wanted = of.stream == wanted.name() && is_account;
                if is_wanted && of.epoch > self.epoch {
                    // The stream was made anew: what was found so far is of the older one.
                    self.epoch = of.epoch;
                    self.others += self.leases.len();
                    self.leases.clear();
                }
                if is_wanted && of.epoch == self.epoch {
                    self.leases.push(*lease);
                } else {
                    self.others += 1;
                }
            }
            Parsed::Other(_) => self.others += 1,
            Parsed::Broken(reason) => {
                if self.malformed.len() < MOST_NAMED {
                    let key = shortened(item::key(row)).into_owned();
                    self.malformed.push((key, shortened(&reason).into_owned()));
                }
            }
        }
    }
}
