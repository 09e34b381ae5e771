#![doc = include_str!("../README.md")]
//!
//! ```text
//! environment, proxies, credentials ─┐
//!                         settings ──┴─ connection → client ─┬─ stream ─┬─ call
//!                                                            └─ table ──┘
//! call → failure ← codes, denial → remedy
//! ```
//! Values are plain: strings, bytes, integers, time stamps. Where more of DynamoDB is needed, its
//! few value types are exported from here, so that users name this crate alone.

mod bounded;
mod call;
mod clock;
mod codes;
mod connection;
mod credentials;
mod denial;
mod environment;
mod failure;
mod guard;
mod listen;
mod names;
mod proxies;
mod regions;
mod remedy;
mod room;
mod settings;
mod stream;
mod table;

pub use aws_credential_types::provider::SharedCredentialsProvider;
pub use aws_sdk_dynamodb::{Client as DynamoDbClient, primitives::Blob, types::AttributeValue};
pub use aws_sdk_kinesis::Client as KinesisClient;

pub use self::{
    call::Gate,
    clock::AwsClock,
    connection::Connection,
    credentials::CredentialsSource,
    denial::{Denial, Policy},
    environment::{Environment, WrongEnvironment, WrongVariable},
    failure::{Failure, Kind, Service},
    guard::is_guarded,
    listen::listen,
    regions::{is_region, partition},
    remedy::{Remedy, Statement},
    room::{Room, heed_room},
    settings::{ClientSettings, ConnectionSettings},
    stream::{
        ChildShard, Consumer, ConsumerStatus, Listing, Page, Record, Shard, ShardFilter, StartFrom,
        Stream, StreamSummary, Subscription, SubscriptionEvent,
    },
    table::{Description, Item, Key, Meter, Table, Units, Write, Written, remedy_of_status},
};
