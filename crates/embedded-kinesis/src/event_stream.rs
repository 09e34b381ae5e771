//! Messages of `application/vnd.amazon.eventstream`, the body of SubscribeToShard's answer.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;

use crate::protocol::{AwsError, Wire};

/// What a body of such messages is called in an answer's head.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Lengths, checksums and no header.
const SHORTEST: usize = 16;

/// An event of this type.
pub(crate) fn event(kind: &'static str, wire: Wire, payload: Vec<u8>) -> Bytes {
    message("event", ":event-type", kind.to_owned(), wire, payload)
}

/// The first message of a stream; clients wait for it before they hand the stream over.
pub(crate) fn initial_response(wire: Wire) -> Bytes {
    let nothing = match wire {
        Wire::Json => b"{}".to_vec(),
        Wire::Cbor => vec![0xa0],
    };
    event("initial-response", wire, nothing)
}

/// An error in the middle of a stream, which ends with it.
pub(crate) fn exception(error: &AwsError, wire: Wire) -> Bytes {
    let (kind, payload) = (error.code.clone(), error.encode(wire));
    message("exception", ":exception-type", kind, wire, payload)
}

fn message(
    message_type: &'static str,
    kind_header: &'static str,
    kind: String,
    wire: Wire,
    payload: Vec<u8>,
) -> Bytes {
    let header =
        |name: &'static str, value: String| Header::new(name, HeaderValue::String(value.into()));
    let headers = vec![
        header(kind_header, kind),
        header(":content-type", wire.content_type().to_owned()),
        header(":message-type", message_type.to_owned()),
    ];
    let mut out = Vec::with_capacity(payload.len() + 256);
    let message = Message::new_from_parts(headers, payload);
    // Headers are short, and no payload comes near 4 GiB: nothing can fail.
    write_message_to(&message, &mut out).expect("a message of bounded length");
    out.into()
}

/// The length of the message that these bytes begin with, once enough is there to tell. What can be
/// no message is taken as one, to its end.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let (total, _) = bytes.split_first_chunk::<4>()?;
    let total = u32::from_be_bytes(*total) as usize;
    Some(if total < SHORTEST { bytes.len() } else { total })
}
