//! Failures on demand, by operation and, if wanted, by stream. The proxy before other services
//! has the same ones.

use std::sync::Mutex;
use std::time::Duration;

use crate::lock;

/// As the number of times: until [`Faults::clear`].
pub const FOREVER: usize = usize::MAX;

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error in AWS's shape; the operation is not performed.
    Aws {
        /// `LimitExceededException`, …
        code: String,
        /// Text for the person who reads the error.
        message: String,
        /// HTTP status; AWS uses 400 for most.
        status: u16,
    },
    /// A bare HTTP status without a body AWS would send, as a load balancer does.
    Status(u16),
    /// The operation is performed at once and answered after this long.
    Delay(Duration),
    /// No answer at all, until the client goes away or the server stops.
    Hang,
    /// The connection is reset (RST) without an answer; the operation is not performed.
    Reset,
    /// The operation is performed, half of the answer is sent, then the connection is closed. Of an
    /// event stream: half of the first event.
    HalfBody,
    /// A 200 with a body that is no JSON, XML or CBOR.
    Garbage,
    /// A 200 with `{}`: a `DescribeStreamSummary` without `OpenShardCount`.
    EmptyJson,
    /// The operation is performed, then the connection is reset: the caller cannot know.
    LoseAnswer,
    /// The operation is performed and answered at so many bytes a second, at least 1.
    Slow(u32),
    /// The operation is performed; the answer's `Date` is off by so many seconds.
    WrongDate(i64),
    /// `GetRecords` answers with no records and an iterator at the same place, as AWS sometimes
    /// does while there is more to read. Other operations are not touched.
    EmptyPage,
    /// An event stream goes wrong after so many events, the initial response not counted. Other
    /// answers are not touched.
    Events {
        /// Events that come as they should.
        after: u32,
        /// What comes after them.
        then: Trouble,
    },
}

/// What goes wrong in the middle of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// Half of the next event is sent, then the connection is closed.
    Cut,
    /// Nothing more is sent, and the connection stays open.
    Silence,
    /// The stream ends with an error in AWS's shape.
    Exception {
        /// `InternalFailureException`, …
        code: String,
        /// Text for the person who reads the error.
        message: String,
    },
}

impl Fault {
    /// An AWS error with status 400.
    pub fn aws(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Aws {
            code: code.into(),
            message: message.into(),
            status: 400,
        }
    }

    /// `LimitExceededException`: the rate of a control-plane operation.
    pub fn throttling() -> Self {
        Self::aws(
            "LimitExceededException",
            "Rate exceeded for account 111122223333.",
        )
    }

    /// `ProvisionedThroughputExceededException`: the rate of a shard.
    pub fn throughput_exceeded() -> Self {
        Self::aws(
            "ProvisionedThroughputExceededException",
            "Rate exceeded for shard.",
        )
    }

    /// `AccessDeniedException`.
    pub fn access_denied() -> Self {
        Self::aws(
            "AccessDeniedException",
            "User is not authorized to perform this action because no identity-based policy allows it",
        )
    }

    /// `ResourceNotFoundException`.
    pub fn not_found() -> Self {
        Self::aws(
            "ResourceNotFoundException",
            "Stream under account 111122223333 not found.",
        )
    }

    /// `ExpiredTokenException`: the session is over.
    pub fn expired_token() -> Self {
        Self::aws(
            "ExpiredTokenException",
            "The security token included in the request is expired",
        )
    }

    /// `ProvisionedThroughputExceededException` or `LimitExceededException`, as AWS throttles this
    /// operation of Kinesis or DynamoDB.
    pub fn throttling_of(operation: &str) -> Self {
        match operation {
            "GetRecords" | "GetShardIterator" | "PutRecord" | "PutRecords" => {
                Self::throughput_exceeded()
            }
            "BatchGetItem" | "BatchWriteItem" | "DeleteItem" | "GetItem" | "PutItem" | "Query"
            | "Scan" | "TransactWriteItems" | "UpdateItem" => Self::aws(
                "ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded.",
            ),
            "CreateTable" | "DeleteTable" | "DescribeTable" | "UpdateTable" => Self::aws(
                "ThrottlingException",
                "Rate of requests exceeds the allowed throughput.",
            ),
            _ => Self::throttling(),
        }
    }

