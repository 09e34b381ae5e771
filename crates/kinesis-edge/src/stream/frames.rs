//! The body of an event stream, which stops at each frame: its length is known, and the rest of it
//! is not read before somebody lets it on.
//!
//! A frame begins with its length, in four bytes. The first one, with the answer to the call, is
//! not stopped at.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use aws_sdk_kinesis::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextMut,
    },
    error::BoxError,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const LENGTH: usize = 4;
/// One without headers and payload.
const LEAST_FRAME: u64 = 16;

/// Who decides when a frame is read.
#[derive(Debug)]
pub(super) struct Turnstile {
    /// Frames that have begun, by their bytes.
    pub(super) begun: UnboundedReceiver<u64>,
    /// Lets one of them on.
    pub(super) on: UnboundedSender<()>,
}

/// Puts the turnstile into the body of an answer, once.
#[derive(Debug)]
pub(super) struct StopAtFrames(Mutex<Option<Signals>>);

#[derive(Debug)]
struct Signals {
    begun: UnboundedSender<u64>,
    on: UnboundedReceiver<()>,
}

pub(super) fn turnstile() -> (Turnstile, StopAtFrames) {
    let (tell, begun) = unbounded_channel();
    let (on, let_on) = unbounded_channel();
    let signals = Signals {
        begun: tell,
        on: let_on,
    };
    let turnstile = Turnstile { begun, on };
    (turnstile, StopAtFrames(Mutex::new(Some(signals))))
}

impl Intercept for StopAtFrames {
    fn name(&self) -> &'static str {
        "StopAtFrames"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        let mut signals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An error is no event stream.
        if answer.status().is_success()
            && let Some(signals) = signals.take()
        {
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            *answer.body_mut() = SdkBody::from_body_1_x(Frames::new(body, signals));
        }
        Ok(())
    }
}

struct Frames<B> {
    body: B,
    signals: Signals,
    /// Read, and not passed on.
    chunk: Bytes,
    state: State,
    is_first: bool,
}

enum State {
    /// Between frames, with so much of the next one's length.
    Length(Vec<u8>),
    /// At the beginning of one, with its length as it came, and the bytes that follow.
    Stopped(Vec<u8>, u64),
    /// Inside one, so many bytes before its end.
    Inside(u64),
}

impl<B> Frames<B> {
    fn new(body: B, signals: Signals) -> Self {
        Self {
            body,
            signals,
            chunk: Bytes::new(),
            state: State::Length(Vec::new()),
            is_first: true,
        }
    }
}

impl<B> Body for Frames<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let wanted = match &mut this.state {
                State::Stopped(length, rest) => {
                    if !this.is_first && ready!(this.signals.on.poll_recv(context)).is_none() {
                        return Poll::Ready(None);
                    }
                    this.is_first = false;
                    let length = Bytes::from(std::mem::take(length));
                    this.state = State::Inside(*rest);
                    return Poll::Ready(Some(Ok(Frame::data(length))));
                }
                State::Inside(0) => {
                    this.state = State::Length(Vec::new());
                    continue;
                }
                State::Length(length) => (LENGTH - length.len()) as u64,
                State::Inside(rest) => *rest,
            };
            if this.chunk.is_empty() {
                match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                    Some(Ok(frame)) => this.chunk = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    None => return Poll::Ready(this.broken_off()),
                }
                continue;
            }
            let here = this.chunk.len();
            let piece = here.min(usize::try_from(wanted).unwrap_or(usize::MAX));
            let piece = this.chunk.split_to(piece);
            match &mut this.state {
                State::Length(length) => {
                    length.extend_from_slice(&piece);
                    if length.len() == LENGTH {
                        let length = std::mem::take(length);
                        this.stop(length);
                    }
                }
                State::Inside(rest) => {
                    *rest -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                State::Stopped(..) => {}
            }
        }
    }
}

impl<B> Frames<B> {
    /// The length of a frame is known.
    fn stop(&mut self, length: Vec<u8>) {
        let bytes = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let rest = match bytes {
            // What is no frame is the decoder's to refuse.
            ..LEAST_FRAME => u64::MAX,
            _ => bytes - LENGTH as u64,
        };
        if !self.is_first {
            // Who does not listen does not let it on either.
            let _ = self.signals.begun.send(bytes);
        }
        self.state = State::Stopped(length, rest);
    }

    /// The body ended: a beginning is passed on, so that the decoder misses the rest.
    fn broken_off(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        match &mut self.state {
            State::Length(length) if !length.is_empty() => {
                let beginning = Bytes::from(std::mem::take(length));
                Some(Ok(Frame::data(beginning)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, future::poll_fn};

    use futures::FutureExt;

    use super::*;

    struct Chunks(VecDeque<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn frame(bytes: u32) -> Vec<u8> {
        let mut frame = bytes.to_be_bytes().to_vec();
        frame.resize(bytes as usize, 7);
        frame
    }

    /// What can be read now, and whether it is all.
    fn read(body: &mut Frames<Chunks>) -> (Vec<u8>, bool) {
        let mut read = Vec::new();
        loop {
            match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).now_or_never() {
                Some(Some(piece)) => {
                    read.extend_from_slice(&piece.expect("no error").into_data().expect("data"));
                }
                Some(None) => return (read, true),
                None => return (read, false),
            }
        }
    }

    fn frames(whole: &[u8], chunk: usize) -> (Turnstile, Frames<Chunks>) {
        let (turnstile, StopAtFrames(signals)) = turnstile();
        let chunks = whole.chunks(chunk).map(Bytes::copy_from_slice);
        let signals = signals.into_inner().expect("no panic").expect("new");
        (turnstile, Frames::new(Chunks(chunks.collect()), signals))
    }

    #[test]
    fn each_frame_after_the_first_waits_to_be_let_on_however_it_is_cut() {
        let whole = [frame(20), frame(1000), frame(16), frame(70_000)].concat();
        for chunk in [1, 3, 7, 500, 1036, 100_000] {
            let (mut turnstile, mut body) = frames(&whole, chunk);
            assert_eq!(read(&mut body), (frame(20), false), "{chunk}");
            for bytes in [1000, 16, 70_000] {
                assert_eq!(turnstile.begun.try_recv(), Ok(u64::from(bytes)), "{chunk}");
                assert!(turnstile.begun.try_recv().is_err(), "one at a time");
                turnstile.on.send(()).expect("it waits");
                let is_last = bytes == 70_000;
                assert_eq!(read(&mut body), (frame(bytes), is_last), "{chunk}");
            }
        }
    }

    #[test]
    fn what_breaks_off_is_passed_on_as_it_came() {
        let whole = [frame(20), vec![0, 0]].concat();
        let (_turnstile, mut body) = frames(&whole, 9);
        assert_eq!(read(&mut body), (whole, true));
    }

    #[test]
    fn what_is_no_frame_is_passed_on_whole() {
        let whole = [frame(20), vec![0; 40]].concat();
        let (turnstile, mut body) = frames(&whole, 9);
        turnstile.on.send(()).expect("it waits");
        assert_eq!(read(&mut body), (whole, true));
    }
}
