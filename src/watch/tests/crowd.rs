//! Hundreds of applications, each caught up on a hundred shards that have to be probed all the
//! time.

use std::collections::HashMap;

use jiff::Timestamp;
use kinesis_consumer::{
    Checkpoint, Position,
    lease::Lease,
    shards::{HashRange, Shard, StartFrom},
};

use super::*;
use crate::source::{
    aws::Turns,
    fetch::ApplicationFetcher,
    shards::{Lane, Leases, Peek, Place, ReadError, Reads},
    snapshot::examples::lag_trigger,
};

const SHARDS: usize = 100;

/// Applications of one identity in one region.
#[derive(Clone, Debug)]
struct Crowd {
    /// What a call takes.
    takes: Duration,
    turns: Arc<Turns>,
    seen: Arc<Mutex<Seen>>,
}

/// When each shard of each application was last seen to be caught up, and how often.
type Seen = HashMap<(String, String), (Instant, usize)>;

/// One of them, whose workers renew their leases.
#[derive(Debug)]
struct OfOne {
    crowd: Crowd,
    lane: Lane,
    name: String,
    renewals: AtomicUsize,
}

impl Crowd {
    fn new(takes: Duration) -> Self {
        Self {
            takes,
            turns: Arc::default(),
            seen: Arc::default(),
        }
    }

    fn watchers(&self) -> Arc<Watchers> {
        let pace = Pace::from(&AwsConfig::default());
        Arc::new(Watchers::new(pace, self.clone(), None))
    }

    /// How long ago each shard of these applications was last seen, and how often.
    fn seen(&self, is_meant: impl Fn(&str) -> bool) -> Vec<(Duration, usize)> {
        let seen = lock(&self.seen);
        let meant = seen.iter().filter(|((name, _), _)| is_meant(name));
        meant
            .map(|(_, (at, times))| (at.elapsed(), *times))
            .collect()
    }

    fn oldest(&self, is_meant: impl Fn(&str) -> bool) -> Duration {
        let seen = self.seen(is_meant).into_iter();
        seen.map(|(age, _)| age).max().unwrap()
    }
}

impl Fetchers for Crowd {
    fn stream(&self, source: &StreamSource, _: &Tenant) -> StreamFetch {
        panic!("nobody asks for {source:?}")
    }

    fn application(&self, source: &ApplicationSource) -> ApplicationFetch {
        let reads = OfOne {
            crowd: self.clone(),
            lane: Lane::default(),
            name: source.stream.stream.to_string(),
            renewals: AtomicUsize::new(0),
        };
        Box::new(ApplicationFetcher::new(source.clone(), Arc::new(reads)))
    }
}

#[async_trait]
impl Reads for OfOne {
    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        sleep(self.crowd.takes).await;
        let shard = |number: usize| Shard {
            id: number.to_string().as_str().into(),
            parents: [].into(),
            hash_range: HashRange { start: 0, end: 1 },
            starting_sequence_number: "0".parse().unwrap(),
            closed: false,
        };
        Ok((0..SHARDS).map(shard).collect())
    }

    async fn leases(&self) -> Result<Option<Leases>, SourceError> {
        sleep(self.crowd.takes).await;
        let renewals = self.renewals.fetch_add(1, Ordering::Relaxed);
        let checkpoint = Checkpoint::At(Position {
            sequence_number: "5".parse().unwrap(),
            sub_sequence_number: 0,
        });
        let lease = |number: usize| {
            let mut lease = Lease::new(number.to_string().as_str(), checkpoint.clone());
            lease.owner = Some("pod".to_owned());
            lease.counter = renewals as u64;
            lease
        };
        Ok(Some(Leases {
            leases: (0..SHARDS).map(lease).collect(),
            ..Leases::default()
        }))
    }

    async fn iterator(&self, shard: &str, _: &StartFrom) -> Result<String, ReadError> {
        sleep(self.crowd.takes).await;
        Ok(shard.to_owned())
    }

    async fn peek(&self, iterator: &str) -> Result<Peek, ReadError> {
        if self.name.starts_with("hangs") {
            sleep(AwsConfig::default().timeout).await;
            let timeout = SourceErrorKind::Timeout.example();
            return Err(ReadError::Failed(Box::new(timeout)));
        }
        sleep(self.crowd.takes).await;
        let shard = (self.name.clone(), iterator.to_owned());
        let mut seen = lock(&self.crowd.seen);
        let (at, times) = seen.entry(shard).or_insert((Instant::now(), 0));
        (*at, *times) = (Instant::now(), *times + 1);
        Ok(Peek {
            record: None,
            last_sub: 0,
            next_iterator: Some(iterator.to_owned()),
            millis_behind_latest: 0,
        })
    }

    async fn time(&self) -> Option<Timestamp> {
        None
    }

    async fn place(&self, decided: bool) -> Option<Place<'_>> {
        Some(self.lane.enter(&self.crowd.turns, decided).await)
    }
}

