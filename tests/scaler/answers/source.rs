//! One source with one fault: a Kinesis, a lease table, and whoever asks about them.

use std::{sync::Mutex, time::Duration};

use aws_sdk_kinesis::primitives::Blob;
use embedded_kinesis::{EmbeddedKinesis, FOREVER, Faults};
use futures::FutureExt as _;
use keda_kinesis_scaler::proto::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use test_support::Proxy;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};

use super::{
    Cell,
    mode::{ASSUME, DESCRIBE, Mode, SHARDS},
    table::{Row, Told},
    world::World,
};
use crate::support::*;

/// Fetches that meet a fault before an answer counts: by the third one the second has ended, and
/// two denials are believed.
const FETCHES: usize = 3;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(700);

pub(super) struct Source<'a> {
    cell: &'a Cell,
    world: &'a World,
    /// `None`: it is the one with STS, which others use, too.
    kinesis: Option<EmbeddedKinesis>,
    dynamodb: Proxy,
    stream: String,
    role: String,
    client: Client,
    object: ScaledObjectRef,
    metric: String,
    /// Calls of the operation, and fetches, when the fault began.
    before: Mutex<(usize, usize)>,
}

/// What is told while the last good answer may stand in, and the push stream that heard it.
pub(super) struct Standing {
    cold: Told,
    warm: Told,
    pushed: Pushed,
}

impl<'a> Source<'a> {
    /// It fails from the beginning. Nothing was asked yet.
    pub(super) async fn start(world: &'a World, cell: &'a Cell, number: usize) -> Self {
        let own = match cell.mode {
            Mode::Role => None,
            _ => Some(
                EmbeddedKinesis::start(embedded_kinesis::Config::default())
                    .await
                    .unwrap(),
            ),
        };
        let kinesis = own.as_ref().unwrap_or(&world.sts);
        let (stream, aws) = (format!("orders-{number}"), aws(kinesis));
        create_stream(&aws, &stream, SHARDS).await;
        if cell.mode == Mode::Lag {
            let put = aws.put_record().stream_name(&stream);
            let put = put.explicit_hash_key("0").partition_key("key");
            put.data(Blob::new("data")).send().await.unwrap();
        }
        let dynamodb = Proxy::start(&world.tables.endpoint).await;
        let role = format!("arn:aws:iam::111122223333:role/keda-{number}");
        let (aws_endpoint, table_endpoint) = (kinesis.endpoint(), dynamodb.endpoint());
        let table = cell.mode.table(number);
        let mut keys = vec![
            ("streamName", &*stream),
            ("awsRegion", REGION),
            ("awsEndpoint", &aws_endpoint),
        ];
        keys.extend(cell.mode.metadata());
        if cell.mode.has_leases() {
            keys.extend([
                ("applicationName", &*table),
                ("leaseTableEndpoint", &table_endpoint),
            ]);
        }
        if cell.mode == Mode::Role {
            keys.push(("awsRoleArn", &role));
        }
        let object = ScaledObjectRef {
            name: table.clone(),
            namespace: "team-a".to_owned(),
            scaler_metadata: metadata(&keys),
        };
        let mut client = world.scaler.client().await;
        let spec = client.get_metric_spec(object.clone()).await;
        let spec = spec.expect("a spec needs no AWS").into_inner();
        let source = Self {
            cell,
            world,
            kinesis: own,
            dynamodb,
            stream,
            role,
            client,
            object,
            metric: spec.metric_specs[0].metric_name.clone(),
            before: Mutex::default(),
        };
        source.heal();
        source.begin();
        source
    }

    /// From cold, after that, and with the fault again.
    pub(super) async fn while_it_stands(&self, wanted: Option<&Row>) -> Result<Standing, String> {
        let mut pushed = self.follow().await?;
        let now = Instant::now();
        let cold = self.told("cold", wanted.map(|row| &row.cold), now).await?;
        if !cold.is_right() {
            pushed.is_silent()?;
        }
        self.heal();
        self.right("after a cold start").await?;
        pushed.next().await?;
        self.begin();
        if self.cell.mode == Mode::Role {
            self.world.sts.identities().expire_sessions();
        }
        let wanted = wanted.map(|row| &row.warm);
        let warm = self.told("warm", wanted, Instant::now()).await?;
        Ok(Standing { cold, warm, pushed })
    }

