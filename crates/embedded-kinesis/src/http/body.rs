//! The body of an answer: whole, slow, or broken off in the middle.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::time::{Sleep, sleep};

use super::BrokenOff;

/// A slow body moves in steps of this length.
const STEP: Duration = Duration::from_millis(50);

/// An answer's body, whose length is promised whatever becomes of it.
#[derive(Debug)]
pub struct Body {
    left: Bytes,
    /// What the Content-Length says.
    promised: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Whole,
    Slow {
        /// Bytes a step.
        chunk: usize,
        step: Duration,
        pause: Pin<Box<Sleep>>,
    },
    Halved,
    /// The half has been handed over: let it be flushed before the connection ends.
    Flushing,
    Broken,
}

impl Body {
    /// A body that is sent as it is.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let left = bytes.into();
        Self {
            promised: left.len(),
            left,
            state: State::Whole,
        }
    }

    /// Promises all and gives half.
    #[must_use]
    pub fn halved(mut self) -> Self {
        self.left.truncate(self.promised / 2);
        self.promised = self.promised.max(1);
        self.state = State::Halved;
        self
    }

    /// Comes at so many bytes a second.
    #[must_use]
    pub fn slowed(mut self, bytes_per_second: u32) -> Self {
        // Below 20 bytes a second a step is longer, not smaller than a byte.
        let chunk = (bytes_per_second as usize / 20).max(1);
        let step = if bytes_per_second < 20 {
            Duration::from_secs(1) / bytes_per_second.max(1)
        } else {
            STEP
        };
        self.state = State::Slow {
            chunk,
            step,
            pause: Box::pin(sleep(step)),
        };
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
        let body = &mut *self;
        if let State::Slow { chunk, step, pause } = &mut body.state {
            if body.left.is_empty() {
                return Poll::Ready(None);
            }
            ready!(pause.as_mut().poll(cx));
            *pause = Box::pin(sleep(*step));
            let data = body.left.split_to((*chunk).min(body.left.len()));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !body.left.is_empty() {
            let data = std::mem::take(&mut body.left);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match body.state {
            State::Whole | State::Slow { .. } | State::Broken => Poll::Ready(None),
            State::Halved => {
                body.state = State::Flushing;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Flushing => {
                body.state = State::Broken;
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Whole | State::Slow { .. }) && self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised as u64)
    }
}

/// A `Date` header that is off by so many seconds.
///
/// # Panics
/// The time is outside of the years that can be written.
pub fn wrong_date(seconds: i64) -> HeaderValue {
    date((Timestamp::now() + SignedDuration::from_secs(seconds)).as_millisecond())
}

/// A `Date` header of that time, in milliseconds since 1970.
pub(crate) fn date(millis: i64) -> HeaderValue {
    let time = Timestamp::from_millisecond(millis).expect("a time of our years");
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time);
    let text = text.expect("a time of our years");
    HeaderValue::from_str(&text).expect("ASCII")
}