/// KEDA asks about so many applications every half a minute.
fn ask_all_along(watchers: &Arc<Watchers>, name: &str, applications: usize) {
    let watchers = Arc::clone(watchers);
    let triggers = (0..applications).map(|number| Trigger {
        stream: source(&format!("{name}-{number}")),
        ..lag_trigger(30)
    });
    let triggers: Vec<_> = triggers.collect();
    tokio::spawn(async move {
        loop {
            for trigger in &triggers {
                watchers.ask(&"a".into(), trigger).unwrap();
            }
            sleep(Duration::from_secs(30)).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_caught_up_shards_are_decided_within_a_minute_and_then_each_refresh() {
    let crowd = Crowd::new(Duration::from_millis(20));
    let watchers = crowd.watchers();
    ask_all_along(&watchers, "orders", 100);
    pass(MINUTE).await;
    let all = |_: &str| true;
    assert_eq!(crowd.seen(all).len(), 100 * SHARDS);
    for _ in 0..20 {
        pass(Duration::from_secs(1)).await;
        // From the start of one round to the end of the next.
        let oldest = crowd.oldest(all);
        assert!(oldest < REFRESH * 2, "{oldest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rounds_that_do_not_fit_into_a_refresh_become_longer_for_all_alike() {
    // 96 probes a second: a round of 6,000 shards takes 63 s.
    let crowd = Crowd::new(Duration::from_millis(500));
    let watchers = crowd.watchers();
    ask_all_along(&watchers, "orders", 60);
    pass(MINUTE * 3).await;
    let old = |name: &str| name.starts_with("orders");
    assert_eq!(crowd.seen(old).len(), 60 * SHARDS);
    pass(MINUTE * 2).await;
    let oldest = crowd.oldest(old);
    assert!(oldest < Duration::from_secs(90), "{oldest:?}");
    let times = crowd.seen(old).into_iter().map(|(_, times)| times);
    let (least, most) = (times.clone().min(), times.max());
    assert!(most.unwrap() - least.unwrap() <= 2, "{least:?} to {most:?}");

    // Shards that nothing is known of go first.
    ask_all_along(&watchers, "new", 1);
    pass(REFRESH).await;
    let new = |name: &str| name.starts_with("new");
    assert_eq!(crowd.seen(new).len(), SHARDS);
}

#[tokio::test(start_paused = true)]
async fn applications_whose_probes_time_out_leave_the_others_fresh() {
    let crowd = Crowd::new(Duration::from_millis(20));
    let watchers = crowd.watchers();
    ask_all_along(&watchers, "hangs", 60);
    ask_all_along(&watchers, "orders", 20);
    pass(MINUTE).await;
    let all = |_: &str| true;
    assert_eq!(crowd.seen(all).len(), 20 * SHARDS);
    let oldest = crowd.oldest(all);
    assert!(oldest < REFRESH * 2, "{oldest:?}");
}
