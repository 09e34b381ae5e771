//! How many records to ask for at a time: few after a time-out, as the same page would not come in
//! time again, and soon more.
//!
//! As TCP does: one after a time-out, doubled with each answer up to half of what timed out; that
//! ceiling is raised again after a while without one.

use std::time::Duration;

/// An answer that took so long leaves no room for twice as many records.
const SLOW: Duration = Duration::from_secs(10);
/// Answers at the ceiling before it is raised.
const CALM: u32 = 16;

#[derive(Debug)]
pub(super) struct Limit {
    most: u32,
    ceiling: u32,
    now: u32,
    /// Answers at the ceiling.
    calm: u32,
}

impl Limit {
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            ceiling: most,
            now: most,
            calm: 0,
        }
    }

    pub(super) fn get(&self) -> u32 {
        self.now
    }

    pub(super) fn timed_out(&mut self) {
        self.ceiling = (self.now / 2).max(1);
        self.now = 1;
        self.calm = 0;
    }

    /// A page came, after that time.
    pub(super) fn answered(&mut self, took: Duration) {
        if took >= SLOW {
            return;
        }
        if self.now < self.ceiling {
            self.now = self.ceiling.min(self.now * 2);
        } else if self.ceiling < self.most {
            self.calm += 1;
            if self.calm >= CALM {
                self.ceiling = self.most.min(self.ceiling * 2);
                self.calm = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(100);

    #[test]
    fn shrinks_at_a_time_out_and_grows_back() {
        let mut limit = Limit::new(10_000);
        limit.answered(QUICK);
        assert_eq!(limit.get(), 10_000);
        limit.timed_out();
        let mut seen = Vec::new();
        while limit.get() < 5_000 {
            seen.push(limit.get());
            limit.answered(QUICK);
        }
        assert_eq!(seen[..5], [1, 2, 4, 8, 16]);
        (0..CALM + 1).for_each(|_| limit.answered(QUICK));
        assert_eq!(limit.get(), 10_000);
    }

    #[test]
    fn a_slow_answer_does_not_grow_it() {
        let mut limit = Limit::new(10_000);
        limit.timed_out();
        limit.answered(QUICK);
        (0..100).for_each(|_| limit.answered(SLOW));
        assert_eq!(limit.get(), 2);
        limit.timed_out();
        limit.timed_out();
        assert_eq!(limit.get(), 1, "never none");
    }
}
