//! What the library asks of AWS, as seams: Kinesis, the account that streams are found in, and the
//! lease table.

pub(crate) mod account;
pub(crate) mod failure;
pub(crate) mod kinesis;
pub(crate) mod lease_table;
pub(crate) mod turns;
