//! A pipe, by lines.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::wire::lines::{Line, Lines};

/// A pipe, by lines.
pub(super) struct Output<P> {
    pipe: P,
    lines: Lines,
    ready: VecDeque<Line>,
    buffer: Vec<u8>,
}

impl<P: AsyncRead + Unpin> Output<P> {
    pub(super) fn new(pipe: P) -> Self {
        Self {
            pipe,
            lines: Lines::default(),
            ready: VecDeque::new(),
            buffer: vec![0; 8 << 10],
        }
    }

    /// `None`: the pipe has ended.
    pub(super) async fn next(&mut self) -> Option<Line> {
        while self.ready.is_empty() {
            match self.pipe.read(&mut self.buffer).await {
                Ok(length @ 1..) => {
                    let ready = &mut self.ready;
                    self.lines
                        .push(&self.buffer[..length], |line| ready.push_back(line));
                }
                _ => return self.lines.end(),
            }
        }
        self.ready.pop_front()
    }
}
