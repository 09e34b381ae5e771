//! Those who ask: pollers, as KEDA's operator is one; followers of push streams; and clients that
//! break off in the middle of everything.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use keda_kinesis_scaler::{error::code_name, proto::external_scaler_client::ExternalScalerClient};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    scaler::Scaler,
    world::{Object, World},
};
use crate::support::{honest::aws_code, *};

const POLLERS: usize = 4;
const FOLLOWERS: usize = 12;
const BREAKERS: usize = 2;

/// Wrong answers that are kept.
const KEPT: usize = 20;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Counted {
    by_kind: BTreeMap<String, u64>,
    pub(super) wrong: Vec<String>,
}

impl Counted {
    pub(super) fn count(&mut self, kind: &str) {
        *self.by_kind.entry(kind.to_owned()).or_default() += 1;
    }

    fn wrong(&mut self, what: String) {
        if self.wrong.len() < KEPT {
            self.wrong.push(what);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        for (kind, count) in other.by_kind {
            *self.by_kind.entry(kind).or_default() += count;
        }
        self.wrong.extend(other.wrong);
    }

    /// Did each kind of client and of trouble have its turn?
    pub(super) fn met_all(&self) -> bool {
        let all = [
            "answered",
            "pushed",
            "broken off",
            "faults",
            "rotations",
            "reloads",
        ];
        all.iter().all(|kind| self.by_kind.contains_key(*kind))
    }

    fn answer(&mut self, object: &Object, answer: &Result<f64, Status>) {
        match answer {
            Ok(value) if *value == object.value => self.count("answered"),
            Ok(value) => self.wrong(format!(
                "{}: {value}, not {}",
                object.object.name, object.value
            )),
            Err(status) => match aws_code(status) {
                Ok(_) => self.count(code_name(status.code())),
                Err(why) => self.wrong(format!("{}: {why}", object.object.name)),
            },
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.by_kind {
            write!(f, "{kind}: {count}, ")?;
        }
        write!(f, "wrong: {}", self.wrong.len())?;
        self.wrong
            .iter()
            .try_for_each(|wrong| write!(f, "\n{wrong}"))
    }
}

/// Starts all of them; each ends at `stop` and leaves nothing open.
pub(super) fn start(
    world: &Arc<World>,
    scaler: &Arc<Scaler>,
    stop: &CancellationToken,
) -> Vec<JoinHandle<Counted>> {
    let mut all = Vec::new();
    let shared = || (Arc::clone(world), Arc::clone(scaler), stop.clone());
    for number in 0..POLLERS {
        let (world, scaler, stop) = shared();
        all.push(tokio::spawn(async move {
            poll(number, &world, &scaler, &stop).await
        }));
    }
    for number in 0..FOLLOWERS {
        let (world, scaler, stop) = shared();
        all.push(tokio::spawn(async move {
            follow(number, &world, &scaler, &stop).await
        }));
    }
    for number in 0..BREAKERS {
        let (world, scaler, stop) = shared();
        all.push(tokio::spawn(async move {
            break_off(number, &world, &scaler, &stop).await
        }));
    }
    all
}

async fn connect(scaler: &Scaler) -> Client {
    let connected = async {
        loop {
            if let Some(channel) = scaler.connect().await {
                return ExternalScalerClient::new(channel);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    eventually("a connection", connected).await
}

/// Each object once, until it is answered.
pub(super) async fn ask_each(world: &World, scaler: &Scaler) {
    let mut client = connect(scaler).await;
    for Object { object, .. } in &world.objects {
        test_support::wait::until("an answer", async || {
            let answer = value(&mut client, object).await.ok();
            if answer.is_none() {
                sleep(Duration::from_millis(50)).await;
            }
            answer
        })
        .await;
    }
}

/// Each object in turn, over one connection.
async fn poll(number: usize, world: &World, scaler: &Scaler, stop: &CancellationToken) -> Counted {
    let mut counted = Counted::default();
    let mut client = connect(scaler).await;
    let mine = world.objects.iter().skip(number).step_by(POLLERS);
    for object in mine.cycle() {
        if stop.is_cancelled() {
            break;
        }
        let answer = value(&mut client, &object.object).await;
        counted.answer(object, &answer);
        if let Ok(active) = client.is_active(object.object.clone()).await
            && active.into_inner().result != object.active
        {
            counted.wrong(format!("{}: of the wrong activity", object.object.name));
        }
        sleep(Duration::from_millis(5)).await;
    }
    counted
}

/// Follows some objects for a while, then others.
async fn follow(
    number: usize,
    world: &World,
    scaler: &Scaler,
    stop: &CancellationToken,
) -> Counted {
    let mut counted = Counted::default();
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut client = connect(scaler).await;
    while !stop.is_cancelled() {
        let object = &world.objects[random.usize(..world.objects.len())];
        let opened = client.stream_is_active(object.object.clone()).await;
        let mut states = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => {
                counted.wrong(format!("{}: {status:?}", object.object.name));
                continue;
            }
        };
        let until = sleep(Duration::from_millis(random.u64(50..1_500)));
        let followed = async {
            loop {
                match states.message().await {
                    Ok(Some(state)) if state.result == object.active => {
                        counted.count("pushed");
                    }
                    other => return other,
                }
            }
        };
        tokio::select! {
            () = until => {}
            other = followed => counted.wrong(format!("{} pushed {other:?}", object.object.name)),
        }
        // Now and then the whole connection goes, and not the stream alone.
        if random.u8(..4) == 0 {
            client = connect(scaler).await;
        }
    }
    counted
}

/// Comes and breaks off: in a handshake, before a word, in a call.
async fn break_off(
    number: usize,
    world: &World,
    scaler: &Scaler,
    stop: &CancellationToken,
) -> Counted {
    let mut counted = Counted::default();
    let mut random = fastrand::Rng::with_seed(number as u64);
    while !stop.is_cancelled() {
        match random.u8(..3) {
            0 => {
                if let Ok(mut stream) = TcpStream::connect(scaler.address).await {
                    // The beginning of a ClientHello, or no TLS at all.
                    let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
                    sleep(Duration::from_millis(random.u64(..50))).await;
                }
            }
            1 => drop(scaler.connect().await),
            _ => {
                if let Some(channel) = scaler.connect().await {
                    let object = &world.objects[random.usize(..world.objects.len())];
                    let mut client = ExternalScalerClient::new(channel);
                    let call = value(&mut client, &object.object);
                    let _ = timeout(Duration::from_millis(random.u64(..20)), call).await;
                }
            }
        }
        counted.count("broken off");
        sleep(Duration::from_millis(random.u64(10..100))).await;
    }
    counted
}
