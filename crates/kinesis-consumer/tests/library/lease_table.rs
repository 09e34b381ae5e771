//! The lease table: one suite for all implementations, and tables that Java KCL 2.7.2 and 3.5.1
//! wrote.

mod conformance;
mod dynamodb;
mod fixtures;
mod java;
mod moves;
mod reading;
mod surroundings;
mod usage;
