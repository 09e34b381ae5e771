//! The keys about an application's lease table.

use jiff::Timestamp;
use url::Url;

use super::Metadata;
use crate::{
    names,
    trigger::{LeaseTable, Measure, OnMissingTable, Role, StreamSource, Work},
};

/// Keys that only an application's lease table gives a meaning.
pub(super) const KEYS: &[&str] = &[
    "applicationName",
    "leaseTable",
    "leaseTableRegion",
    "leaseTableRoleArn",
    "leaseTableExternalId",
    "onMissingTable",
    "leaseTableEndpoint",
];

const TABLE_REGION: &str = "leaseTableRegion";

/// What `leaseTableRoleArn` says where the scaler's own identity is meant.
const OWN_IDENTITY: &str = "none";

/// What a trigger says of its lease table. What it leaves out is as for the stream.
pub(in crate::trigger) struct Table {
    application: String,
    key: &'static str,
    name: String,
    arn: Option<String>,
    region: Option<String>,
    endpoint: Option<Url>,
    asked_by: AskedBy,
    on_missing: Option<OnMissingTable>,
}

/// Who asks about the table.
enum AskedBy {
    WhoAsksAboutTheStream,
    TheScaler,
    Role(Role),
}

impl Table {
    /// The work of the table's application on this stream.
    ///
    /// Where a role, another region or what may be another account is in play, a table that is not
    /// there is more likely looked for in the wrong place than yet to be made.
    pub(super) fn work(
        self,
        measure: Measure,
        initial_timestamp: Option<Timestamp>,
        stream: &StreamSource,
    ) -> Work {
        let account = |arn: &str| arn.split(':').nth(4).map(str::to_owned);
        let is_of_its_account = |role: &Role| {
            let table = self.arn.as_deref();
            table.is_none_or(|table| account(table) == account(&role.arn))
        };
        let role = match self.asked_by {
            // A role of one account has no business in another's, unless the trigger says so.
            AskedBy::WhoAsksAboutTheStream => stream.role.clone().filter(is_of_its_account),
            AskedBy::TheScaler => None,
            AskedBy::Role(role) => Some(role),
        };
        let table = LeaseTable {
            name: self.name,
            arn: self.arn,
            region: self.region.unwrap_or_else(|| stream.region.clone()),
            endpoint: self.endpoint,
            role,
        };
        let is_of_another_account = table.arn.as_deref().is_some_and(|table| {
            let of_stream = stream.stream.account();
            of_stream.map(str::to_owned) != account(table)
        });
        let elsewhere = table.role.is_some()
            || stream.role.is_some()
            || table.region != stream.region
            || is_of_another_account;
        let on_missing = match elsewhere {
            true => OnMissingTable::Error,
            false => OnMissingTable::Activate,
        };
        Work {
            application: self.application,
            table,
            table_key: self.key,
            on_missing_table: self.on_missing.unwrap_or(on_missing),
            measure,
            initial_timestamp,
        }
    }
}

impl<'a> Metadata<'a> {
    /// The table of the application that `scaleOn` asks about.
    pub(super) fn lease_table(&mut self) -> Option<Table> {
        const NAME: &str = "3 to 255 of the characters a-z A-Z 0-9 _ . -, as DynamoDB has it";
        const ARN: &str = "a table's name or ARN, arn:aws:dynamodb:REGION:ACCOUNT:table/NAME";
        let on_missing = self.on_missing_table();
        let endpoint = self.endpoint("leaseTableEndpoint");
        let asked_by = self.asked_by();
        let region = self.table_region();
        let Some(application) = self.value("applicationName") else {
            return self.unsaid(
                "applicationName",
                "the name that the application's consumers are configured with: scaleOn asks about its work",
            );
        };
        let (key, given) = match self.value("leaseTable") {
            Some(table) => ("leaseTable", table),
            None => ("applicationName", application),
        };
        let arn = (key == "leaseTable" && given.starts_with("arn:")).then_some(given);
        let (region_of_arn, name) = match arn.map(names::table_arn) {
            Some(Ok((region, name))) => (Some(region), name),
            Some(Err(instead)) => {
                return self.wrong(key, given, format!("{ARN}; this is {instead}"));
            }
            None if names::is_table_name(given) => (None, given),
            None => return self.wrong(key, given, NAME),
        };
        if let (Some(region), Some(of_arn)) = (region, region_of_arn)
            && region != of_arn
        {
            let want = format!("the region of leaseTable, {of_arn}, or nothing");
            return self.wrong(TABLE_REGION, region, want);
        }
        Some(Table {
            application: application.to_owned(),
            key,
            name: name.to_owned(),
            arn: arn.map(str::to_owned),
            region: region.or(region_of_arn).map(str::to_owned),
            endpoint,
            asked_by: asked_by?,
            on_missing,
        })
    }

    /// `leaseTableRegion`. A wrong one counts as none, which nobody will see.
    fn table_region(&mut self) -> Option<&'a str> {
        match self.value(TABLE_REGION)? {
            region if names::is_region(region) => Some(region),
            region => self.wrong(TABLE_REGION, region, "a region, such as eu-west-1"),
        }
    }

    /// `None`: the role or its external id is wrong.
    fn asked_by(&mut self) -> Option<AskedBy> {
        const KEY: &str = "leaseTableRoleArn";
        let arn = self.value(KEY);
        let has_external_id = self.value("leaseTableExternalId").is_some();
        match arn {
            None if !has_external_id => Some(AskedBy::WhoAsksAboutTheStream),
            Some(OWN_IDENTITY) if !has_external_id => Some(AskedBy::TheScaler),
            arn => {
                let arn = arn.filter(|arn| *arn != OWN_IDENTITY);
                let role = self.role(KEY, arn, "leaseTableExternalId");
                role.map(AskedBy::Role)
            }
        }
    }

    fn on_missing_table(&mut self) -> Option<OnMissingTable> {
        match self.value("onMissingTable")? {
            "activate" => Some(OnMissingTable::Activate),
            "idle" => Some(OnMissingTable::Idle),
            "error" => Some(OnMissingTable::Error),
            value => self.wrong("onMissingTable", value, "activate, idle or error"),
        }
    }
}
