//! The memory that the answers of probes take together. A page is one record, but that may have
//! 10 MiB.

use std::sync::{Arc, Mutex};

use kinesis_edge::{Failure, Kind, Room};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;

const KIB: u64 = 1024;

/// KiB that answers may take together: one of a record of 10 MiB, or many small ones.
const TOGETHER: u32 = 64 * 1024;

/// The answer of an ordinary record is read without being counted.
const ORDINARY: u64 = 64 * KIB;

/// What reading takes for each byte of the answer: the body as it comes, in one piece, decoded.
const READING: u64 = 3;

/// Room for answers. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Arc<Semaphore>);

/// Room for one answer, taken when its length is known.
#[derive(Debug, Default)]
struct Taken {
    permit: Option<OwnedSemaphorePermit>,
    /// KiB that there was no room for.
    missing: Option<u32>,
}

impl Default for Bytes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER as usize)))
    }
}

impl Bytes {
    /// Makes the call. An answer that there is no room for is not read; when there is, the call is
    /// made again.
    pub(crate) async fn within<T: Send, F>(
        &self,
        call: impl Fn(Room) -> F + Send + Sync,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut held = None;
        loop {
            let taken = Arc::new(Mutex::new(Taken {
                permit: held.take(),
                missing: None,
            }));
            let answer = call(self.room(&taken)).await;
            let missing = lock(&taken).missing.take();
            let is_refused = matches!(&answer, Err(failure) if failure.kind == Kind::NoRoom);
            match missing {
                Some(missing) if is_refused => {
                    // Nobody waits while he holds room that others wait for.
                    drop(lock(&taken).permit.take());
                    held = Arc::clone(&self.0).acquire_many_owned(missing).await.ok();
                }
                _ => return answer,
            }
        }
    }

    /// Takes room for an answer of that length, beside what it holds already.
    fn room(&self, taken: &Arc<Mutex<Taken>>) -> Room {
        let (together, taken) = (Arc::clone(&self.0), Arc::clone(taken));
        Arc::new(move |length| {
            let mut taken = lock(&taken);
            let wanted = kib(length);
            let held = taken.permit.as_ref().map_or(0, |it| it.num_permits());
            if length <= ORDINARY || held >= wanted as usize {
                return true;
            }
            match Arc::clone(&together).try_acquire_many_owned(wanted) {
                Ok(permit) => taken.permit = Some(permit),
                Err(_) => taken.missing = Some(wanted),
            }
            taken.missing.is_none()
        })
    }
}

/// What an answer of that length takes. The largest is read when nothing else is.
fn kib(length: u64) -> u32 {
    let kib = length.saturating_mul(READING).div_ceil(KIB);
    u32::try_from(kib).unwrap_or(TOGETHER).min(TOGETHER)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use futures::future::join_all;
    use kinesis_edge::Service;

    use super::*;

    const MIB: u64 = 1024 * KIB;

    /// Calls whose answers have these lengths, and take a second to be read: the most bytes that
    /// were being read at once.
    async fn most_at_once(lengths: &[u64]) -> u64 {
        let (bytes, reading, most) = (Bytes::default(), AtomicU64::new(0), AtomicU64::new(0));
        let call = |length: u64, room: Room| {
            let (reading, most) = (&reading, &most);
            async move {
                if !room(length) {
                    let mut failure = Failure::senseless(Service::Kinesis, "GetRecords", "no room");
                    failure.kind = Kind::NoRoom;
                    return Err(failure);
                }
                let now = reading.fetch_add(length, Ordering::Relaxed) + length;
                most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                reading.fetch_sub(length, Ordering::Relaxed);
                Ok(())
            }
        };
        let calls = lengths
            .iter()
            .map(|length| bytes.within(|room| call(*length, room)));
        let answers = join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(bytes.0.available_permits(), TOGETHER as usize);
        most.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_records_are_read_one_after_the_other() {
        let body = 14 * MIB;
        assert_eq!(most_at_once(&[body; 16]).await, body);
        assert_eq!(most_at_once(&[100 * MIB, 100 * MIB]).await, 100 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn ordinary_ones_wait_for_nobody() {
        let all = [14 * MIB, 10 * KIB, ORDINARY, 20 * MIB];
        let both = 14 * MIB + 10 * KIB + ORDINARY;
        assert!(most_at_once(&all).await >= both);
        assert_eq!(most_at_once(&[MIB; 16]).await, 16 * MIB);
    }
}
