//! Settings of a server.

use std::time::Duration;

/// Settings; every field has a default (`..Default::default()`).
///
/// They can be changed while the server runs:
/// [`EmbeddedKinesis::configure`](crate::EmbeddedKinesis::configure).
#[derive(Debug, Clone)]
pub struct Config {
    /// Region of calls that are not signed, and the one the server calls its own. `us-east-1`.
    pub region: String,
    /// Account of every access key that no session or [`access_keys`](Self::access_keys) tells
    /// otherwise. `111122223333`.
    pub account: String,
    /// Long-term access keys of other accounts: (access key ID, account).
    pub access_keys: Vec<(String, String)>,
    /// How long a new stream stays CREATING. 0.
    pub creating: Duration,
    /// How long a stream stays UPDATING after a change; the steps of a reshard are spread over it.
    /// 0.
    pub updating: Duration,
    /// How long a stream stays DELETING. 0.
    pub deleting: Duration,
    /// Life of a shard iterator. 5 min.
    pub iterator_ttl: Duration,
    /// Life of a `NextToken`. 5 min.
    pub next_token_ttl: Duration,
    /// Retention of new streams. 24 h; may be less than AWS's least.
    pub retention: Duration,
    /// Open shards of an account in a region. 500.
    pub shard_limit: usize,
    /// Per shard: 5 GetRecords calls/s, 5 GetShardIterator calls/s, 2 MiB/s; per shard and
    /// consumer: 2 MiB/s. Off.
    pub read_limits: bool,
    /// Per shard: 1,000 records/s, 1 MiB/s. Off.
    pub write_limits: bool,
    /// Rates of the control plane (20/s DescribeStreamSummary per account and region, 1000/s
    /// ListShards per stream, 1/s SubscribeToShard per consumer and shard, …) and 10
    /// UpdateShardCount per stream and 24 h. Off.
    pub api_limits: bool,
    /// How many seconds the server's clock is ahead of this machine's from the start; less than 0:
    /// behind. 0.
    pub clock_ahead: i64,
    /// How far a signature's time may be off, 5 minutes with AWS. `None`: as far as it likes, so
    /// that a test can move the clock under clients that do not correct theirs.
    pub signature_skew: Option<Duration>,
    /// How long a new consumer stays CREATING. 0.
    pub consumer_creating: Duration,
    /// How long a consumer stays DELETING. 0.
    pub consumer_deleting: Duration,
    /// Consumers of a stream. 20.
    pub consumer_limit: usize,
    /// How long a subscription lives. 5 min.
    pub subscription_life: Duration,
    /// For how long after a SubscribeToShard nobody else may subscribe for the same consumer and
    /// shard, unless the server itself has ended that subscription; after that, a new one takes
    /// over. 5 s.
    pub take_over_after: Duration,
    /// After how long without a record a subscription sends an empty event. 5 s.
    pub heartbeat: Duration,
    /// With it TLS is served, and HTTP/2 to whoever asks for it by ALPN. None: plain TCP.
    pub certificate: Option<Certificate>,
    /// Longest life of the sessions STS and the credentials endpoint give out. 1 h.
    pub session_lifetime: Duration,
}

/// What a server shows to clients, in PEM. Changed while it runs, it has no effect.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, then those of its authorities.
    pub chain: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "111122223333".to_owned(),
            access_keys: Vec::new(),
            creating: Duration::ZERO,
            updating: Duration::ZERO,
            deleting: Duration::ZERO,
            iterator_ttl: Duration::from_secs(300),
            next_token_ttl: Duration::from_secs(300),
            retention: Duration::from_secs(24 * 3600),
            shard_limit: 500,
            read_limits: false,
            write_limits: false,
            api_limits: false,
            clock_ahead: 0,
            signature_skew: None,
            consumer_creating: Duration::ZERO,
            consumer_deleting: Duration::ZERO,
            consumer_limit: 20,
            subscription_life: Duration::from_secs(300),
            take_over_after: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            certificate: None,
            session_lifetime: Duration::from_secs(3600),
        }
    }
}
