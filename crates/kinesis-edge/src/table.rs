//! One DynamoDB table: scans, reads and conditional writes, in DynamoDB's own expressions.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, ConsumedCapacity, KeySchemaElement, KeyType,
    KeysAndAttributes, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, error::ConditionalCheckFailedException,
};

use crate::{AttributeValue, DynamoDbClient, Failure, Gate, Kind, Service, call::Calls};

/// An item, or the key of one.
pub type Item = HashMap<String, AttributeValue>;

/// A table, as one client sees it. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Table {
    client: DynamoDbClient,
    name: String,
    calls: Calls,
    meter: Option<Arc<dyn Meter>>,
}

/// Is told what calls consumed, in DynamoDB's units.
pub trait Meter: fmt::Debug + Send + Sync {
    /// Such a call consumed so much, as DynamoDB says. Of a write whose condition did not hold it
    /// says nothing: that is one unit, which is right up to 1 KB.
    fn consumed(&self, operation: &'static str, units: Units);
}

/// What a call consumed: read request units or write request units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Units {
    /// Half a unit for each 4 KB read eventually consistent, one for each read consistent.
    Read(f64),
    /// One for each KB written.
    Written(f64),
}

/// What a write changes, and on what condition.
#[derive(Clone, Debug, Default)]
pub struct Write {
    change: Option<String>,
    condition: Option<String>,
    values: Option<Item>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Written {
    /// It is done. Of an update: the item as it is now.
    Done(Option<Item>),
    /// The condition did not hold. The item as it is, if there is one.
    Refused(Option<Item>),
}

/// What DescribeTable says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// The table's status: `CREATING`, `ACTIVE`, `UPDATING`, `DELETING`, …
    pub status: String,
    /// The attributes of its key.
    pub keys: Vec<Key>,
}

/// An attribute of a table's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// `HASH` or `RANGE`.
    pub role: String,
    /// `S`, `N` or `B`.
    pub r#type: String,
}

/// What mends it that a table of this status cannot be used: a sentence.
pub fn remedy_of_status(status: &str) -> &'static str {
    match status {
        "CREATING" => "Wait until it is made",
        "DELETING" => "Wait until it is deleted, and make it anew",
        "INACCESSIBLE_ENCRYPTION_CREDENTIALS" => {
            "Enable the KMS key that encrypts it and let DynamoDB use it: after seven days AWS \
             archives the table"
        }
        "ARCHIVING" | "ARCHIVED" => {
            "AWS archived it, as its KMS key was lost for seven days: restore it from the backup \
             that AWS made"
        }
        _ => "See what its status means in DynamoDB's documentation",
    }
}

impl Description {
    /// Whether items can be read and written.
    pub fn is_usable(&self) -> bool {
        let unusable = [
            "CREATING",
            "DELETING",
            "INACCESSIBLE_ENCRYPTION_CREDENTIALS",
            "ARCHIVING",
            "ARCHIVED",
        ];
        !unusable.contains(&self.status.as_str())
    }
}

impl Write {
    /// Changes nothing, on no condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// What an update does: an update expression.
    #[must_use]
    pub fn change(mut self, expression: impl Into<String>) -> Self {
        self.change = Some(expression.into());
        self
    }

