//! An event stream, message by message, however the bytes come in.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::Body;

use super::BrokenOff;
use crate::event_stream::length;

type Source = Pin<Box<dyn Body<Data = Bytes, Error = BrokenOff> + Send>>;

pub(super) struct Messages {
    /// `None` once it has ended.
    source: Option<Source>,
    /// Of messages that are not whole yet.
    buffer: BytesMut,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    pub(super) fn new(source: impl Body<Data = Bytes, Error = BrokenOff> + Send + 'static) -> Self {
        Self {
            source: Some(Box::pin(source)),
            buffer: BytesMut::new(),
        }
    }

    /// The next message; at the end what is left of one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            if let Some(length) = length(&self.buffer)
                && length <= self.buffer.len()
            {
                return Poll::Ready(Some(Ok(self.buffer.split_to(length).freeze())));
            }
            let Some(source) = &mut self.source else {
                let left = std::mem::take(&mut self.buffer).freeze();
                return Poll::Ready((!left.is_empty()).then_some(Ok(left)));
            };
            match ready!(source.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if self.buffer.is_empty() && length(&data) == Some(data.len()) {
                        return Poll::Ready(Some(Ok(data)));
                    }
                    self.buffer.extend_from_slice(&data);
                }
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => self.source = None,
            }
        }
    }
}
