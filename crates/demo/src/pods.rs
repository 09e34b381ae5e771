//! The consumer's Deployment: as many consumer processes as wanted, started, stopped and replaced
//! as Kubernetes would pods.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    process::{Output, Process},
    scrape,
    state::{Board, Phase, Pod, Source},
};

/// What every pod of the deployment is like.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its environment; the pod's name is added as `INSTANCE_NAME`.
    pub environment: Vec<(&'static str, String)>,
    /// Where each pod's log goes, as `NAME.log`.
    pub logs: PathBuf,
    /// `terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// How often its readiness and metrics are asked.
    pub observe: Duration,
}

/// The deployment. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug)]
pub struct Deployment {
    replicas: Arc<watch::Sender<u32>>,
    kills: mpsc::UnboundedSender<String>,
}

/// A running pod, as its deployment sees it.
#[derive(Debug)]
struct Handle {
    started: Instant,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// How a pod's process ended.
struct Ended {
    name: String,
    was_ready: bool,
}

/// So many pods in a row may end before they are ready.
const MAX_FALSE_STARTS: u32 = 4;

impl Deployment {
    /// A deployment without pods, and its controller: a future that ends when `stop` is cancelled
    /// and the last pod is gone, or with an error when pods cannot be started.
    pub fn new(
        template: Template,
        board: Board,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = Result<()>> + Send) {
        let (replicas, wanted) = watch::channel(0);
        let (kills, killed) = mpsc::unbounded_channel();
        let controller = Controller {
            template: Arc::new(template),
            board,
            pods: HashMap::new(),
            running: JoinSet::new(),
        };
        (
            Self {
                replicas: Arc::new(replicas),
                kills,
            },
            controller.run(wanted, killed, stop),
        )
    }

    /// How many pods are wanted.
    pub fn replicas(&self) -> u32 {
        *self.replicas.borrow()
    }

    /// Wants so many pods from now on.
    pub fn scale(&self, replicas: u32) {
        self.replicas
            .send_if_modified(|wanted| std::mem::replace(wanted, replicas) != replicas);
    }

