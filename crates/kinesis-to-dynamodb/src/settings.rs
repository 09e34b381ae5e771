//! The settings: flags, and environment variables of the same meaning. The names are the
//! tutorial's.

use std::{net::SocketAddr, time::Duration};

use clap::{ValueEnum, builder::NonEmptyStringValueParser};
use kinesis_consumer::{Config, FanOut, InitialPosition, Pace, Placement};

use crate::Error;

mod reads;
mod values;

/// What to consume, where to put it, and how. Each flag has an environment variable; flags win.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "kinesis-to-dynamodb",
    version,
    about = "Every record of a Kinesis stream becomes an item of a DynamoDB table"
)]
pub struct Settings {
    /// The stream to read: its name, or its ARN
    #[arg(long, env)]
    pub stream_name: Option<String>,

    /// Several streams in place of one: names, ARNs and patterns such as `orders-*`, with commas
    /// between them. They are looked up again each minute
    #[arg(long, env)]
    pub streams: Option<String>,

    /// The table to write to; its key must be one HASH key of type S
    #[arg(long, env, value_parser = NonEmptyStringValueParser::new())]
    pub table_name: String,

    /// The application: consumers of one name share the stream, and the lease table has that name
    #[arg(long, env, value_parser = NonEmptyStringValueParser::new())]
    pub application_name: String,

    /// The region of stream and tables. Unset: as the AWS SDK finds it
    #[arg(long, env)]
    pub aws_region: Option<String>,

    /// This consumer's name, unique in the application: lease owner and `processed_by`. Unset: the
    /// host's name, a pod's own
    #[arg(long, env)]
    pub instance_name: Option<String>,

    /// Where a new application starts: TRIM_HORIZON, LATEST or an RFC 3339 time
    #[arg(long, env, default_value = "TRIM_HORIZON", value_parser = values::initial_position)]
    pub initial_position: InitialPosition,

    /// What the consumer costs, against how soon it notices: thrifty, balanced or fast. Consumers
    /// of one application may differ
    #[arg(long, env, default_value_t)]
    pub pace: Pace,

    /// Whose lease is not renewed for so long loses it to others; set, the same for all consumers
    /// of an application. Unset: 25s, 10s or 5s, by the pace
    #[arg(long, env, value_parser = humantime::parse_duration)]
    pub failover_time: Option<Duration>,

    /// Connections to Kinesis and to the lease table at a time, whose calls wait for their turn.
    /// Items and fan-out have connections of their own
    #[arg(long, env, default_value_t = 64, value_parser = Config::parse_max_connections)]
    pub max_connections: usize,

    /// By what consumers deal shards: their number, or their load, so that all are as busy. While
    /// one that deals by number holds a shard, all deal so
    #[arg(long, env, default_value_t)]
    pub placement: Placement,

    /// How long what waiting does not mend is tried, such as a withdrawn permission; then the
    /// process ends with code 1
    #[arg(long, env, default_value = "5m", value_parser = humantime::parse_duration)]
    pub give_up_after: Duration,

    /// How records come: the consumer polls, or each shard pushes them (enhanced fan-out, at AWS's
    /// price for it)
    #[arg(long, env, default_value = "polling")]
    pub retrieval: Retrieval,

    /// With fan-out: the stream's registered consumer, by its name or ARN. One that is not there is
    /// registered by its name, and never deregistered. Unset: the application's name
    #[arg(long, env)]
    pub consumer_name: Option<String>,

    /// With fan-out: what to do where the stream has no place for one more consumer: end with the
    /// error after GIVE_UP_AFTER, or poll
    #[arg(long, env, default_value = "fail")]
    pub on_consumer_limit: OnConsumerLimit,

    /// What to do with a record that cannot be stored: go on (it is kept in the rejects table, or
    /// logged), or stop that shard
    #[arg(long, env, default_value = "skip")]
    pub on_reject: OnReject,

    /// The table that keeps records that cannot be stored, whole. Unset: the log tells their
    /// positions
    #[arg(long, env)]
    pub rejects_table: Option<String>,

    /// What to do with a KPL aggregate of which a user record belongs to another shard, or that
    /// cannot be taken apart: reject it whole, or deliver what is in it
    #[arg(long, env, default_value = "reject")]
    pub unfit_aggregates: UnfitAggregates,

    /// Where /metrics, /livez, /readyz and /state are served; `[::]` is IPv4, too
    #[arg(long, env, default_value = "[::]:9090")]
    pub admin: SocketAddr,

    /// How log lines look
    #[arg(long, env, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also by module
    /// (`info,kinesis_consumer=debug`)
    #[arg(long, env, default_value = "info", value_parser = values::log_level)]
    pub log_level: String,
}

