//! Kinesis with STS ([`embedded_kinesis`]) and DynamoDB (dynoxide) behind one address, as SDKs and
//! CLIs want it that know one endpoint for all services (`AWS_ENDPOINT_URL`).

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use embedded_kinesis::EmbeddedKinesis;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{Request, Response, StatusCode, Uri, Version, body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What there is from the start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The region of calls that are not signed, and of the streams below.
    pub region: String,
    /// Streams, each with its number of shards.
    pub streams: BTreeMap<String, u32>,
    /// Tables, each with its key: one HASH key of type S.
    pub tables: BTreeMap<String, String>,
}

/// The services. They stop when dropped.
#[derive(Debug)]
pub struct EmbeddedAws {
    address: SocketAddr,
    region: String,
    _kinesis: EmbeddedKinesis,
    _stop: DropGuard,
}

impl EmbeddedAws {
    /// Serves at this address.
    ///
    /// # Errors
    /// No port on loopback for a service of its own, or a stream or table that cannot be made.
    pub async fn serve(listener: TcpListener, config: Config) -> anyhow::Result<Self> {
        let Config {
            region,
            streams,
            tables,
        } = config;
        let address = listener.local_addr()?;
        let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config {
            region: region.clone(),
            ..Default::default()
        });
        let kinesis = kinesis.await.context("Kinesis does not start")?;
        let stop = CancellationToken::new();
        let database = dynoxide::Database::memory()
            .map_err(|error| anyhow!("DynamoDB does not start: {error}"))?;
        for (table, key) in &tables {
            create_table(&database, table, key)?;
        }
        let dynamodb = TcpListener::bind("127.0.0.1:0").await?;
        let services = Arc::new(Services {
            kinesis: kinesis.endpoint(),
            dynamodb: format!("http://{}", dynamodb.local_addr()?),
            client: Client::builder(TokioExecutor::new()).build_http(),
        });
        for (stream, shards) in &streams {
            services.create_stream(&region, stream, *shards).await?;
        }
        tokio::spawn(dynoxide::server::serve_with_shutdown(
            dynamodb,
            database,
            stop.clone().cancelled_owned(),
        ));
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(accept(listener, services)),
        );
        Ok(Self {
            address,
            region,
            _kinesis: kinesis,
            _stop: stop.drop_guard(),
        })
    }

    /// The URL of all services, from this machine.
    pub fn endpoint(&self) -> String {
        let port = self.address.port();
        match self.address.ip().is_unspecified() {
            true => format!("http://localhost:{port}"),
            false => format!("http://{}", self.address),
        }
    }

    /// A line for a shell: the variables that lead SDKs and CLIs here. Versions differ in the
    /// variable of the region, and version 2 of the CLI pages without `AWS_PAGER`.
    pub fn variables(&self) -> String {
        let (endpoint, region) = (self.endpoint(), &self.region);
        format!(
            "export AWS_ENDPOINT_URL={endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region} \
             AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_EC2_METADATA_DISABLED=true AWS_PAGER="
        )
    }
}

struct Services {
    kinesis: String,
    dynamodb: String,
    client: Client<HttpConnector, Either<Incoming, Full<Bytes>>>,
}

fn create_table(database: &dynoxide::Database, table: &str, key: &str) -> anyhow::Result<()> {
    let request = serde_json::from_value(serde_json::json!({
        "TableName": table,
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }));
    let created = request
        .map_err(|error| error.to_string())
        .and_then(|request| database.create_table(request).map_err(|it| it.to_string()));
    created.map_err(|error| anyhow!("cannot make the table {table}: {error}"))?;
    Ok(())
}

async fn accept(listener: TcpListener, services: Arc<Services>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&services)));
            }
            // Out of file descriptors, most likely: the next one may be free in a moment.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, services: Arc<Services>) {
    // The events of a subscription are small, and not to be kept waiting for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| {
        let services = Arc::clone(&services);
        async move { Ok::<_, io::Error>(services.pass_on(request).await) }
    });
    // The Java KCL's own client speaks HTTP/2 from the first byte.
    let http = auto::Builder::new(TokioExecutor::new());
    let served = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Services {
    async fn create_stream(&self, region: &str, stream: &str, shards: u32) -> anyhow::Result<()> {
        let signed = format!("AWS4-HMAC-SHA256 Credential=any/day/{region}/kinesis/aws4_request");
        let asked = serde_json::json!({"StreamName": stream, "ShardCount": shards});
        let request = Request::post(&self.kinesis)
            .header("authorization", signed)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "Kinesis_20131202.CreateStream")
            .body(Either::Right(Full::from(asked.to_string())))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        let said = body.collect().await?.to_bytes();
        ensure!(
            head.status.is_success(),
            "cannot make the stream {stream}: {}",
            String::from_utf8_lossy(&said)
        );
        Ok(())
    }

    /// The service names itself in the target of each call, such as `DynamoDB_20120810.Scan`.
    async fn pass_on(&self, request: Request<Incoming>) -> Response<Either<Incoming, Full<Bytes>>> {
        let target = request.headers().get("x-amz-target");
        let upstream = match target.is_some_and(|it| it.as_bytes().starts_with(b"DynamoDB")) {
            true => &self.dynamodb,
            false => &self.kinesis,
        };
        let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
        let answer = match format!("{upstream}{path}").parse::<Uri>() {
            Ok(uri) => {
                let mut request = request.map(Either::Left);
                *request.uri_mut() = uri;
                *request.version_mut() = Version::HTTP_11;
                self.client
                    .request(request)
                    .await
                    .map_err(anyhow::Error::from)
            }
            Err(error) => Err(error.into()),
        };
        answer
            .map(|response| response.map(Either::Left))
            .unwrap_or_else(|error| {
                let mut response = Response::new(Either::Right(Full::from(error.to_string())));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            })
    }
}
