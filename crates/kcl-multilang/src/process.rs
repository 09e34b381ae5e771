//! The daemon: clients, worker, signals, exit code.

use std::{
    ffi::OsString,
    io::Write as _,
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context as _;
use kinesis_consumer::Worker;
use kinesis_edge::{ClientSettings, Connection, ConnectionSettings, Environment};
use rustix::process::{Pid, getppid};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{info, warn};

use crate::{
    args::{self, Invocation, Run},
    child::{self, Program},
    log,
    metrics::Metrics,
    processor::{Daemon, ShardProcessor},
    properties::{self, Credentials, Host, Report, Setup},
};

/// As the consumer's: a page of 10 MiB may take so long on a slow line.
const CALLS: ClientSettings = ClientSettings {
    connect_timeout: Some(Duration::from_secs(3)),
    read_timeout: None,
    attempt_timeout: Some(Duration::from_secs(30)),
    operation_timeout: None,
    attempts: None,
};

/// Children that got their last message end within this time: see `child`.
const ENDS: Duration = Duration::from_secs(10);

/// The time between looks whether the launcher is still there.
const LAUNCHER_LOOKS: Duration = Duration::from_millis(200);

/// Runs until SIGTERM, SIGINT or SIGHUP. Code 0: ended in order, and what `check` finds fit; 1: an
/// error, told in the log; 2: wrong arguments.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let run = match args::parse(arguments) {
        Ok(Invocation::Guard(arguments)) => return child::become_the_program(&arguments),
        Ok(Invocation::JavaVersion) => {
            let version = env!("CARGO_PKG_VERSION");
            return say(
                &format!("kcl-multilang \"{version}\", in place of java\n"),
                ExitCode::SUCCESS,
            );
        }
        Ok(Invocation::Check(file)) => return check(&file),
        Ok(Invocation::Install(folder)) => return install(&folder),
        Ok(Invocation::Run(run)) => run,
        Err(error) => error.exit(),
    };
    if let Err(error) = log::start(run.log_format, &run.log_level) {
        return say(
            &format!("log level {:?}: {error}\n", run.log_level),
            ExitCode::FAILURE,
        );
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("no runtime")),
    };
    let result = runtime.block_on(until_signalled(run));
    // Name look-ups under way are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// An image of any kind can run the binary: an init container has to bring it.
fn install(folder: &Path) -> ExitCode {
    let to = folder.join("kcl-multilang");
    let copied = std::env::current_exe().and_then(|from| std::fs::copy(from, &to));
    match copied {
        Ok(_) => say(&format!("{}\n", to.display()), ExitCode::SUCCESS),
        Err(error) => say(&format!("{}: {error}\n", to.display()), ExitCode::FAILURE),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // The texts of the library's errors hold their causes.
    let text = match error.downcast_ref::<kinesis_consumer::Error>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    };
    for line in text.lines() {
        tracing::error!("{line}");
    }
    ExitCode::FAILURE
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    // Nobody may be listening.
    let _ = std::io::stderr().write_all(text.as_bytes());
    code
}

