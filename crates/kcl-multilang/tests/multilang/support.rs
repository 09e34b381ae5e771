//! A stream and a lease table on this machine, daemons over them, and the ledger that their
//! children write.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use embedded_kinesis::{Config, EmbeddedKinesis};
use serde_json::Value;
use tempfile::TempDir;
use test_support::{DynamoDb, Item, Process, Program, aws::REGION, until};

use crate::clients::{Client, command};

pub const STREAM: &str = "orders";
pub const APPLICATION: &str = "billing";

/// The embedded services, and a folder for files.
pub struct World {
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: DynamoDb,
    pub folder: TempDir,
    pub(crate) embedded: EmbeddedKinesis,
    read: Mutex<Read>,
}

/// How much of the ledger is read.
#[derive(Default)]
struct Read {
    bytes: usize,
    notes: Vec<Note>,
}

/// What a child noted.
#[derive(Clone, Debug)]
pub struct Note(Arc<Value>);

impl Note {
    pub fn event(&self) -> &str {
        self.0["event"].as_str().unwrap()
    }

    pub fn shard(&self) -> &str {
        self.0["shard"].as_str().unwrap_or_default()
    }

    pub fn pid(&self) -> i64 {
        self.0["pid"].as_i64().unwrap()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    pub fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_default()
    }

    pub fn is(&self, event: &str, shard: &str) -> bool {
        self.event() == event && self.shard() == shard
    }
}

impl World {
    /// A stream of so many shards.
    pub async fn new(shards: i32) -> Self {
        Self::of(shards, Config::default()).await
    }

    /// The same, read no faster than AWS allows it.
    pub async fn limited(shards: i32) -> Self {
        let read_limits = true;
        let config = Config {
            read_limits,
            ..Config::default()
        };
        Self::of(shards, config).await
    }

    async fn of(shards: i32, config: Config) -> Self {
        let embedded = EmbeddedKinesis::start(config).await.unwrap();
        let kinesis = test_support::aws::kinesis(&embedded.endpoint());
        let create = kinesis.create_stream().stream_name(STREAM);
        create.shard_count(shards).send().await.unwrap();
        Self {
            kinesis,
            embedded,
            dynamodb: DynamoDb::start().await,
            folder: tempfile::tempdir().unwrap(),
            read: Mutex::default(),
        }
    }

    /// A file of this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a .properties file of the least keys and these lines.
    pub fn properties(&self, executable: &str, more: &[&str]) -> PathBuf {
        let least = format!(
            "executableName = {executable}\nstreamName = {STREAM}\napplicationName = {APPLICATION}\n\
             AwsCredentialsProvider = DefaultCredentialsProvider\nregionName = {REGION}\n\
             initialPositionInStream = TRIM_HORIZON\nfailoverTimeMillis = 3000\n\
             kinesisEndpoint = {}\ndynamoDBEndpoint = {}\n",
            self.embedded.endpoint(),
            self.dynamodb.endpoint(),
        );
        let path = self.path("app.properties");
        fs::write(&path, format!("{least}{}\n", more.join("\n"))).unwrap();
        path
    }

    /// A daemon without arguments.
    pub fn binary(&self) -> Program {
        self.binary_at(env!("CARGO_BIN_EXE_kcl-multilang").as_ref())
    }

    /// The same of another build.
    pub fn binary_at(&self, path: &OsStr) -> Program {
        Program::new(path)
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("LEDGER", self.path("ledger"))
    }

    /// A daemon that runs this client. `None`: the client cannot be had.
    pub async fn daemon(&self, client: Client, test: &str, more: &[&str]) -> Option<Program> {
        let command = command(client, test).await?;
        let file = self.properties(&command.command, more);
        let program = self
            .binary()
            .args(["--properties-file".as_ref(), file.as_os_str()]);
        let variables = command.variables.into_iter();
        Some(variables.fold(program, |program, (name, value)| program.env(name, value)))
    }

    /// A daemon whose plain children go wrong so.
    pub async fn misbehaving(&self, test: &str, behave: &Value, more: &[&str]) -> Option<Program> {
        let program = self.daemon(Client::Plain, test, more).await?;
        Some(program.env("BEHAVE", behave.to_string()))
    }

    /// Puts these records, their keys their own texts.
    pub async fn put(&self, texts: impl IntoIterator<Item = String>) {
        let texts: Vec<_> = texts.into_iter().collect();
        for texts in texts.chunks(500) {
            let entries = texts.iter().map(|text| {
                let entry = PutRecordsRequestEntry::builder().partition_key(text);
                entry.data(Blob::new(text.as_bytes())).build().unwrap()
            });
            let request = self.kinesis.put_records().stream_name(STREAM);
            let answer = request
                .set_records(Some(entries.collect()))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.failed_record_count, Some(0));
        }
    }

    /// Puts a record into the first shard, or into the last of two.
    pub async fn put_to(&self, shard: usize, text: &str) {
        let hash = if shard == 0 {
            "0"
        } else {
            "340282366920938463463374607431768211455"
        };
        let request = self
            .kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key("k");
        let request = request
            .explicit_hash_key(hash)
            .data(Blob::new(text.as_bytes()));
        request.send().await.unwrap();
    }

    /// What children noted so far.
    pub fn ledger(&self) -> Vec<Note> {
        self.unread();
        self.read.lock().unwrap().notes.clone()
    }

    /// Reads on: the embedded services run on the same thread as whoever waits. Returns whether
    /// anything came.
    fn unread(&self) -> bool {
        let Ok(mut file) = fs::File::open(self.path("ledger")) else {
            return false;
        };
        let mut read = self.read.lock().unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(read.bytes as u64)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let Some((whole, _)) = text.rsplit_once('\n') else {
            return false;
        };
        read.bytes += whole.len() + 1;
        let notes = whole.lines();
        let notes = notes.map(|line| Note(Arc::new(serde_json::from_str(line).unwrap())));
        read.notes.extend(notes);
        true
    }

    /// Waits until this holds of the ledger.
    pub async fn noted<T>(&self, what: &str, holds: impl Fn(&[Note]) -> Option<T>) -> T {
        let mut looked = false;
        until(what, async || {
            let is_new = self.unread();
            if !is_new && looked {
                return None;
            }
            looked = true;
            holds(&self.read.lock().unwrap().notes)
        })
        .await
    }

    /// Waits for a record at a child.
    pub async fn processed(&self, text: &str) -> Note {
        self.noted(text, |notes| {
            let found = |note: &&Note| note.event() == "record" && note.text("data") == Some(text);
            notes.iter().find(found).cloned()
        })
        .await
    }

    /// Takes a lease as KCL does: the counter moves, the owner changes.
    pub async fn steal(&self, index: usize) {
        let update = self.dynamodb.client.update_item().table_name(APPLICATION);
        let one = AttributeValue::N("1".to_owned());
        update
            .key("leaseKey", AttributeValue::S(shard(index)))
            .update_expression("SET leaseOwner = :thief ADD leaseCounter :one")
            .expression_attribute_values(":thief", AttributeValue::S("thief".to_owned()))
            .expression_attribute_values(":one", one)
            .send()
            .await
            .unwrap();
    }

    /// The leases.
    pub async fn leases(&self) -> Vec<Item> {
        self.dynamodb.items(APPLICATION).await
    }
}

/// The id of a shard.
pub fn shard(index: usize) -> String {
    format!("shardId-{index:012}")
}

/// Starts, and waits until leases are taken.
pub async fn started(program: &Program) -> Process {
    let process = program.start();
    process.logged("Initialization complete").await;
    process
}
