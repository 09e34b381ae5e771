//! How many records to ask for at a time: as many as there is room for, few after a time-out or
//! pages that broke off, as the same page would not come again either, and soon more.
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

    /// A page was larger than there was room for.
    pub(super) fn had_no_room(&mut self) {
        self.now = 1;
    }

    /// A page came, after that time: so many records, which take so many bytes where `room` bytes
    /// are there for a page.
    pub(super) fn answered(&mut self, took: Duration, records: usize, bytes: usize, room: usize) {
        if let Some(each) = bytes.checked_div(records) {
            let fits = (room / each.max(1)).clamp(1, self.most as usize) as u32;
            if self.now > fits {
                self.now = fits;
                return;
            }
            if self.now.saturating_mul(2) > fits {
                return;
            }
        }
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

    fn answered(limit: &mut Limit, took: Duration) {
        limit.answered(took, 1, 1, usize::MAX);
    }

    #[test]
    fn shrinks_at_a_time_out_and_grows_back() {
        let mut limit = Limit::new(10_000);
        answered(&mut limit, QUICK);
        assert_eq!(limit.get(), 10_000);
        limit.timed_out();
        let mut seen = Vec::new();
        while limit.get() < 5_000 {
            seen.push(limit.get());
            answered(&mut limit, QUICK);
        }
        assert_eq!(seen[..5], [1, 2, 4, 8, 16]);
        (0..CALM + 1).for_each(|_| answered(&mut limit, QUICK));
        assert_eq!(limit.get(), 10_000);
    }

    #[test]
    fn asks_for_no_more_than_there_is_room_for_and_for_one_at_least() {
        let mut limit = Limit::new(10_000);
        limit.answered(QUICK, 100, 100_000, 20_000);
        assert_eq!(limit.get(), 20);
        limit.answered(QUICK, 20, 20_000, 20_000);
        assert_eq!(limit.get(), 20);
        limit.answered(QUICK, 20, 2_000, 20_000);
        assert_eq!(limit.get(), 40);
        limit.answered(QUICK, 1, 10 << 20, 20_000);
        assert_eq!(limit.get(), 1);
        limit.answered(QUICK, 0, 0, 20_000);
        assert_eq!(limit.get(), 2);
    }

    #[test]
    fn a_slow_answer_does_not_grow_it() {
        let mut limit = Limit::new(10_000);
        limit.timed_out();
        answered(&mut limit, QUICK);
        (0..100).for_each(|_| answered(&mut limit, SLOW));
        assert_eq!(limit.get(), 2);
        limit.timed_out();
        limit.timed_out();
        assert_eq!(limit.get(), 1, "never none");
    }
}
