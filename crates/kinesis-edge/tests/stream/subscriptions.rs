//! Subscriptions over HTTP/2, whose streams share a connection, also when that is dead.

use std::time::Duration;

use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use embedded_kinesis::{Certificate, Config, EmbeddedKinesis};
use kinesis_edge::{Blob, ClientSettings, Kind, KinesisClient, StartFrom, Stream, Subscription};
use rstest::rstest;
use test_support::aws;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const STREAM: &str = "orders";
/// Of an answer's beginning.
const LATE: Duration = Duration::from_secs(3);
const SHARD: &str = "shardId-000000000000";
const OLDEST: StartFrom = StartFrom::TrimHorizon;

/// A stream over TLS, by a network that can fall silent.
struct Server {
    kinesis: EmbeddedKinesis,
    client: KinesisClient,
    stream: Stream,
    consumer: String,
    /// Connections up to that number bring nothing any more.
    dead: watch::Sender<usize>,
    made: watch::Receiver<usize>,
}

impl Server {
    async fn start() -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        let certificate = Certificate {
            chain: own.cert.pem(),
            key: own.signing_key.serialize_pem(),
        };
        let kinesis = EmbeddedKinesis::start(Config {
            certificate: Some(certificate),
            creating: Duration::ZERO,
            heartbeat: Duration::from_millis(100),
            take_over_after: Duration::ZERO,
            ..Config::default()
        });
        let kinesis = kinesis.await.expect("a server");
        let (endpoint, dead, made) = network(&kinesis.endpoint()).await;
        let trusted = TrustStore::empty().with_pem_certificate(own.cert.pem());
        let context = TlsContext::builder().with_trust_store(trusted).build();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.expect("trust"))
            .build_https();
        let config = aws::config(&endpoint).into_builder().http_client(http);
        let client = KinesisClient::new(&config.build());
        let create = client.create_stream().stream_name(STREAM).shard_count(1);
        create.send().await.expect("created");
        let settings = ClientSettings {
            attempt_timeout: Some(LATE),
            attempts: Some(1),
            ..ClientSettings::default()
        };
        let stream = Stream::new(settings.complete_kinesis(&client), STREAM).patient();
        let arn = stream.arn().await.expect("an ARN");
        let consumer = stream.register_consumer(&arn, "billing").await;
        Self {
            consumer: consumer.expect("registered").arn,
            kinesis,
            client,
            stream,
            dead,
            made,
        }
    }

    async fn subscribe(&self) -> Result<Subscription, Kind> {
        let subscribed = self.stream.subscribe(&self.consumer, SHARD, &OLDEST).await;
        subscribed.map_err(|failure| failure.kind)
    }

    /// All connections that there are bring nothing any more, and nobody closes them.
    fn fall_silent(&self) {
        self.dead.send_replace(*self.made.borrow());
    }
}

/// Stands before the service. Returns where, and what makes it silent.
async fn network(endpoint: &str) -> (String, watch::Sender<usize>, watch::Receiver<usize>) {
    let service = endpoint.trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("https://{}", listener.local_addr().expect("bound"));
    let (dead, silence) = watch::channel(0);
    let (tell, made) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut inner, _)) = listener.accept().await {
            let mut outer = TcpStream::connect(&service).await.expect("the service");
            tell.send_modify(|made| *made += 1);
            let (number, mut silence) = (*tell.borrow(), silence.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = copy_bidirectional(&mut inner, &mut outer) => return,
                    _ = silence.wait_for(|dead| *dead >= number) => {}
                }
                // Both sides stay open.
                std::future::pending::<()>().await;
            });
        }
    });
    (endpoint, dead, made)
}

#[tokio::test]
async fn events_stop_at_their_length_and_wait_to_be_read() {
    const DATA: usize = 500_000;
    let server = Server::start().await;
    let mut subscription = server.subscribe().await.expect("subscribed");
    let put = server.client.put_record().stream_name(STREAM);
    let put = put.partition_key("a").data(Blob::new(vec![7; DATA]));
    put.send().await.expect("put");
    loop {
        let bytes = subscription.arriving().await.expect("well").expect("open");
        let event = subscription.event().await.expect("well").expect("known");
        if let [record] = &*event.records {
            assert!(bytes as usize > DATA / 3 * 4, "{bytes}: in Base64");
            assert_eq!(record.data.len(), DATA);
            let continuation = event.continuation.expect("open");
            assert!(continuation >= record.sequence_number);
            break;
        }
        assert!(bytes < 1000, "{bytes}");
    }
    assert!(server.kinesis.calls().iter().all(|call| call.http2));
}

/// `condemned`: by whoever noticed the silence.
#[rstest]
#[case::condemned(true)]
#[case::as_the_sdk_leaves_it(false)]
#[tokio::test]
async fn a_dead_connection_is_no_other_subscriptions(#[case] condemned: bool) {
    let server = Server::start().await;
    let mut subscription = server.subscribe().await.expect("subscribed");
    subscription.arriving().await.expect("well");
    subscription.event().await.expect("well");
    server.fall_silent();
    // What was on its way may still come.
    while timeout(LATE, subscription.arriving()).await.is_ok() {
        subscription.event().await.expect("well");
    }
    if condemned {
        subscription.condemn();
    }
    drop(subscription);
    let again = server.subscribe().await.map(drop);
    assert_eq!(
        again,
        if condemned {
            Ok(())
        } else {
            Err(Kind::Timeout)
        }
    );
    // Whose answer does not begin is left, too.
    let mut after = server.subscribe().await.expect("subscribed");
    after.arriving().await.expect("well");
}
