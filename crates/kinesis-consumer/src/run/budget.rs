//! The memory for what is fetched and not processed: one for all shards of a worker, shared first
//! come, first served.
//!
//! A page takes room before it is asked for: as much as the last one, and the first one of a shard
//! as much as the largest there is. When its length is known, before its body is read, it gives
//! back what is too much or takes more; then it holds what its records take until they are
//! processed. It does not wait for more with the answer at hand: answers that share an HTTP/2
//! connection would keep each other back, and AWS counts a refused one as read. A shard that waits
//! for its processor holds its share at the most, and one page: however many do, the others go on.
//! What aggregates are taken apart into has room of its own: who waits for that holds a page, and
//! pages must not wait for each other. An event of a subscription says its length before it is
//! read, and takes room then; it can wait, as its subscription is let go if that takes long. A look
//! at one record, at a checkpoint or the oldest there is, takes no room: two at a time.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use kinesis_edge::Room;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

const KIB: usize = 1 << 10;
/// The bytes of the largest answer: 10 MiB of data in Base64, and what is around it.
pub(crate) const LARGEST_ANSWER: usize = 14 << 20;
/// Looks at a time.
const LOOKS: usize = 2;
/// An answer of one byte takes so many while it is read: in one piece, and decoded.
const READING: usize = 2;

#[derive(Debug)]
pub(crate) struct Budget {
    pages: Pool,
    parts: Pool,
    looks: Semaphore,
    /// How many shards are read.
    shards: AtomicUsize,
}

/// So many KiB.
#[derive(Debug)]
struct Pool {
    room: Arc<Semaphore>,
    total: u32,
}

/// One shard is read, until dropped.
#[derive(Debug)]
pub(crate) struct Share(Arc<Budget>);

/// The room of one page.
#[derive(Clone, Debug)]
pub(crate) struct PageRoom(Arc<Page>);

#[derive(Debug)]
struct Page {
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held: OwnedSemaphorePermit,
    /// The answer's length is known.
    answered: bool,
    /// The bytes of the answer for which there was no room.
    refused: Option<usize>,
}

impl Pool {
    fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / KIB).unwrap_or(u32::MAX).max(1);
        Self {
            room: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// What is larger than all there is takes all of it.
    fn units(&self, bytes: usize) -> u32 {
        let units = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        units.min(self.total)
    }

    async fn wait(&self, bytes: usize) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_many_owned(self.units(bytes));
        room.await.unwrap_or_else(|_| unreachable!("never closed"))
    }

    fn try_now(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(units).ok()
    }
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            pages: Pool::new(bytes / 3 * 2),
            parts: Pool::new(bytes / 3),
            looks: Semaphore::new(LOOKS),
            shards: AtomicUsize::new(0),
        }
    }

    pub(crate) fn share(self: &Arc<Self>) -> Share {
        self.shards.fetch_add(1, Ordering::Relaxed);
        Share(Arc::clone(self))
    }

    /// Waits until one record may be read to look at it.
    pub(crate) async fn look(&self) -> SemaphorePermit<'_> {
        let look = self.looks.acquire().await;
        look.unwrap_or_else(|_| unreachable!("never closed"))
    }
}

impl Share {
    /// The bytes that one shard may hold while others want room, too.
    pub(crate) fn bytes(&self) -> usize {
        let shards = self.0.shards.load(Ordering::Relaxed).max(1);
        self.0.pages.total as usize * KIB / 2 / shards
    }

    /// Room for so many bytes of an aggregate's parts, if there is some now.
    pub(crate) fn try_parts(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let parts = &self.0.parts;
        parts.try_now(parts.units(bytes))
    }

    /// Waits for it. Whoever does must not keep other parts back.
    pub(crate) async fn parts(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.0.parts.wait(bytes).await
    }