fn check(file: &Path) -> ExitCode {
    let (report, setup) = match understood(file) {
        Ok(understood) => understood,
        Err(error) => return say(&format!("{error:#}\n"), ExitCode::FAILURE),
    };
    let mut text = report.to_string();
    let program = setup.as_ref().map(|setup| Program::find(&setup.program));
    let fit = match program {
        Some(Ok(program)) => {
            text.push_str(&format!("fit: runs {program} for each shard\n"));
            true
        }
        Some(Err(error)) => {
            text.push_str(&format!("! {error}\n"));
            false
        }
        None => {
            text.push_str("not fit: change what begins with !\n");
            false
        }
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn understood(file: &Path) -> anyhow::Result<(Report, Option<Setup>)> {
    let bytes = std::fs::read(file).with_context(|| {
        format!(
            "{}: want a .properties file that can be read",
            file.display()
        )
    })?;
    let entries = properties::parse(&bytes)
        .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let name = hostname::get().unwrap_or_default();
    let host = Host {
        name: name.to_string_lossy().into_owned(),
        is_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        random: random(),
    };
    Ok(properties::read(&entries, &host))
}

/// Digits that no other start has.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

async fn until_signalled(run: Run) -> anyhow::Result<()> {
    // Kubernetes sends SIGTERM, a terminal SIGINT, and SIGHUP when it is closed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stop = CancellationToken::new();
    if run.in_place_of_java {
        // Launchers end at a signal without passing it on.
        tokio::spawn(follow_launcher(getppid(), stop.clone()));
    }
    let mut signalled = false;
    let daemon = consume(run, stop.clone());
    tokio::pin!(daemon);
    loop {
        tokio::select! {
            result = &mut daemon => return result,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        // A signal to all of a group ends the launcher as well: that is no second one.
        if std::mem::replace(&mut signalled, true) {
            anyhow::bail!(
                "ended at once by a second signal: leases are free after the failover time"
            );
        }
        stop.cancel();
    }
}

/// Stops with whoever started this process. The kernel could tell it, but takes the end of the
/// thread that did for his.
async fn follow_launcher(launcher: Option<Pid>, stop: CancellationToken) {
    let mut looks = interval(LAUNCHER_LOOKS);
    while getppid() == launcher {
        looks.tick().await;
    }
    stop.cancel();
}

async fn consume(run: Run, stop: CancellationToken) -> anyhow::Result<()> {
    let (report, setup) = understood(&run.file)?;
    for warning in report.warnings() {
        warn!("{warning}");
    }
    let Some(setup) = setup else {
        let file = run.file.display();
        let errors = report.errors().join("\n");
        anyhow::bail!("{file} cannot be used:\n{errors}");
    };
    let program = Program::find(&setup.program)?;
    if let Some(file) = &run.log_configuration {
        warn!(file = %file.display(), "Logback's configuration has no effect: see --log-format and --log-level");
    }
    let environment = Environment::load().await;
    environment.check()?;
    let proxies = environment.proxies();
    if !proxies.is_empty() {
        info!(?proxies, "AWS is asked by way of a proxy");
    }
    let Setup {
        mut config, aws, ..
    } = setup;
    if let Some(most) = run.max_connections {
        config.max_connections = most;
    }
    let metrics = Arc::new(Metrics::new(
        &config.stream,
        &config.application,
        &config.worker_id,
    ));
    let _admin = match run.admin {
        Some(address) => {
            let listener = kinesis_edge::listen(address)
                .with_context(|| format!("admin {address}: want an address that is free"))?;
            let library = Arc::clone(&metrics.library);
            let state = {
                let library = Arc::clone(&library);
                move || library.state()
            };
            let serving = kinesis_consumer_metrics::serve(listener, library, state);
            Some(AbortOnDropHandle::new(tokio::spawn(serving)))
        }
        None => None,
    };
    let connection = connection(&aws.credentials, aws.region.as_deref()).await?;
    let dynamodb = match &aws.dynamodb_credentials {
        Some(credentials) => self::connection(credentials, aws.region.as_deref()).await?,
        None => connection.clone(),
    };
    let in_region = |connection: Connection, region: &Option<String>| match region {
        Some(region) => connection.in_region(region),
        None => connection,
    };
    let kinesis = in_region(connection, &aws.kinesis_region)
        .bounded(config.kinesis_connections())
        .kinesis(aws.kinesis_endpoint.as_deref());
    let dynamodb = in_region(dynamodb, &aws.dynamodb_region)
        .bounded(config.dynamodb_connections())
        .dynamodb(aws.dynamodb_endpoint.as_deref());

    info!(
        stream = config.stream,
        application = config.application,
        worker = config.worker_id,
        program = %program,
        "starting"
    );
    info!("no metrics are published to CloudWatch: --admin serves them");
    let daemon = Arc::new(Daemon {
        program,
        timeout: setup.timeout,
        grace: setup.grace,
        empty_lists_after: setup.empty_lists_after,
        metrics: Arc::clone(&metrics),
        ends: TaskTracker::new(),
        places: crate::processor::Places::default(),
        answered: AtomicBool::new(false),
    });
    let children = Arc::clone(&daemon);
    let factory = move |lease| ShardProcessor::new(lease, Arc::clone(&children));
    let events = Arc::clone(&metrics);
    let worker = Worker::new(config, kinesis, dynamodb, factory).on_event(move |event| {
        // Counted first: who sees the line finds the metric and the state that it tells of.
        events.library.record(event);
        log::event(event, &events.library);
    });
    let result = worker
        .run(async {
            stop.cancelled().await;
            metrics.library.set_ready(false);
            info!("stopping");
        })
        .await;
    metrics.library.set_ready(false);
    daemon.ends.close();
    if tokio::time::timeout(ENDS, daemon.ends.wait())
        .await
        .is_err()
    {
        warn!("not all children ended in time: they are killed");
    }
    Ok(result?)
}

async fn connection(credentials: &Credentials, region: Option<&str>) -> anyhow::Result<Connection> {
    let open = |region: Option<&str>| {
        Connection::open(ConnectionSettings {
            region: region.map(str::to_owned),
            sources: credentials.sources(),
            client: CALLS,
            ..ConnectionSettings::default()
        })
    };
    let connection = open(region).await;
    let Some(own) = connection.region().map(str::to_owned) else {
        anyhow::bail!(
            "regionName is missing: want a region, such as eu-west-1, there or in AWS_REGION"
        );
    };
    let Credentials::Assume {
        role,
        session,
        region,
        external_id,
    } = credentials
    else {
        return Ok(connection);
    };
    let base = match region {
        Some(region) => open(Some(region)).await,
        None => connection,
    };
    let assumed = base.assume(role, external_id.as_deref(), session).await;
    Ok(assumed.in_region(&own))
}