    /// Only if this condition expression holds.
    #[must_use]
    pub fn on(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// What `name` (with its colon) stands for in both expressions.
    #[must_use]
    pub fn value(mut self, name: &str, value: AttributeValue) -> Self {
        let values = self.values.get_or_insert_default();
        values.insert(name.to_owned(), value);
        self
    }
}

/// What each write begins with: the SDK's requests have these methods, but no trait that has them.
macro_rules! begun {
    ($table:ident, $operation:ident, $write:ident) => {
        $table
            .client
            .$operation()
            .table_name(&$table.name)
            .set_condition_expression($write.condition)
            .set_expression_attribute_values($write.values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .set_return_consumed_capacity($table.consumption())
    };
}

impl Table {
    /// The table of that name.
    pub fn new(client: DynamoDbClient, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
            calls: Calls {
                service: Service::DynamoDb,
                gate: None,
            },
            meter: None,
        }
    }

    /// The same with a gate before each call.
    #[must_use]
    pub fn behind(mut self, gate: Arc<dyn Gate>) -> Self {
        self.calls.gate = Some(gate);
        self
    }

    /// The same, and `meter` is told what each read and write consumed.
    #[must_use]
    pub fn metered(mut self, meter: Arc<dyn Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// What DynamoDB is to say of what a call consumed.
    fn consumption(&self) -> Option<ReturnConsumedCapacity> {
        let total = |_| ReturnConsumedCapacity::Total;
        self.meter.as_ref().map(total)
    }

    fn read<'a>(
        &self,
        operation: &'static str,
        consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        if let Some(meter) = &self.meter {
            let units = consumed.into_iter().filter_map(|of| of.capacity_units);
            meter.consumed(operation, Units::Read(units.sum()));
        }
    }

    /// `says`: what the answer says of the item, and of what it consumed.
    fn written<T>(
        &self,
        operation: &'static str,
        answer: Result<T, Failure>,
        says: impl FnOnce(T) -> (Option<Item>, Option<ConsumedCapacity>),
    ) -> Result<Written, Failure> {
        let (units, written) = match answer {
            Ok(answer) => {
                let (item, consumed) = says(answer);
                let units = consumed.and_then(|of| of.capacity_units);
                (units.unwrap_or_default(), Written::Done(item))
            }
            Err(failure) if failure.kind == Kind::Condition => {
                let refused = failure.cause::<ConditionalCheckFailedException>();
                (
                    1.0,
                    Written::Refused(refused.and_then(|it| it.item.clone())),
                )
            }
            Err(failure) => return Err(failure),
        };
        if let Some(meter) = &self.meter {
            meter.consumed(operation, Units::Written(units));
        }
        Ok(written)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands every item to `row`, eventually consistent, all pages. `attributes`: those wanted;
    /// none: all.
    ///
    /// # Errors
    /// Whenever they are not known to be all; [`Kind::TooLarge`] when `most_pages` (of 1 MB) are
    /// not enough.
    pub async fn scan(
        &self,
        attributes: &[&str],
        most_pages: usize,
        mut row: impl FnMut(&Item) + Send,
    ) -> Result<(), Failure> {
        const OPERATION: &str = "Scan";
        // By alias: some attribute names are, or may become, words that DynamoDB reserves.
        let names = attributes.iter().enumerate();
        let names: HashMap<_, _> = names
            .map(|(n, name)| (format!("#{n}"), (*name).to_owned()))
            .collect();
        let aliases: Vec<_> = names.keys().map(String::as_str).collect();
        let projection = (!aliases.is_empty()).then(|| aliases.join(", "));
        let names = (!names.is_empty()).then_some(names);
        let mut start = None;
        for _ in 0..most_pages {
            let request = self
                .client
                .scan()
                .table_name(&self.name)
                .set_projection_expression(projection.clone())
                .set_expression_attribute_names(names.clone())
                .set_exclusive_start_key(start.take())
                .set_return_consumed_capacity(self.consumption());
            let answer = self.calls.call(OPERATION, request.send()).await?;
            self.read(OPERATION, &answer.consumed_capacity);
            let items = answer.items.as_deref();
            let no_items = || self.calls.senseless(OPERATION, "the answer has no Items");
            items.ok_or_else(no_items)?.iter().for_each(&mut row);
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(());
            }
        }
        let message = format!(
            "the table has more than {most_pages} pages of 1 MB, which is the most that is read"
        );
        Err(Failure::too_large(Service::DynamoDb, OPERATION, &message))
    }

    /// One item, consistent.
    ///
    /// # Errors
    /// AWS says no, or nothing.
    pub async fn get(&self, key: Item) -> Result<Option<Item>, Failure> {
        const OPERATION: &str = "GetItem";
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key))
            .consistent_read(true)
            .set_return_consumed_capacity(self.consumption());
        let answer = self.calls.call_by_id(OPERATION, request.send()).await?;
        self.read(OPERATION, &answer.consumed_capacity);
        Ok(answer.item)
    }

    /// Those of up to 100 items that are there, eventually consistent, in any order.
    ///
    /// # Errors
    /// AWS says no, nothing, or tells of a part only.
    pub async fn get_each(&self, keys: Vec<Item>) -> Result<Vec<Item>, Failure> {
        const OPERATION: &str = "BatchGetItem";
        let keys = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .build()
            .expect("the keys are set");
        let request = self
            .client
            .batch_get_item()
            .request_items(&self.name, keys)
            .set_return_consumed_capacity(self.consumption());
        let answer = self.calls.call_by_id(OPERATION, request.send()).await?;
        self.read(OPERATION, answer.consumed_capacity());
        if answer.unprocessed_keys.is_some_and(|keys| !keys.is_empty()) {
            let call = (Service::DynamoDb, OPERATION);
            let message = "not all was read";
            return Err(Failure::new(
                call,
                Kind::Throttled,
                "UnprocessedKeys",
                message,
            ));
        }
        let found = answer
            .responses
            .and_then(|mut tables| tables.remove(&self.name));
        Ok(found.unwrap_or_default())
    }

    /// Puts a whole item.
    ///
    /// # Errors
    /// AWS says no for another reason than the condition, or nothing; of [`Kind::Unavailable`] also
    /// when an answer of status 200 is not AWS's.
    pub async fn put(&self, item: Item, write: Write) -> Result<Written, Failure> {
        const OPERATION: &str = "PutItem";
        let request = begun!(self, put_item, write).set_item(Some(item));
        let answer = self.calls.call_by_id(OPERATION, request.send()).await;
        self.written(OPERATION, answer, |answer| (None, answer.consumed_capacity))
    }

    /// Changes an item, or makes it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn update(&self, key: Item, write: Write) -> Result<Written, Failure> {
        const OPERATION: &str = "UpdateItem";
        let request = begun!(self, update_item, write)
            .set_key(Some(key))
            .set_update_expression(write.change)
            .return_values(ReturnValue::AllNew);
        let answer = self.calls.call_by_id(OPERATION, request.send()).await;
        self.written(OPERATION, answer, |answer| {
            (answer.attributes, answer.consumed_capacity)
        })
    }

    /// Deletes an item.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, key: Item, write: Write) -> Result<Written, Failure> {
        const OPERATION: &str = "DeleteItem";
        let request = begun!(self, delete_item, write).set_key(Some(key));
        let answer = self.calls.call_by_id(OPERATION, request.send()).await;
        self.written(OPERATION, answer, |answer| (None, answer.consumed_capacity))
    }

    /// The table's status and key.
    ///
    /// # Errors
    /// AWS says no, or nothing.
    pub async fn describe(&self) -> Result<Description, Failure> {
        const OPERATION: &str = "DescribeTable";
        let request = self.client.describe_table().table_name(&self.name);
        let answer = self.calls.call(OPERATION, request.send()).await?;
        let no_table = || self.calls.senseless(OPERATION, "the answer has no Table");
        let table = answer.table.ok_or_else(no_table)?;
        let type_of = |name: &str| {
            let mut definitions = table.attribute_definitions().iter();
            let definition = definitions.find(|definition| definition.attribute_name() == name);
            definition.map_or("", |definition| definition.attribute_type().as_str())
        };
        let keys = table.key_schema().iter().map(|key| Key {
            name: key.attribute_name().to_owned(),
            role: key.key_type().as_str().to_owned(),
            r#type: type_of(key.attribute_name()).to_owned(),
        });
        let status = table
            .table_status()
            .map_or("ACTIVE", |status| status.as_str());
        Ok(Description {
            status: status.to_owned(),
            keys: keys.collect(),
        })
    }

    /// Makes the table, paid by request, with one key attribute of type S. `false`: there is one.
    ///
    /// # Errors
    /// AWS says no for another reason, or nothing.
    pub async fn create(&self, key: &str) -> Result<bool, Failure> {
        let attribute = AttributeDefinition::builder()
            .attribute_name(key)
            .attribute_type(ScalarAttributeType::S)
            .build();
        let key = KeySchemaElement::builder()
            .attribute_name(key)
            .key_type(KeyType::Hash)
            .build();
        let request = self
            .client
            .create_table()
            .table_name(&self.name)
            .key_schema(key.expect("name and type are set"))
            .attribute_definitions(attribute.expect("name and type are set"))
            .billing_mode(BillingMode::PayPerRequest);
        match self.calls.call_by_id("CreateTable", request.send()).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::InUse => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
