//! Every record of a Kinesis stream becomes an item of a DynamoDB table.

use std::process::ExitCode;

fn main() -> ExitCode {
    kinesis_to_dynamodb::args::run()
}