    /// From `too_old` on what was good before the fault is too old.
    pub(super) async fn once_it_is_old(
        &self,
        standing: Standing,
        wanted: Option<&Row>,
        too_old: Instant,
    ) -> Result<(Standing, Told), String> {
        let late = self.told("late", wanted.map(|row| &row.late), too_old);
        Ok((standing, late.await?))
    }

    /// Without the fault all is well again.
    pub(super) async fn healed(&self, (standing, late): (Standing, Told)) -> Result<Row, String> {
        let Standing {
            cold,
            warm,
            mut pushed,
        } = standing;
        self.heal();
        self.right("at the end").await?;
        pushed.is_right()?;
        let warm = match late.is_right() || !warm.is_right() {
            true => warm,
            false => Told::StandsIn,
        };
        Ok(Row { cold, warm, late })
    }

    fn kinesis(&self) -> &EmbeddedKinesis {
        self.kinesis.as_ref().unwrap_or(&self.world.sts)
    }

    /// Where the operation's faults are set.
    fn faults(&self) -> &Faults {
        match self.cell.operation {
            "Scan" => self.dynamodb.faults(),
            _ => self.kinesis().faults(),
        }
    }

    /// Nothing fails any more: a denied ListShards is remembered, so it takes
    /// DescribeStreamSummary.
    fn heal(&self) {
        if self.cell.mode == Mode::Role {
            return self.faults().clear_on(&self.role);
        }
        self.faults().clear();
    }

    /// From here on every call of the operation fails.
    fn begin(&self) {
        *self.before.lock().unwrap() = (self.calls(), self.fetches());
        if let Some((operation, fault)) = self.cell.mode.constant_fault() {
            self.kinesis().faults().inject(operation, fault, FOREVER);
        }
        let (operation, fault) = (self.cell.operation, self.cell.fault.fault.clone());
        match self.cell.mode {
            Mode::Role => self
                .faults()
                .inject_on(&self.role, operation, fault, FOREVER),
            _ => self.faults().inject(operation, fault, FOREVER),
        }
    }

    /// Of the operation that fails.
    fn calls(&self) -> usize {
        match self.cell.operation {
            "Scan" => self.scans(),
            ASSUME => self.by_role(ASSUME),
            operation => self.kinesis().count(operation),
        }
    }

    /// What each fetch begins with, or does not come past.
    fn fetches(&self) -> usize {
        match self.cell.mode {
            Mode::Role => self.by_role(ASSUME) + self.by_role(DESCRIBE),
            mode if mode.has_leases() => self.scans(),
            _ => self.kinesis().count(DESCRIBE),
        }
    }

    fn scans(&self) -> usize {
        self.dynamodb.tally("Scan").calls as usize
    }

    fn by_role(&self, operation: &str) -> usize {
        let calls = self.kinesis().calls().into_iter();
        let mine = calls.filter(|call| {
            call.operation == operation
                && (call.role_arn.as_deref() == Some(self.role.as_str())
                    || call.stream.as_deref() == Some(self.stream.as_str()))
        });
        mine.count()
    }

    /// Waits for the right answer.
    async fn right(&self, when: &str) -> Result<(), String> {
        self.until(when, |told| told.is_right()).await?;
        Ok(())
    }

