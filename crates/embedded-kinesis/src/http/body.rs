//! The body of an answer, whole or broken off in the middle.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::BrokenOff;

#[derive(Debug)]
pub(crate) struct Body {
    left: Bytes,
    /// What the Content-Length says.
    promised: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Halved,
    /// The half has been handed over: let it be flushed before the connection ends.
    Flushing,
    Broken,
}

impl Body {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            promised: bytes.len(),
            left: Bytes::from(bytes),
            state: State::Whole,
        }
    }

    /// Promises all and gives half.
    pub(crate) fn halved(mut self) -> Self {
        self.left.truncate(self.promised / 2);
        self.promised = self.promised.max(1);
        self.state = State::Halved;
        self
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if !self.left.is_empty() {
            let data = std::mem::take(&mut self.left);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match self.state {
            State::Whole => Poll::Ready(None),
            State::Halved => {
                self.state = State::Flushing;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Flushing => {
                self.state = State::Broken;
                Poll::Ready(Some(Err(BrokenOff)))
            }
            State::Broken => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Whole && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised as u64)
    }
}
