//! Where hosts are: one look-up a minute for each name, however many connections go there.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

/// For how long an answer is used. AWS's own names have answers for about as long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// The shortest time between look-ups of a host that was not reached, or whose look-up failed.
const AT_LEAST: Duration = Duration::from_secs(5);

/// For so long a look-up may keep those waiting who could go where the host was: connections are
/// given up after a second.
const PATIENCE: Duration = Duration::from_millis(300);

/// A resolver that remembers. Clones remember the same.
#[derive(Clone, Debug)]
pub(crate) struct Names<R = System> {
    resolver: R,
    hosts: Arc<Mutex<HashMap<String, Arc<AsyncMutex<Host>>>>>,
}

/// The system's resolver.
#[derive(Clone, Debug)]
pub(crate) struct System;

#[derive(Debug, Default)]
struct Host {
    /// In the order in which the resolver gave them.
    addresses: Vec<IpAddr>,
    asked: Option<Instant>,
    /// Nobody answered there, or the look-up failed.
    doubted: bool,
    /// Which of them comes first next.
    turn: usize,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self::by(System)
    }
}

impl<R> Names<R> {
    fn by(resolver: R) -> Self {
        Self {
            resolver,
            hosts: Arc::default(),
        }
    }

    fn host(&self, name: &str) -> Arc<AsyncMutex<Host>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(name.to_owned()).or_default())
    }

    /// The host was not reached: where it is now is asked anew. `None`: one of all, as behind a
    /// proxy.
    pub(crate) fn doubt(&self, name: Option<&str>) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let doubted = hosts
            .iter()
            .filter(|(it, _)| name.is_none_or(|name| *it == name));
        for (_, host) in doubted {
            // Who holds it is asking just now.
            if let Ok(mut host) = host.try_lock() {
                host.doubted = true;
            }
        }
    }
}

impl<R: ResolveDns> ResolveDns for Names<R> {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let host = self.host(name);
            // Whoever comes meanwhile waits for the same answer.
            let mut host = host.lock().await;
            if host.is_due() {
                let answer = self.resolver.resolve_dns(name);
                // What was true a minute ago is better than nothing.
                if host.addresses.is_empty() {
                    host.is_at(answer.await?);
                } else {
                    match timeout(PATIENCE, answer).await {
                        Ok(Ok(addresses)) => host.is_at(addresses),
                        Ok(Err(_)) | Err(_) => host.was_not_found(),
                    }
                }
            }
            Ok(host.addresses())
        })
    }
}

impl Host {
    fn is_due(&self) -> bool {
        let good_for = if self.doubted { AT_LEAST } else { GOOD_FOR };
        self.asked.is_none_or(|asked| asked.elapsed() >= good_for)
    }

    fn is_at(&mut self, addresses: Vec<IpAddr>) {
        *self = Self {
            addresses,
            asked: Some(Instant::now()),
            doubted: false,
            turn: self.turn,
        };
    }

    fn was_not_found(&mut self) {
        self.asked = Some(Instant::now());
        self.doubted = true;
    }

    /// Each time another one first, so that connections are spread over them. The resolver has put
    /// IPv4 and IPv6 into an order that is kept.
    fn addresses(&mut self) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        let first = addresses.first().map(IpAddr::is_ipv4);
        let alike = |address: &&IpAddr| Some(address.is_ipv4()) == first;
        let alike = addresses.iter().take_while(alike).count();
        if alike > 1 {
            addresses[..alike].rotate_left(self.turn % alike);
            self.turn = self.turn.wrapping_add(1);
        }
        addresses
    }
}

impl ResolveDns for System {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { look_up(name).await.map_err(ResolveDnsError::new) })
    }
}

/// What the system says of a name now.
pub(crate) async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    /// Counts, and answers after a while, unless it is broken.
    #[derive(Clone, Debug, Default)]
    struct Counting {
        asked: Arc<AtomicUsize>,
        broken: Arc<AtomicBool>,
        hangs: Arc<AtomicBool>,
    }

    impl Counting {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl ResolveDns for Counting {
        fn resolve_dns<'a>(&'a self, _: &'a str) -> DnsFuture<'a> {
            DnsFuture::new(async move {
                sleep(Duration::from_millis(20)).await;
                self.asked.fetch_add(1, Ordering::Relaxed);
                if self.hangs.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                if self.broken.load(Ordering::Relaxed) {
                    return Err(ResolveDnsError::new("no resolver"));
                }
                Ok(["10.0.0.1", "10.0.0.2", "fd00::1"]
                    .map(|it| it.parse().unwrap())
                    .to_vec())
            })
        }
    }

    const KINESIS: &str = "kinesis.eu-west-1.amazonaws.com";

    async fn first(names: &Names<Counting>) -> String {
        names.resolve_dns(KINESIS).await.unwrap()[0].to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn many_connections_are_one_look_up_a_minute_and_host() {
        let resolver = Counting::default();
        let names = Names::by(resolver.clone());
        for _ in 0..10 {
            join_all((0..64).map(|_| first(&names))).await;
            sleep(Duration::from_millis(5_900)).await;
        }
        assert_eq!(resolver.asked(), 1, "in 59 seconds");
        sleep(Duration::from_secs(2)).await;
        first(&names).await;
        assert_eq!(resolver.asked(), 2, "in 61 seconds");
        names.resolve_dns("another").await.unwrap();
        assert_eq!(resolver.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_spread_over_the_addresses_of_the_first_kind() {
        let names = Names::by(Counting::default());
        let firsts = [
            first(&names).await,
            first(&names).await,
            first(&names).await,
        ];
        assert_eq!(firsts, ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
        let all = names.resolve_dns(KINESIS).await.unwrap();
        assert_eq!(all[2].to_string(), "fd00::1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_not_reached_is_looked_up_again_but_not_all_the_time() {
        let resolver = Counting::default();
        let names = Names::by(resolver.clone());
        first(&names).await;
        for _ in 0..60 {
            names.doubt(Some(KINESIS));
            first(&names).await;
            sleep(Duration::from_secs(1)).await;
        }
        let asked = resolver.asked();
        assert!((10..=13).contains(&asked), "{asked}");
        names.doubt(Some("never asked for"));
        names.doubt(None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_stands_in_where_a_look_up_hangs() {
        let resolver = Counting::default();
        let names = Names::by(resolver.clone());
        first(&names).await;
        resolver.hangs.store(true, Ordering::Relaxed);
        sleep(GOOD_FOR).await;
        let began = Instant::now();
        join_all((0..64).map(|_| first(&names))).await;
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(resolver.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_stands_in_where_a_look_up_fails() {
        let resolver = Counting::default();
        resolver.broken.store(true, Ordering::Relaxed);
        let names = Names::by(resolver.clone());
        assert!(names.resolve_dns(KINESIS).await.is_err(), "there is none");
        resolver.broken.store(false, Ordering::Relaxed);
        first(&names).await;
        resolver.broken.store(true, Ordering::Relaxed);
        sleep(GOOD_FOR).await;
        let before = resolver.asked();
        first(&names).await;
        first(&names).await;
        assert_eq!(resolver.asked(), before + 1);
        sleep(AT_LEAST).await;
        first(&names).await;
        assert_eq!(resolver.asked(), before + 2);
    }
}
