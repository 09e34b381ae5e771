//! Clients with a bound on their connections.

use std::{sync::Arc, time::Duration};

use aws_smithy_http_client::{
    pool::{
        Client as PoolClient, ConnectionEvent, ConnectionPool, ConnectionProtocol, DriverSpawner,
        Partition, PartitionId,
    },
    proxy::ProxyConfig,
    tls::{Provider, TlsContext},
};
use aws_smithy_runtime_api::client::{
    dns::SharedDnsResolver,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use tokio::{sync::watch, time::timeout};

/// An idle connection is closed after so long: what a burst opened goes soon, and what is used each
/// few seconds stays.
const IDLE: Duration = Duration::from_secs(20);
/// A socket that is not closed by then does not hold up others.
const CLOSED_SOON: Duration = Duration::from_millis(100);

/// A client with at most so many connections to a host, whether they are idle, in use or being
/// opened.
pub(crate) fn client(
    connections: usize,
    tls: (Provider, TlsContext),
    proxy: ProxyConfig,
    resolver: SharedDnsResolver,
) -> SharedHttpClient {
    let (provider, context) = tls;
    let spawner = DriverSpawner::from_fn(|task| drop(tokio::spawn(task)));
    let one = PartitionId::from_index(0);
    let closing = Arc::new(watch::Sender::new(0));
    let listener = Arc::clone(&closing);
    let pool = ConnectionPool::builder()
        .partitions([Partition::new(one, spawner)])
        .max_connections_per_host(connections.max(1))
        .idle_timeout(IDLE)
        .proxy_config(proxy)
        .dns_resolver(resolver)
        .event_listener(move |event: &ConnectionEvent<'_>| count(&listener, event))
        .tls_provider(provider)
        .tls_context(context)
        .build_https()
        .expect("there are timers, and a bound");
    SharedHttpClient::new(Settled {
        client: PoolClient::from_partition(&pool, one).expect("the pool has it"),
        closing,
    })
}

/// Of HTTP/1.1 alone: another protocol's connection closes when its last call ends.
fn count(closing: &watch::Sender<usize>, event: &ConnectionEvent<'_>) {
    match event {
        ConnectionEvent::LogicalClose(closed)
            if closed.connection().protocol() == ConnectionProtocol::Http1 =>
        {
            closing.send_modify(|closing| *closing += 1);
        }
        ConnectionEvent::PhysicalClose(closed)
            if closed.connection().protocol() == ConnectionProtocol::Http1 =>
        {
            closing.send_modify(|closing| *closing = closing.saturating_sub(1));
        }
        _ => {}
    }
}

/// The pool counts a connection no more when nothing can be sent there, a moment before its socket
/// is closed. A call waits for that, so that the bound holds for sockets.
#[derive(Debug)]
struct Settled {
    client: PoolClient,
    closing: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
struct SettledConnector {
    connector: SharedHttpConnector,
    closing: Arc<watch::Sender<usize>>,
}

impl HttpClient for Settled {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(SettledConnector {
            connector: self.client.http_connector(settings, components),
            closing: Arc::clone(&self.closing),
        })
    }
}

impl HttpConnector for SettledConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if *self.closing.borrow() == 0 {
            return self.connector.call(request);
        }
        let mut closing = self.closing.subscribe();
        let connector = self.connector.clone();
        HttpConnectorFuture::new(async move {
            let closed = closing.wait_for(|closing| *closing == 0);
            let _ = timeout(CLOSED_SOON, closed).await;
            connector.call(request).await
        })
    }
}

/// Calls that are answered soon by one client, and by another one those that last for minutes:
/// subscriptions.
#[derive(Debug)]
pub(crate) struct Apart<C> {
    pub(crate) calls: C,
    pub(crate) subscriptions: SharedHttpClient,
}

#[derive(Debug)]
struct ApartConnector {
    calls: SharedHttpConnector,
    subscriptions: SharedHttpConnector,
}

impl<C: HttpClient> HttpClient for Apart<C> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ApartConnector {
            calls: self.calls.http_connector(settings, components),
            subscriptions: self.subscriptions.http_connector(settings, components),
        })
    }
}

impl HttpConnector for ApartConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        match target.ends_with(".SubscribeToShard") {
            true => self.subscriptions.call(request),
            false => self.calls.call(request),
        }
    }
}