    /// What is told once the fault was met by some fetches and the time has come: what is wanted,
    /// or else what lasts.
    async fn told(&self, when: &str, wanted: Option<&Told>, from: Instant) -> Result<Told, String> {
        let (calls, fetches) = *self.before.lock().unwrap();
        let mut lasting: Option<(Told, usize)> = None;
        let told = self.until(when, |told| {
            let met = self.fetches().saturating_sub(fetches);
            if met < FETCHES || Instant::now() < from {
                return false;
            }
            if let Some(wanted) = wanted {
                return wanted == told || wanted.is_right() && told.is_right();
            }
            match &lasting {
                Some((last, since)) if last == told => met >= since + FETCHES,
                _ => {
                    lasting = Some((told.clone(), met));
                    false
                }
            }
        });
        let told = told.await.map_err(|why| match wanted {
            Some(wanted) => format!("{why}; wanted {wanted}"),
            None => why,
        })?;
        match told.is_right() && self.calls() == calls {
            true => Ok(Told::NotAsked),
            false => Ok(told),
        }
    }

    /// Asks until it is so; every answer has to be right or honest.
    async fn until(
        &self,
        when: &str,
        mut is_so: impl FnMut(&Told) -> bool,
    ) -> Result<Told, String> {
        let mut last = String::from("nothing");
        let asked = async {
            loop {
                let (value, active) = self.ask().await?;
                if value == active && is_so(&value) {
                    return Ok(value);
                }
                last = match value == active {
                    true => value.to_string(),
                    false => format!("{value}, of activity {active}"),
                };
                sleep(PAUSE).await;
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(told) => told.map_err(|why: String| format!("{when}: {why}")),
            Err(_) => Err(format!("{when}: in vain; the last answer was {last}")),
        }
    }

    /// What KEDA is told of value and activity.
    async fn ask(&self) -> Result<(Told, Told), String> {
        let (truth, mut client) = (self.cell.mode.truth(), self.client.clone());
        let request = GetMetricsRequest {
            scaled_object_ref: Some(self.object.clone()),
            metric_name: self.metric.clone(),
        };
        let value = match client.get_metrics(request).await {
            Err(status) => Told::of_error(&status)?,
            Ok(answer) => match &answer.into_inner().metric_values[..] {
                [one] if one.metric_value_float == truth.value => Told::Answered,
                made_up => return Err(format!("{made_up:?}, and {} is right", truth.value)),
            },
        };
        let active = match client.is_active(self.object.clone()).await {
            Err(status) => Told::of_error(&status)?,
            Ok(answer) if answer.get_ref().result == truth.active => Told::Answered,
            Ok(_) => return Err(format!("active is {}, that is wrong", !truth.active)),
        };
        Ok((value, active))
    }

    /// Opens a push stream.
    async fn follow(&self) -> Result<Pushed, String> {
        let mut client = self.client.clone();
        let opened = client.stream_is_active(self.object.clone()).await;
        let opened = opened.map_err(|status| status.to_string())?;
        Ok(Pushed {
            states: opened.into_inner(),
            truth: self.cell.mode.truth().active,
            told: false,
        })
    }
}

/// What is pushed meanwhile.
struct Pushed {
    states: Streaming<IsActiveResponse>,
    truth: bool,
    told: bool,
}

impl Pushed {
    /// Nothing has come, and the stream is open.
    fn is_silent(&mut self) -> Result<(), String> {
        match self.states.message().now_or_never() {
            None => Ok(()),
            Some(came) => Err(format!("pushed without an answer: {came:?}")),
        }
    }

    /// What has come is right, and the stream is open.
    fn is_right(&mut self) -> Result<(), String> {
        while let Some(came) = self.states.message().now_or_never() {
            self.judge(came)?;
        }
        Ok(())
    }

    /// Waits for the first state.
    async fn next(&mut self) -> Result<(), String> {
        if !self.told {
            let came = timeout(PATIENCE, self.states.message()).await;
            let came = came.map_err(|_| "waited in vain for a push".to_owned())?;
            self.judge(came)?;
        }
        Ok(())
    }

    fn judge(&mut self, came: Result<Option<IsActiveResponse>, Status>) -> Result<(), String> {
        match came {
            Ok(Some(state)) if state.result == self.truth => {
                self.told = true;
                Ok(())
            }
            other => Err(format!("pushed {other:?}; {} is right", self.truth)),
        }
    }
}
