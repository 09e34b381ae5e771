//! The body of an answer: whole or an event stream, slow, or broken off in the middle.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::HeaderValue;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::time::{Sleep, sleep};

use super::BrokenOff;
use super::messages::Messages;
use crate::event_stream::exception;
use crate::faults::Trouble;
use crate::protocol::{AwsError, Wire};

/// A slow body moves in steps of this length.
const STEP: Duration = Duration::from_millis(50);

/// An answer's body. The length of a whole one is promised whatever becomes of it.
#[derive(Debug)]
pub struct Body {
    left: Bytes,
    /// An event stream's messages, after what is left of the last one.
    rest: Option<Messages>,
    /// What the Content-Length says; none where the rest decides.
    promised: Option<usize>,
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
    /// Messages that come as they should, and what comes after them.
    Troubled(u32, Trouble),
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
            promised: Some(left.len()),
            left,
            rest: None,
            state: State::Whole,
        }
    }

    /// An event stream.
    pub fn events(
        source: impl hyper::body::Body<Data = Bytes, Error = BrokenOff> + Send + 'static,
    ) -> Self {
        Self {
            left: Bytes::new(),
            rest: Some(Messages::new(source)),
            promised: None,
            state: State::Whole,
        }
    }

    /// Promises all and gives half. Of an event stream: half of the first event.
    #[must_use]
    pub fn halved(mut self) -> Self {
        let Some(promised) = &mut self.promised else {
            return self.troubled(0, Trouble::Cut);
        };
        self.left.truncate(*promised / 2);
        *promised = (*promised).max(1);
        self.state = State::Halved;
        self
    }

    /// Goes wrong after the initial response and so many events; where it is no event stream, not.
    #[must_use]
    pub fn troubled(mut self, after: u32, then: Trouble) -> Self {
        if self.rest.is_some() {
            self.state = State::Troubled(after.saturating_add(1), then);
        }
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

    /// What is sent next.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let State::Troubled(0, then) = &self.state {
            match then {
                // Nobody wakes it.
                Trouble::Silence => return Poll::Pending,
                Trouble::Exception { code, message } => {
                    self.left = exception(&AwsError::new(code, message), Wire::Json);
                    self.rest = None;
                    self.state = State::Whole;
                }
                Trouble::Cut => {}
            }
        }
        if self.left.is_empty()
            && let Some(rest) = &mut self.rest
        {
            match ready!(rest.poll(cx)) {
                Some(Ok(message)) => self.left = message,
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => self.rest = None,
            }
        }
        match &mut self.state {
            State::Troubled(0, _) => {
                self.left.truncate(self.left.len() / 2);
                self.rest = None;
                self.state = State::Halved;
            }
            State::Troubled(left, _) => *left -= 1,
            _ => {}
        }
        let data = std::mem::take(&mut self.left);
        Poll::Ready((!data.is_empty()).then_some(Ok(data)))
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
        if let State::Slow { step, pause, .. } = &mut body.state
            && !body.left.is_empty()
        {
            ready!(pause.as_mut().poll(cx));
            *pause = Box::pin(sleep(*step));
        }
        if let Some(data) = ready!(body.poll_data(cx)) {
            let mut data = data?;
            if let State::Slow { chunk, .. } = &body.state {
                body.left = data.split_off((*chunk).min(data.len()));
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match body.state {
            State::Whole | State::Slow { .. } | State::Troubled(..) | State::Broken => {
                Poll::Ready(None)
            }
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
        matches!(self.state, State::Whole | State::Slow { .. })
            && self.left.is_empty()
            && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.promised {
            Some(promised) => SizeHint::with_exact(promised as u64),
            None => SizeHint::default(),
        }
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
