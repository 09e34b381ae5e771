//! Two replicas behind a Service: what KEDA sees when its connection moves from one to the other,
//! or when each call goes to the next of them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::support::{world::Application, *};
use keda_kinesis_scaler::proto::ScaledObjectRef;
use tokio::{io::copy_bidirectional, net::TcpStream};
use tokio_util::sync::CancellationToken;

/// A ClusterIP: each new connection goes to one pod and stays there.
struct Service {
    address: SocketAddr,
    pod: Arc<Mutex<(SocketAddr, CancellationToken)>>,
}

impl Service {
    async fn start(pod: SocketAddr) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        let pod = Arc::new(Mutex::new((pod, CancellationToken::new())));
        let of = Arc::clone(&pod);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (pod, cut) = of.lock().unwrap().clone();
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    if let Ok(mut server) = TcpStream::connect(pod).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                }));
            }
        });
        Self { address, pod }
    }

    /// New connections go to that pod; those that stand stay.
    fn route_to(&self, pod: SocketAddr) {
        self.pod.lock().unwrap().0 = pod;
    }

    /// The node is gone: connections end without a word.
    fn cut(&self) {
        let mut pod = self.pod.lock().unwrap();
        std::mem::take(&mut pod.1).cancel();
    }
}

/// The first answer, whatever errors come before it.
async fn first_value(client: &mut Client, object: &ScaledObjectRef) -> f64 {
    let asked = async {
        loop {
            match value(client, object).await {
                Ok(value) => return value,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    eventually("an answer", asked).await
}

/// One application with work on four shards, two of which can be read; and two scalers.
struct World {
    application: Application,
    _worker: world::Running,
    other: Stack,
}

impl World {
    async fn start() -> Self {
        let (application, worker) = Application::resharded().await;
        Self {
            application,
            _worker: worker,
            other: Stack::start().await,
        }
    }

    /// In the order open shards, readable shards, lag.
    fn objects(&self) -> [ScaledObjectRef; 3] {
        [
            self.application
                .stack
                .object("orders", &[("shardCount", "1")]),
            self.application.trigger("readableShards", &[]),
            self.application.trigger("lag", &[]),
        ]
    }
}

async fn first_values(client: &mut Client, objects: &[ScaledObjectRef; 3]) -> [f64; 3] {
    let [open, readable, lag] = objects;
    [
        first_value(client, open).await,
        first_value(client, readable).await,
        first_value(client, lag).await,
    ]
}

/// Shards are the same at once, lag by a step.
fn assert_alike(one: [f64; 3], other: [f64; 3]) {
    let ([open, readable, lag], [other_open, other_readable, other_lag]) = (one, other);
    assert_eq!((open, readable), (other_open, other_readable));
    assert!((lag - other_lag).abs() <= 1.0, "{one:?} and {other:?}");
}

#[tokio::test]
async fn a_connection_that_moves_finds_the_same_answers() {
    let world = World::start().await;
    let objects = world.objects();
    let service = Service::start(world.application.stack.address).await;
    let mut client = client(service.address).await;
    let before = first_values(&mut client, &objects).await;
    assert_eq!((before[0], before[1]), (4.0, 2.0));

    // The node of the first pod is gone; the second was never asked before.
    service.route_to(world.other.address);
    service.cut();
    assert_alike(before, first_values(&mut client, &objects).await);

    // And back, without an error: the second pod is told to end, and says so on its connection.
    let mut push = client.clone();
    let push = push.stream_is_active(objects[1].clone()).await.unwrap();
    let mut push = push.into_inner();
    assert!(push.message().await.unwrap().unwrap().result);
    service.route_to(world.application.stack.address);
    let World {
        application, other, ..
    } = world;
    let stopped = tokio::spawn(other.stop());
    assert_eq!(push.message().await.unwrap(), None, "it ends with OK");
    eventually("the pod to end", stopped).await.unwrap();
    let after = first_values(&mut client, &objects).await;
    assert_alike(before, after);
    let mut push = client.stream_is_active(objects[1].clone()).await.unwrap();
    assert!(push.get_mut().message().await.unwrap().unwrap().result);
    drop(application);
}

#[tokio::test]
async fn replicas_that_are_asked_in_turn_agree_within_a_refresh() {
    let world = World::start().await;
    let objects = world.objects();
    let mut replicas = [
        world.application.stack.client().await,
        world.other.client().await,
    ];
    for _ in 0..10 {
        let [one, other] = &mut replicas;
        let one = first_values(one, &objects).await;
        assert_alike(one, first_values(other, &objects).await);
    }
    world
        .application
        .stack
        .update_shard_count("orders", 8)
        .await;
    for replica in &mut replicas {
        wait_for_value(replica, &objects[0], 8.0).await;
    }
    // What one has seen it does not forget.
    for _ in 0..10 {
        let [one, other] = &mut replicas;
        let one = first_values(one, &objects).await;
        assert_eq!(one[0], 8.0);
        assert_alike(one, first_values(other, &objects).await);
    }
}
