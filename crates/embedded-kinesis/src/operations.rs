//! The operations of the Kinesis API: one line each, from the name on the wire to the function.
//! SubscribeToShard stands apart: its answer is not whole.

use std::sync::Arc;

use crate::control::*;
use crate::data::*;
use crate::protocol::{Answer as _, AwsError, Wire};
use crate::subscription::Subscription;
use crate::world::{Caller, Target, World};

/// What the inputs have in common.
pub(crate) trait Input {
    /// How it names its stream.
    fn target(&self) -> Target<'_>;

    /// The name of the stream it is about, as far as the request says.
    fn stream(&self, _: &World) -> Option<String> {
        self.target().stream()
    }
}

/// For inputs that name a stream in the usual two fields.
macro_rules! about_stream {
    ($input:ty) => {
        impl $crate::operations::Input for $input {
            fn target(&self) -> $crate::world::Target<'_> {
                $crate::world::Target {
                    name: self.stream_name.as_deref(),
                    arn: self.stream_arn.as_deref(),
                }
            }
        }
    };
}
pub(crate) use about_stream;

/// What an answer holds.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Vec<u8>),
    Events(Box<Subscription>),
}

macro_rules! operations {
    ($($name:ident($input:ty) => $perform:path,)*) => {
        /// A call that has been read.
        #[derive(Debug)]
        pub(crate) enum Request {
            $($name($input),)*
            SubscribeToShard(SubscribeToShard),
        }

        impl Request {
            pub(crate) fn parse(operation: &str, wire: Wire, body: &[u8]) -> Result<Self, AwsError> {
                match operation {
                    $(stringify!($name) => wire.parse(body).map(Self::$name),)*
                    "SubscribeToShard" => wire.parse(body).map(Self::SubscribeToShard),
                    _ => Err(AwsError::new("UnknownOperationException", format!("{operation} is not served here."))),
                }
            }

            pub(crate) fn stream(&self, world: &World) -> Option<String> {
                match self {
                    $(Self::$name(input) => input.stream(world),)*
                    Self::SubscribeToShard(input) => input.stream(world),
                }
            }

            pub(crate) fn perform(self, world: &Arc<World>, caller: &Caller, wire: Wire) -> Result<Content, AwsError> {
                match self {
                    $(Self::$name(input) => $perform(world, caller, input)?.encode(wire).map(Content::Whole),)*
                    Self::SubscribeToShard(input) => {
                        let subscription = subscribe_to_shard(world, caller, &input, wire)?;
                        Ok(Content::Events(Box::new(subscription)))
                    }
                }
            }
        }
    };
}

operations! {
    CreateStream(CreateStream) => create_stream,
    DeleteStream(DeleteStream) => delete_stream,
    ListStreams(ListStreams) => list_streams,
    DescribeStreamSummary(DescribeStreamSummary) => describe_stream_summary,
    DescribeStream(DescribeStream) => describe_stream,
    ListShards(ListShards) => list_shards,
    SplitShard(SplitShard) => split_shard,
    MergeShards(MergeShards) => merge_shards,
    UpdateShardCount(UpdateShardCount) => update_shard_count,
    IncreaseStreamRetentionPeriod(ChangeRetention) => increase_retention,
    DecreaseStreamRetentionPeriod(ChangeRetention) => decrease_retention,
    UpdateMaxRecordSize(UpdateMaxRecordSize) => update_max_record_size,
    GetShardIterator(GetShardIterator) => get_shard_iterator,
    GetRecords(GetRecords) => get_records,
    RegisterStreamConsumer(RegisterStreamConsumer) => register_stream_consumer,
    DescribeStreamConsumer(WhichConsumer) => describe_stream_consumer,
    ListStreamConsumers(ListStreamConsumers) => list_stream_consumers,
    DeregisterStreamConsumer(WhichConsumer) => deregister_stream_consumer,
    PutRecord(PutRecord) => put_record,
    PutRecords(PutRecords) => put_records,
}

impl Request {
    /// A GetRecords that is to find nothing although there may be something.
    pub(crate) fn empty_page(&mut self) {
        if let Self::GetRecords(input) = self {
            input.empty_page = true;
        }
    }
}