/// How records come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Retrieval {
    /// By GetRecords.
    Polling,
    /// By SubscribeToShard: enhanced fan-out.
    Fanout,
}

/// What becomes of a consumer that cannot be registered, as there are too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnConsumerLimit {
    /// The process ends with the error.
    Fail,
    /// It polls.
    Polling,
}

/// What becomes of a shard with a record that cannot be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnReject {
    /// The record is kept aside, and the shard goes on.
    Skip,
    /// The shard stops before the record, and tries it again for ever.
    Halt,
}

/// What becomes of a KPL aggregate that the KCL would drop or fail on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum UnfitAggregates {
    /// It is a record that cannot be stored.
    Reject,
    /// Its user records are stored, whatever shard they belong to; one that cannot be taken apart
    /// is a record like others.
    Deliver,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// This consumer's name.
    pub fn instance_name(&self) -> String {
        match &self.instance_name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => hostname::get()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        }
    }

    /// The rejects table, if one is set. An empty variable is an unset one, as manifests have it.
    pub fn rejects_table(&self) -> Option<&str> {
        self.rejects_table
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// The region, if one is set.
    pub fn aws_region(&self) -> Option<&str> {
        self.aws_region
            .as_deref()
            .map(str::trim)
            .filter(|region| !region.is_empty())
    }

    /// What each setting alone cannot tell.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |name, value: &str, want| {
            Err(Error::Setting {
                name,
                value: value.to_owned(),
                want,
            })
        };
        self.check_reads()?;
        if self.instance_name().is_empty() {
            return wrong(
                "INSTANCE_NAME",
                "",
                "a name that no other consumer of the application has; this host has none",
            );
        }
        if let Some(time) = self.failover_time
            && time < Config::LEAST_FAILOVER
        {
            let value = humantime::format_duration(time).to_string();
            return wrong(
                "FAILOVER_TIME",
                &value,
                "at least 500ms, and unset unless you know better",
            );
        }
        if self.on_reject == OnReject::Halt
            && let Some(table) = self.rejects_table()
        {
            return wrong(
                "REJECTS_TABLE",
                table,
                "unset with ON_REJECT=halt, which leaves the record in the stream",
            );
        }
        for (name, table) in [
            ("REJECTS_TABLE", self.rejects_table()),
            ("APPLICATION_NAME", Some(self.application_name.as_str())),
        ] {
            if table == Some(self.table_name.as_str()) {
                return wrong(name, &self.table_name, "another name than TABLE_NAME's");
            }
        }
        if self.rejects_table() == Some(self.application_name.as_str()) {
            return wrong(
                "REJECTS_TABLE",
                &self.application_name,
                "another name than APPLICATION_NAME, which the lease table has",
            );
        }
        match self.retrieval {
            Retrieval::Polling => Ok(()),
            Retrieval::Fanout => self.check_consumer(),
        }
    }

    /// The library's settings.
    pub(crate) fn consumer(&self) -> Config {
        let mut config = self.reading();
        config.initial_position = self.initial_position;
        config.pace = self.pace;
        config.failover_time = self.failover_time;
        config.max_connections = self.max_connections;
        config.placement = self.placement;
        config.give_up_after = self.give_up_after;
        config.deliver_unfit_aggregates = self.unfit_aggregates == UnfitAggregates::Deliver;
        if self.retrieval == Retrieval::Fanout {
            let mut fan_out = FanOut::default();
            fan_out.consumer = self.consumer_name().map(str::to_owned);
            fan_out.or_polling = self.on_consumer_limit == OnConsumerLimit::Polling;
            config.retrieval = kinesis_consumer::Retrieval::FanOut(fan_out);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(more: &[&str]) -> Result<Settings, clap::Error> {
        let base = [
            "x",
            "--stream-name",
            "s",
            "--table-name",
            "t",
            "--application-name",
            "a",
            "--instance-name",
            "i",
        ];
        Settings::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn a_new_application_starts_at_the_oldest_record() {
        let settings = parse(&[]).unwrap();
        assert_eq!(settings.initial_position, InitialPosition::TrimHorizon);
        let config = settings.consumer();
        assert_eq!(config.lease_table, "a");
        assert_eq!(config.worker_id, "i");
        assert_eq!(config.times().failover_time, Duration::from_secs(10));
    }

    #[test]
    fn shards_are_dealt_by_load_where_that_is_said() {
        let placement = |more: &[&str]| parse(more).unwrap().consumer().placement;
        assert_eq!(placement(&[]), Placement::Number);
        assert_eq!(placement(&["--placement", "load"]), Placement::Load);
        let refused = parse(&["--placement", "size"]).unwrap_err().to_string();
        assert!(refused.contains("want number or load"), "{refused}");
    }

    #[test]
    fn a_failover_time_that_is_set_wins_over_the_pace() {
        let times = |more: &[&str]| parse(more).unwrap().consumer().times();
        let thrifty = ["--pace", "thrifty"];
        let set = ["--failover-time", "10s"];
        assert_eq!(times(&thrifty), Pace::Thrifty.times());
        for both in [[thrifty, set].concat(), [set, thrifty].concat()] {
            let seconds = Duration::from_secs(10);
            let times = times(&both);
            assert_eq!(times.failover_time, seconds);
            assert_eq!(times.scan_interval, Pace::Thrifty.times().scan_interval);
        }
        let refused = parse(&["--pace", "slow"]).unwrap_err().to_string();
        assert!(
            refused.contains("want thrifty, balanced or fast"),
            "{refused}"
        );
    }

    #[test]
    fn connections_are_bounded() {
        let of = |more: &[&str]| parse(more).map(|it| it.consumer().max_connections);
        assert_eq!(of(&[]).unwrap(), Config::new("s", "a", "w").max_connections);
        for (value, want) in [("4", 4), ("1000", 1_000)] {
            assert_eq!(of(&["--max-connections", value]).unwrap(), want);
        }
        for wrong in ["3", "0", "-1", "many", "64.0"] {
            let value = format!("--max-connections={wrong}");
            let refused = of(&[&value]).unwrap_err();
            assert_eq!(refused.exit_code(), 2);
            let text = refused.to_string();
            let want = format!("'{wrong}' for '--max-connections <MAX_CONNECTIONS>'");
            assert!(text.contains(&want), "{text}");
            assert!(
                text.contains("whole number of 4 or more, such as 64"),
                "{text}"
            );
        }
    }

    #[test]
    fn positions_are_read_as_kcl_names_them() {
        assert_eq!(
            parse(&["--initial-position", "LATEST"])
                .unwrap()
                .initial_position,
            InitialPosition::Latest
        );
        let time = parse(&["--initial-position", "2026-11-23T12:00:00Z"])
            .unwrap()
            .initial_position;
        assert_eq!(
            time,
            InitialPosition::AtTimestamp("2026-11-23T12:00:00Z".parse().unwrap())
        );
        let error = parse(&["--initial-position", "yesterday"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("want TRIM_HORIZON, LATEST or a time"),
            "{error}"
        );
    }

    #[test]
    fn fan_out_has_a_consumer_by_name_or_arn() {
        let fan_out = |more: &[&str]| -> Result<(Option<String>, bool), String> {
            let settings = parse(&[&["--retrieval", "fanout"], more].concat()).unwrap();
            settings.check().map_err(|error| error.to_string())?;
            match settings.consumer().retrieval {
                kinesis_consumer::Retrieval::FanOut(it) => Ok((it.consumer, it.or_polling)),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(fan_out(&[]), Ok((None, false)));
        assert_eq!(fan_out(&["--consumer-name", ""]), Ok((None, false)));
        let arn = "arn:aws:kinesis:us-east-1:111122223333:stream/s/consumer/c:1764547200";
        for consumer in ["c", arn] {
            let set = [
                "--consumer-name",
                consumer,
                "--on-consumer-limit",
                "polling",
            ];
            assert_eq!(fan_out(&set), Ok((Some(consumer.to_owned()), true)));
        }
        for (consumer, want) in [
            ("a consumer", "want with RETRIEVAL=fanout 1 to 128 letters"),
            (&arn[..arn.len() - 11], "want the consumer's ARN whole"),
            (
                &arn.replace("stream/s/", "stream/other/"),
                "want the ARN of a consumer of STREAM_NAME",
            ),
        ] {
            let error = fan_out(&["--consumer-name", consumer]).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        let polling = parse(&["--consumer-name", "a consumer"]).unwrap();
        polling.check().unwrap();
        let retrieval = polling.consumer().retrieval;
        assert_eq!(retrieval, kinesis_consumer::Retrieval::Polling);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (more, want) in [
            (
                &["--rejects-table", "r", "--on-reject", "halt"][..],
                "REJECTS_TABLE \"r\": want unset with ON_REJECT=halt",
            ),
            (
                &["--rejects-table", "t"],
                "REJECTS_TABLE \"t\": want another name",
            ),
            (
                &["--rejects-table", "a"],
                "REJECTS_TABLE \"a\": want another name",
            ),
            (
                &["--failover-time", "1ms"],
                "FAILOVER_TIME \"1ms\": want at least 500ms",
            ),
        ] {
            let error = parse(more).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert!(
            parse(&["--rejects-table", ""])
                .unwrap()
                .rejects_table()
                .is_none()
        );
    }
}
