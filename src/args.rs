//! The command line: flags, then the configuration they change, then sockets, signals and the
//! server.

mod reload;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{self, ExitCode},
};

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use kinesis_edge::Environment;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, PolicyDefault},
    decision::replay::Replay,
    report::check::Check,
    server::{self, Tuning, health::Health},
    telemetry::{self, LogFormat},
};

/// A KEDA external scaler for AWS Kinesis: as many replicas as a stream has work for.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, subcommand_required = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve KEDA's questions over gRPC until SIGTERM or SIGINT.
    ///
    /// AWS credentials come from the standard chain: environment, profile, IRSA web identity, EKS
    /// Pod Identity, IMDSv2.
    Serve(Box<Serve>),
    /// Ask a scaler for its health over gRPC. Exit code 0: it serves.
    Health(Health),
    Replay(Replay),
    Check(Check),
}

/// Flags win over environment variables, and both over the configuration file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "AWS_REGION (or AWS_DEFAULT_REGION) is the region for triggers that name none, where the file has no aws.region."
)]
struct Serve {
    /// Configuration file (YAML). Without one every key has its default.
    #[arg(long, env = "SCALER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where gRPC is served [default: the file's `listen`, else `[::]:6000`, which is IPv4, too].
    #[arg(long, env = "SCALER_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Where metrics and health are served over HTTP [default: the file's `admin`, else
    /// `[::]:9090`].
    #[arg(long, env = "SCALER_ADMIN", value_name = "ADDR")]
    admin: Option<SocketAddr>,

    /// How log lines are written.
    #[arg(
        long,
        env = "SCALER_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, for the scaler alone; or directives, such
    /// as info,h2=debug [default: the file's `logLevel`, else info].
    #[arg(long, env = "RUST_LOG", value_name = "LEVEL", value_parser = telemetry::filter)]
    log_level: Option<EnvFilter>,

    /// Record what decisions about lag are made from, in a file for each application: see `replay`.
    /// They grow until they are deleted.
    #[arg(long, env = "SCALER_RECORD", value_name = "DIR")]
    record: Option<PathBuf>,

    /// Print the configuration that would be in force, as YAML, and exit.
    #[arg(long)]
    print_config: bool,
}

/// Reads the command line and runs the command.
///
/// # Errors
/// The configuration is wrong, an address cannot be listened on, or the server fails.
pub async fn run() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Command::Serve(serve) => serve.run().await?,
        Command::Health(health) => health.run().await?,
        Command::Replay(replay) => replay.run()?,
        // It says more by its exit code.
        Command::Check(check) => {
            let config = check.config().cloned();
            return Ok(Box::pin(check.run(load(config.as_ref()))).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        // Before it is parsed: what changes from then on is a reload.
        let known = self.config.as_deref().map(reload::text);
        let config = self.flags().config().await?;
        if self.print_config {
            return io::stdout()
                .write_all(config.to_yaml()?.as_bytes())
                .context("cannot print the configuration");
        }
        let filter = telemetry::init(self.log_format, self.flags().filter(&config)?)?;
        server::descriptors::raise();
        let listener = listen(config.listen, "listen")?;
        let admin = listen(config.admin, "admin")?;
        let shutdown = first_signal()?;
        let region = config.aws.region.as_deref();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            region,
            policy_rules = config.policy.len(),
            "starting"
        );
        if let Some(warning) = trusting(&config) {
            warn!("{warning}");
        }
        let proxies = Environment::load().await.proxies();
        if !proxies.is_empty() {
            info!(
                ?proxies,
                "AWS is asked by way of a proxy: policy.endpoints is judged by an endpoint's name alone"
            );
        }
        let tuning = Tuning {
            reloads: Some(reload::watch(
                self.flags(),
                known,
                config.tls.clone(),
                filter,
            )?),
            record: self.record,
            ..Tuning::default()
        };
        let shutdown = shutdown.cancelled_owned();
        server::serve_tuned(config, tuning, listener, admin, shutdown).await
    }

    fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            listen: self.listen,
            admin: self.admin,
            log_level: self.log_level.clone(),
        }
    }
}

/// What wins over the configuration file, each time that it is read.
#[derive(Clone, Debug)]
struct Flags {
    config: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    log_level: Option<EnvFilter>,
}

impl Flags {
    /// The configuration in force.
    async fn config(&self) -> anyhow::Result<Config> {
        let mut config = load(self.config.as_ref()).await?;
        config.listen = self.listen.unwrap_or(config.listen);
        config.admin = self.admin.unwrap_or(config.admin);
        self.filter(&config)?;
        Ok(config)
    }

    /// What is logged.
    fn filter(&self, config: &Config) -> anyhow::Result<EnvFilter> {
        match &self.log_level {
            Some(filter) => Ok(filter.clone()),
            None => telemetry::filter(&config.log_level)
                .map_err(|why| anyhow!("logLevel {:?}: {why}", config.log_level)),
        }
    }
}

/// What whoever reaches the port may do without having shown who it is.
fn trusting(config: &Config) -> Option<&'static str> {
    let tls = config.tls.as_ref();
    if tls.is_some_and(|tls| tls.client_ca.is_some()) {
        return None;
    }
    match (config.policy.is_empty(), config.policy_default) {
        (false, _) => {
            Some("policy without tls.clientCa: whoever reaches the port may claim any namespace")
        }
        (true, PolicyDefault::Allow) => Some(
            "no policy and no tls.clientCa: whoever reaches the port may learn of any stream that the scaler's \
             identity may read. Give a policy, or policyDefault: deny, and TLS client certificates: see SECURITY.md",
        ),
        (true, PolicyDefault::Deny) => None,
    }
}

/// The configuration file, if any, with the environment's region where it has none.
async fn load(path: Option<&PathBuf>) -> anyhow::Result<Config> {
    let mut config = path.map(Config::load).transpose()?.unwrap_or_default();
    let environment = Environment::load().await;
    if config.aws.region.is_some() {
        environment.check_all_but_region()?;
    } else {
        environment.check()?;
        config.aws.region = environment.region().map(str::to_owned);
    }
    Ok(config)
}

fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    kinesis_edge::listen(address).with_context(|| {
        format!("cannot listen on {address} (flag --{key}, key `{key}` of the config file)")
    })
}

/// Cancelled by SIGTERM, which Kubernetes sends, or SIGINT. The second signal ends the process at
/// once.
fn first_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        info!(signal = first, "shutting down");
        token.cancel();
        let second = next().await;
        warn!(signal = second, "second signal: ending at once");
        process::exit(1);
    });
    Ok(shutdown)
}
