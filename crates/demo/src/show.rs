//! Puts the parts together: stage, deployment, autoscaler, producer, observer, view; tells the
//! story; clears up, whatever happened.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Args, Scene},
    autoscaler, consumer, decisions,
    ledger::{Ledger, Verdict},
    observer, picture,
    pods::{Deployment, Template},
    producer::{self, Switch},
    stage::Stage,
    state::{Board, Source},
    story::{Story, lag, shards},
    times::Times,
    view,
};

/// What people and shells expect of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// The whole demo.
pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let times = Times::new(args.scene, args.pace);
    let out = match args.out {
        Some(out) => {
            std::path::absolute(&out).with_context(|| format!("--out {}", out.display()))?
        }
        None => default_out(),
    };
    let interrupted = CancellationToken::new();
    tokio::spawn(signals(interrupted.clone())?);

    let board = Board::new();
    let live = !args.plain
        && io::stdout().is_terminal()
        && std::env::var("TERM").is_ok_and(|term| term != "dumb");
    if !live {
        view::plain::introduce(&mut io::stdout(), &times)?;
    }
    let screen = start_view(live, &board, &times, &interrupted);
    let mut stage = match Stage::set(&out, &times, shards_of(args.scene)).await {
        Ok(stage) => stage,
        Err(error) => {
            end_view(&board, screen).await?;
            return Err(error);
        }
    };
    board.say(
        Source::Demo,
        format!(
            "Kinesis at {}, DynamoDB at {}, scaler at {}",
            stage.kinesis_endpoint, stage.dynamodb_endpoint, stage.scaler
        ),
    );

    let stop_pods = CancellationToken::new();
    let mut environment = consumer::environment(&stage, &times);
    if args.scene == Scene::Lag {
        environment.push((consumer::LIMIT, lag::CAPACITY.to_string()));
    }
    let template = Template {
        environment,
        logs: out.join("logs"),
        grace: times.grace,
        observe: times.observe,
    };
    let (deployment, controller) = Deployment::new(template, board.clone(), stop_pods.clone());
    let mut controller = tokio::spawn(controller);

    let mut reading = JoinSet::new();
    if let Some(output) = stage.decisions.take() {
        reading.spawn(decisions::run(board.clone(), output));
    }
    let told = tokio::select! {
        told = tell(args.scene, &board, &stage, &deployment, &times) => told.map(Some),
        failed = &mut controller => Err(flatten(failed).err().unwrap_or_else(|| anyhow::anyhow!("the deployment ended"))),
        () = interrupted.cancelled() => Ok(None),
    };
    let took = board.elapsed();
    let picture = match &told {
        Ok(Some(_)) => picture::write(&out.join(picture_name(args.scene)), &board.read()).map(Some),
        _ => Ok(None),
    };
    end_view(&board, screen).await?;
    if let (Ok(Some(Told { verdict, .. })), Ok(Some(picture))) = (&told, &picture) {
        view::summary::write(&mut io::stdout(), verdict, &board.read(), picture, took)?;
    }
    if let (Ok(Some(Told { .. })), true) = (&told, args.keep) {
        view::summary::write_commands(&mut io::stdout(), &stage, args.scene, &times)?;
        keep_up(&board, &interrupted).await?;
    }

    stop_pods.cancel();
    let pods = if controller.is_finished() {
        Ok(())
    } else {
        flatten(controller.await)
    };
    let struck = stage.strike(&times).await;
    picture?;
    let Some(Told { verdict, .. }) = told? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    pods?;
    struck?;
    if !verdict.is_right() {
        anyhow::bail!("the table is not what was sent");
    }
    Ok(ExitCode::SUCCESS)
}

/// The story's outcome, and what goes on after it: KEDA goes on asking, the observer looking.
struct Told {
    verdict: Verdict,
    _tasks: JoinSet<()>,
}

async fn tell(
    scene: Scene,
    board: &Board,
    stage: &Stage,
    deployment: &Deployment,
    times: &Times,
) -> Result<Told> {
    let ledger = Ledger::default();
    let (applied, watch_applied) = watch::channel(None);
    let mut tasks = JoinSet::new();
    let scaler = autoscaler::connect(stage.scaler)?;
    tasks.spawn(autoscaler::run(
        board.clone(),
        scaler,
        watch_applied,
        deployment.clone(),
        times.poll,
    ));
    tasks.spawn(observer::run(
        board.clone(),
        stage.kinesis.clone(),
        stage.dynamodb.clone(),
        ledger.clone(),
        times.observe,
    ));
    let switch = Switch::at(match scene {
        Scene::Shards => shards::RATE,
        Scene::Lag => 0,
    });
    let mut producing = JoinSet::new();
    producing.spawn(producer::run(
        stage.kinesis.clone(),
        ledger.clone(),
        board.clone(),
        switch.clone(),
    ));
    let story = Story {
        board,
        stage,
        deployment,
        ledger: &ledger,
        applied: &applied,
        producer: &switch,
        times,
    };
    let told = story.tell(scene);
    tokio::pin!(told);
    let verdict = tokio::select! {
        verdict = &mut told => verdict?,
        Some(ended) = producing.join_next() => {
            // It ends when it is told to, or with an error that ends the story too.
            ended.context("the producer panicked")??;
            told.await?
        }
    };
    Ok(Told {
        verdict,
        _tasks: tasks,
    })
}

fn shards_of(scene: Scene) -> u32 {
    match scene {
        Scene::Shards => shards::SHARDS,
        Scene::Lag => lag::SHARDS,
    }
}

fn picture_name(scene: Scene) -> &'static str {
    match scene {
        Scene::Shards => "demo.svg",
        Scene::Lag => "demo-lag.svg",
    }
}

/// With `--keep`: until Ctrl-C, goes on saying what happens.
async fn keep_up(board: &Board, interrupted: &CancellationToken) -> Result<()> {
    board.update(|state| {
        state.ended = false;
        state.lines.clear();
    });
    tokio::select! {
        written = view::plain::run(board.clone(), io::stdout()) => written?,
        () = interrupted.cancelled() => {}
    }
    Ok(())
}

fn start_view(
    live: bool,
    board: &Board,
    times: &Times,
    interrupted: &CancellationToken,
) -> JoinHandle<io::Result<()>> {
    let (board, times, interrupted) = (board.clone(), *times, interrupted.clone());
    if live {
        return tokio::task::spawn_blocking(move || view::tui::run(&board, &times, &interrupted));
    }
    tokio::spawn(async move {
        let written = view::plain::run(board, io::stdout()).await;
        if written.is_err() {
            // Nobody reads any more: `demo | head`.
            interrupted.cancel();
        }
        written
    })
}

async fn end_view(board: &Board, screen: JoinHandle<io::Result<()>>) -> Result<()> {
    board.update(|state| state.ended = true);
    screen
        .await
        .context("the view panicked")?
        .context("cannot write to the terminal")
}

fn flatten(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.context("the deployment's task panicked")?
}

/// SIGINT or SIGTERM: once, everything is stopped in order; twice, at once.
fn signals(interrupted: CancellationToken) -> Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if interrupted.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            interrupted.cancel();
        }
    })
}

/// `demo/` in cargo's target directory, which cargo marks with a CACHEDIR.TAG; elsewhere in the
/// system's temporary directory.
fn default_out() -> PathBuf {
    let target = std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.to_owned()));
    match target.filter(|target| target.join("CACHEDIR.TAG").is_file()) {
        Some(target) => target.join("demo"),
        None => std::env::temp_dir().join(Path::new("keda-kinesis-scaler-demo")),
    }
}
