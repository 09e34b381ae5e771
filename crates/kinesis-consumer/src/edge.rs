//! What the library asks of AWS, as two seams: Kinesis and the lease table.

pub mod kinesis;
pub mod lease_table;