    /// Waits for room to read an answer of so many bytes.
    pub(crate) async fn page(&self, bytes: usize) -> PageRoom {
        let state = State {
            held: self.0.pages.wait(bytes.saturating_mul(READING)).await,
            answered: false,
            refused: None,
        };
        PageRoom(Arc::new(Page {
            budget: Arc::clone(&self.0),
            state: Mutex::new(state),
        }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.shards.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PageRoom {
    /// Asked when the answer's length is known.
    pub(crate) fn admission(&self) -> Room {
        let page = Arc::clone(&self.0);
        Arc::new(move |bytes| page.admit(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// The bytes of the answer for which there was no room.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.0.state().refused
    }

    /// Holds room for no more than so many bytes until the answer's length is known.
    pub(crate) fn keep_until_answered(&self, bytes: usize) {
        let mut state = self.0.state();
        if !state.answered {
            let wanted = self.0.budget.pages.units(bytes.saturating_mul(READING));
            Page::shrink(&mut state, wanted);
        }
    }

    /// The page is read: holds what its records take.
    pub(crate) fn hold(&self, bytes: usize) {
        let mut state = self.0.state();
        let wanted = self.0.budget.pages.units(bytes);
        Page::shrink(&mut state, wanted);
        // It is here, whether there was room or not: its length was not known before.
        self.0.grow(&mut state, wanted);
    }
}

impl Page {
    fn admit(&self, bytes: usize) -> bool {
        let mut state = self.state();
        state.answered = true;
        let wanted = self.budget.pages.units(bytes.saturating_mul(READING));
        Self::shrink(&mut state, wanted);
        let is_room = self.grow(&mut state, wanted);
        if !is_room {
            state.refused = Some(bytes);
        }
        is_room
    }

    fn shrink(state: &mut State, units: u32) {
        let held = state.held.num_permits();
        drop(state.held.split(held.saturating_sub(units as usize)));
    }

    fn grow(&self, state: &mut State, units: u32) -> bool {
        let lacking = units.saturating_sub(state.held.num_permits() as u32);
        let more = self.budget.pages.try_now(lacking);
        more.map(|more| state.held.merge(more)).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// 100 KiB for pages.
    fn budget() -> Arc<Budget> {
        Arc::new(Budget::new(150 * KIB))
    }

    #[tokio::test]
    async fn an_answer_gets_room_before_it_is_read_and_keeps_what_its_records_take() {
        let budget = budget();
        let free = || budget.pages.room.available_permits();
        let share = budget.share();
        let page = share.page(40 * KIB).await;
        assert_eq!(free(), 20);
        page.keep_until_answered(KIB);
        assert_eq!(free(), 98, "it does not come soon");
        assert!((page.admission())(30 * KIB as u64));
        page.keep_until_answered(KIB);
        assert_eq!(free(), 40, "what it takes");
        let other = share.page(10 * KIB).await;
        assert!((other.admission())(KIB as u64));
        assert_eq!(free(), 38, "smaller than expected");
        assert!(!(other.admission())(25 * KIB as u64));
        assert_eq!(other.refused(), Some(25 * KIB));
        page.hold(20 * KIB);
        assert_eq!(free(), 78);
        assert!((other.admission())(25 * KIB as u64));
        assert_eq!(free(), 30);
        drop((page, other));
        assert_eq!(free(), 100);
    }

    #[tokio::test]
    async fn what_is_larger_than_all_waits_for_all_and_is_passed_by_nobody() {
        let budget = budget();
        let share = budget.share();
        let page = share.page(KIB).await;
        let mut large = Box::pin(share.page(1000 * KIB));
        assert!((&mut large).now_or_never().is_none());
        assert!(
            share.page(1).now_or_never().is_none(),
            "the large one first"
        );
        drop(page);
        assert!((large.await.admission())(1000 * KIB as u64));
    }

    #[test]
    fn shares_shrink_with_the_number_of_shards() {
        let budget = budget();
        let one = budget.share();
        assert_eq!(one.bytes(), 50 * KIB);
        let two = budget.share();
        assert_eq!(one.bytes(), 25 * KIB);
        drop(two);
        assert_eq!(one.bytes(), 50 * KIB);
    }
}