    /// `ExpiredIteratorException`.
    pub fn expired_iterator() -> Self {
        Self::aws("ExpiredIteratorException", "Iterator expired.")
    }

    /// `InternalFailure` with status 500.
    pub fn internal_error() -> Self {
        Self::Aws {
            code: "InternalFailure".into(),
            message: "The request processing has failed because of an unknown error.".into(),
            status: 500,
        }
    }
}

/// The faults that are set; shared by all connections.
#[derive(Debug, Default)]
pub struct Faults {
    set: Mutex<Vec<Set>>,
}

#[derive(Debug)]
struct Set {
    operation: String,
    stream: Option<String>,
    fault: Fault,
    left: usize,
}

impl Faults {
    /// The next `times` calls of `operation` (`"*"`: of any) meet `fault`; the faults of one
    /// operation are used up in the order they were set. [`FOREVER`]: until [`clear`](Self::clear).
    pub fn inject(&self, operation: &str, fault: Fault, times: usize) {
        self.add(operation, None, fault, times);
    }

    /// As [`inject`](Self::inject), for calls about one stream only, or to STS about one role (its
    /// ARN).
    pub fn inject_on(&self, stream: &str, operation: &str, fault: Fault, times: usize) {
        self.add(operation, Some(stream.to_owned()), fault, times);
    }

    /// Takes all faults away.
    pub fn clear(&self) {
        lock(&self.set).clear();
    }

    /// Takes the faults of one stream or role away.
    pub fn clear_on(&self, stream: &str) {
        lock(&self.set).retain(|it| it.stream.as_deref() != Some(stream));
    }

    /// How many calls the faults still wait for; more than can be counted where one is set
    /// [`FOREVER`].
    pub fn left(&self) -> usize {
        let set = lock(&self.set);
        set.iter().fold(0, |sum, it| sum.saturating_add(it.left))
    }

    fn add(&self, operation: &str, stream: Option<String>, fault: Fault, times: usize) {
        if times > 0 {
            lock(&self.set).push(Set {
                operation: operation.to_owned(),
                stream,
                fault,
                left: times,
            });
        }
    }

    /// The fault this call meets, counted as used.
    pub fn take(&self, operation: &str, stream: Option<&str>) -> Option<Fault> {
        let mut set = lock(&self.set);
        let found = set.iter().position(|it| {
            (it.operation == "*" || it.operation == operation)
                && it
                    .stream
                    .as_deref()
                    .is_none_or(|wanted| stream == Some(wanted))
        })?;
        let fault = set[found].fault.clone();
        if set[found].left != FOREVER {
            set[found].left -= 1;
            if set[found].left == 0 {
                set.remove(found);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_up_in_order_and_by_operation() {
        let faults = Faults::default();
        faults.inject("A", Fault::Hang, 1);
        faults.inject("A", Fault::Reset, 2);
        faults.inject_on("s", "*", Fault::Garbage, FOREVER);
        assert_eq!(faults.take("B", None), None);
        assert_eq!(faults.take("A", None), Some(Fault::Hang));
        assert_eq!(faults.take("A", Some("s")), Some(Fault::Reset));
        assert_eq!(faults.take("A", Some("s")), Some(Fault::Reset));
        assert_eq!(faults.take("A", Some("s")), Some(Fault::Garbage));
        assert_eq!(faults.take("A", Some("other")), None);
        faults.inject_on("other", "A", Fault::Hang, FOREVER);
        faults.clear_on("s");
        assert_eq!(faults.take("A", Some("s")), None);
        assert_eq!(faults.take("A", Some("other")), Some(Fault::Hang));
        faults.clear();
        assert_eq!(faults.take("A", Some("s")), None);
    }
}
