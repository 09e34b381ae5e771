//! What calls come to: how many, how large, how many units of DynamoDB.

use std::{collections::BTreeMap, iter::Sum, ops::AddAssign};

use serde_json::Value;

/// By operation, and table or stream (empty where the call names none, or several).
pub(super) type Tallies = BTreeMap<(String, String), Tally>;

/// What calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Calls that came in, answered or not.
    pub calls: u64,
    /// Answers with a status of 400 or more, those of faults included.
    pub refused: u64,
    /// Calls that met a fault.
    pub faults: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of answers' bodies, as the service gave them.
    pub answer_bytes: u64,
    /// Items that were written whole or read.
    pub items: u64,
    /// Their sizes together, by DynamoDB's rules.
    pub item_bytes: u64,
    /// The largest of them.
    pub largest_item: u64,
    /// DynamoDB's read request units: 4 KB each, rounded up for an item, for a page of Query and
    /// Scan by what was read together; half of that where consistency is eventual.
    pub read_units: f64,
    /// DynamoDB's write request units: 1 KB each, rounded up, of the item before or after,
    /// whichever is larger; a condition that does not hold costs as well.
    pub write_units: f64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self {
            calls,
            refused,
            faults,
            request_bytes,
            answer_bytes,
            items,
            item_bytes,
            largest_item,
            read_units,
            write_units,
        } = other;
        self.calls += calls;
        self.refused += refused;
        self.faults += faults;
        self.request_bytes += request_bytes;
        self.answer_bytes += answer_bytes;
        self.items += items;
        self.item_bytes += item_bytes;
        self.largest_item = self.largest_item.max(largest_item);
        self.read_units += read_units;
        self.write_units += write_units;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        let mut sum = Self::default();
        tallies.for_each(|tally| sum += tally);
        sum
    }
}

impl Tally {
    /// Adds items, as DynamoDB's JSON has them.
    pub(super) fn items<'a>(&mut self, items: impl IntoIterator<Item = &'a Value>) {
        for item in items {
            let size = item_size(item);
            self.items += 1;
            self.item_bytes += size;
            self.largest_item = self.largest_item.max(size);
        }
    }

    /// Adds what DynamoDB answered to an operation.
    pub(super) fn answer(&mut self, operation: &str, answer: &Value) {
        if answer["__type"]
            .as_str()
            .is_some_and(|code| code.ends_with("#ConditionalCheckFailedException"))
        {
            let kilobytes = item_size(&answer["Item"]).div_ceil(1024).max(1);
            self.write_units += kilobytes as f64;
            return;
        }
        let units: f64 = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.iter().map(units_of).sum(),
            table => units_of(table),
        };
        match operation {
            "BatchGetItem" | "GetItem" | "Query" | "Scan" => {
                self.read_units += units;
                self.items(answer.get("Item"));
                self.items(answer["Items"].as_array().into_iter().flatten());
                let tables = answer["Responses"].as_object().into_iter();
                let tables = tables.flat_map(|tables| tables.values());
                self.items(tables.filter_map(Value::as_array).flatten());
            }
            _ => self.write_units += units,
        }
    }
}

fn units_of(consumed: &Value) -> f64 {
    consumed["CapacityUnits"].as_f64().unwrap_or_default()
}

/// In bytes, as DynamoDB bills it; 0 for what is no item.
fn item_size(item: &Value) -> u64 {
    let item: Option<dynoxide::types::Item> = serde_json::from_value(item.clone()).ok();
    item.map_or(0, |item| dynoxide::types::item_size(&item) as u64)
}