    /// Kills a pod's process with SIGKILL, as the end of its node would.
    pub fn kill(&self, name: &str) {
        // The controller is there as long as anybody scales.
        let _ = self.kills.send(name.to_owned());
    }
}

struct Controller {
    template: Arc<Template>,
    board: Board,
    pods: HashMap<String, Handle>,
    running: JoinSet<Result<Ended>>,
}

impl Controller {
    async fn run(
        mut self,
        mut wanted: watch::Receiver<u32>,
        mut killed: mpsc::UnboundedReceiver<String>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut false_starts = 0;
        loop {
            let replicas = if stop.is_cancelled() {
                0
            } else {
                *wanted.borrow_and_update()
            };
            self.reconcile(replicas as usize);
            if stop.is_cancelled() && self.running.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Ok(()) = wanted.changed() => {}
                Some(name) = killed.recv() => {
                    if let Some(pod) = self.pods.get(&name) {
                        pod.kill.cancel();
                    }
                }
                Some(ended) = self.running.join_next() => {
                    let ended = ended.context("a pod's task panicked")??;
                    self.pods.remove(&ended.name);
                    false_starts = if ended.was_ready || stop.is_cancelled() { 0 } else { false_starts + 1 };
                    if false_starts >= MAX_FALSE_STARTS {
                        let log = self.template.logs.join(format!("{}.log", ended.name));
                        let text = std::fs::read_to_string(&log).unwrap_or_default();
                        let last = text.lines().last().unwrap_or("its log is empty");
                        bail!("{false_starts} consumers in a row ended before they were ready: {last} (log: {})", log.display());
                    }
                    // CrashLoopBackOff, in short.
                    sleep(Duration::from_millis(500) * false_starts).await;
                }
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Starts or stops pods until as many are not terminating as wanted.
    fn reconcile(&mut self, wanted: usize) {
        let mut alive: Vec<(String, Instant)> = self
            .pods
            .iter()
            .filter(|(_, pod)| !pod.stop.is_cancelled() && !pod.kill.is_cancelled())
            .map(|(name, pod)| (name.clone(), pod.started))
            .collect();
        // As a ReplicaSet: the ones not ready go first, then the youngest.
        let ready = |name: &str| {
            self.board
                .read()
                .pods
                .iter()
                .any(|pod| pod.name == name && pod.phase == Phase::Running)
        };
        alive.sort_by_key(|(name, started)| (ready(name), std::cmp::Reverse(*started)));
        let surplus = alive.len().saturating_sub(wanted);
        for (name, _) in alive.iter().take(surplus) {
            self.pods[name].stop.cancel();
        }
        for _ in alive.len()..wanted {
            let handle = Handle {
                started: Instant::now(),
                stop: CancellationToken::new(),
                kill: CancellationToken::new(),
            };
            let name = format!("consumer-{}", suffix());
            let life = live(
                name.clone(),
                Arc::clone(&self.template),
                self.board.clone(),
                handle.stop.clone(),
                handle.kill.clone(),
            );
            self.running.spawn(life);
            self.pods.insert(name, handle);
        }
    }
}

/// Five characters of those that Kubernetes uses: no vowels, so no words.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
        .collect()
}

/// A pod from its start to its end.
async fn live(
    name: String,
    template: Arc<Template>,
    board: Board,
    stop: CancellationToken,
    kill: CancellationToken,
) -> Result<Ended> {
    let environment = [
        template.environment.clone(),
        vec![("INSTANCE_NAME", name.clone())],
    ]
    .concat();
    let log = template.logs.join(format!("{name}.log"));
    let (mut process, output) = Process::start(&name, &["consumer"], &environment, &log)?;
    let started = board.elapsed();
    board.update(|state| {
        state.pods.push(Pod {
            name: name.clone(),
            phase: Phase::Starting,
            started,
            ended: None,
            processed: 0,
            repeated: 0,
            per_second: 0.0,
        });
    });
    board.say(Source::Pod, format!("{name} starts"));

    let watching = watch_over(&name, output, &board, template.observe);
    let phase = tokio::select! {
        status = process.wait() => {
            let status = status?;
            board.say(Source::Pod, format!("{name} ended by itself ({status}): see {}", log.display()));
            Phase::Died
        }
        () = kill.cancelled() => {
            process.kill();
            process.wait().await?;
            board.say(Source::Pod, format!("{name} is dead (kill -9)"));
            Phase::Died
        }
        () = stop.cancelled() => {
            let since = Instant::now();
            board.update(|state| if let Some(pod) = state.pod_mut(&name) { pod.phase = Phase::Terminating });
            let ended = process.stop(template.grace).await;
            let took = since.elapsed();
            board.say(Source::Pod, match ended {
                Ok(()) => format!("{name} ended within {} of SIGTERM", crate::times::human(took)),
                Err(error) => format!("{error:#}"),
            });
            Phase::Gone
        }
        Err(error) = watching => return Err(error),
    };
    let ended = board.elapsed();
    let was_ready = board.update(|state| {
        state.pod_mut(&name).is_some_and(|pod| {
            let was_ready = matches!(pod.phase, Phase::Running | Phase::Terminating);
            pod.phase = phase;
            pod.ended = Some(ended);
            pod.per_second = 0.0;
            was_ready
        })
    });
    Ok(Ended { name, was_ready })
}

/// Asks a pod for its readiness and metrics, for as long as it lives.
async fn watch_over(name: &str, mut output: Output, board: &Board, every: Duration) -> Result<()> {
    let Some(line) = output.next_line().await? else {
        return std::future::pending().await;
    };
    let admin: SocketAddr = line
        .parse()
        .with_context(|| format!("{name} says {line:?} for its admin address"))?;
    let mut ticks = interval(every.min(Duration::from_millis(200)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counts: VecDeque<(Instant, u64)> = VecDeque::new();
    loop {
        ticks.tick().await;
        let answer = timeout(Duration::from_secs(2), scrape::get(admin, "/readyz")).await;
        let ready = matches!(answer, Ok(Ok((200, _))));
        let newly = board.update(|state| {
            state.pod_mut(name).is_some_and(|pod| {
                let newly = ready && pod.phase == Phase::Starting;
                if newly {
                    pod.phase = Phase::Running;
                }
                newly
            })
        });
        if newly {
            board.say(Source::Pod, format!("{name} is ready"));
        }
        let Ok(Ok((200, metrics))) =
            timeout(Duration::from_secs(2), scrape::get(admin, "/metrics")).await
        else {
            continue;
        };
        let processed = scrape::sum(&metrics, RECORDS, "outcome=\"processed\"") as u64;
        let repeated = scrape::sum(&metrics, REPEATED, "") as u64;
        let now = Instant::now();
        counts.push_back((now, processed));
        // Records come in batches: a rate over less would jump.
        while counts.len() > 2 && now.duration_since(counts[1].0) >= Duration::from_secs(2) {
            counts.pop_front();
        }
        let seconds = now.duration_since(counts[0].0).as_secs_f64().max(0.5);
        let per_second = processed.saturating_sub(counts[0].1) as f64 / seconds;
        board.update(|state| {
            if let Some(pod) = state.pod_mut(name) {
                pod.processed = processed;
                pod.repeated = repeated;
                pod.per_second = per_second;
            }
        });
    }
}

/// The consumer's counter of records, by what became of them.
const RECORDS: &str = "kinesis_consumer_settled_records_total";
/// Its counter of records that the table had already. No two users share a key, so each of them is
/// a repeated delivery.
const REPEATED: &str = "kinesis_consumer_stale_writes_total";
