//! What the library asks of AWS, as two seams: Kinesis and the lease table.

pub(crate) mod failure;
pub(crate) mod kinesis;
pub(crate) mod lease_table;
