//! A network that reaches AWS by a proxy alone, which ends TLS: programs ask AWS's own host names.

use std::{collections::BTreeSet, net::SocketAddr};

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType};
use embedded_kinesis::{Config, EmbeddedKinesis};

use crate::{DynamoDb, ForwardProxy, Host, Program, aws};

/// The services, with the stream `orders` of 2 shards and the table `users`, and the proxy before
/// them.
#[derive(Debug)]
pub struct Company {
    /// Answers for STS, too.
    pub kinesis: EmbeddedKinesis,
    /// Answers for DynamoDB.
    pub dynamodb: DynamoDb,
    /// The only way there.
    pub proxy: ForwardProxy,
}

impl Company {
    /// With AWS's hosts alone.
    pub async fn start() -> Self {
        Self::with(|_| None).await
    }

    /// `other` says first what becomes of a host.
    pub async fn with(other: impl Fn(&str) -> Option<Host> + Send + Sync + 'static) -> Self {
        let kinesis = EmbeddedKinesis::start(Config::default()).await.unwrap();
        let create = aws::kinesis(&kinesis.endpoint()).create_stream();
        let create = create.stream_name("orders").shard_count(2);
        create.send().await.unwrap();
        kinesis.clear_calls();
        let dynamodb = DynamoDb::start().await;
        let key = ("email", KeyType::Hash, ScalarAttributeType::S);
        dynamodb.create_table("users", &[key]).await;
        let address = |endpoint: String| -> SocketAddr {
            endpoint.trim_start_matches("http://").parse().unwrap()
        };
        let of_kinesis = address(kinesis.endpoint());
        let of_dynamodb = address(dynamodb.endpoint());
        let proxy = ForwardProxy::start(move |host| {
            if let Some(host) = other(host) {
                return host;
            }
            match host.parse() {
                Ok(itself) => Host::At(itself),
                Err(_) if host.starts_with("dynamodb") || host.contains(".ddb.") => {
                    Host::At(of_dynamodb)
                }
                Err(_) if host.starts_with("sts") || host.contains("kinesis") => {
                    Host::At(of_kinesis)
                }
                Err(_) => Host::Refused,
            }
        })
        .await;
        Self {
            kinesis,
            dynamodb,
            proxy,
        }
    }

    /// The environment of a program in this network.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_REGION", aws::REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "very-secret".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", self.directory()),
            ("HTTPS_PROXY", self.proxy.url()),
            ("AWS_CA_BUNDLE", self.proxy.authority()),
        ]
    }

    /// The program with that environment.
    pub fn program(&self, program: Program) -> Program {
        let env = self.env().into_iter();
        env.fold(program, |program, (name, value)| program.env(name, value))
    }

    /// The home of programs.
    pub fn directory(&self) -> String {
        self.proxy.directory().to_str().unwrap().to_owned()
    }

    /// Writes a file into it and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.proxy.directory().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Every one of these hosts was asked for, and no other; the proxy alone was shown its
    /// password.
    ///
    /// # Panics
    /// It is not so.
    pub fn asked(&self, hosts: &[impl ToString], log: &str) {
        let hosts: BTreeSet<_> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(self.proxy.hosts(), hosts, "{log}");
        for head in self.proxy.heads() {
            let head = head.to_ascii_lowercase();
            let shown = "proxy-authorization: basic dgvhbtpwcm94es1wyxnzd29yza==";
            assert!(head.contains(shown), "{head}");
        }
        assert!(!log.contains("proxy-password"), "{log}");
    }

    /// `AWS_DEFAULT_REGION` counts where `AWS_REGION` is absent, or empty: the program comes so far
    /// as to print `works`.
    ///
    /// # Panics
    /// It is not so.
    pub async fn default_region(&self, program: Program, works: &str) {
        let program = self.program(program);
        for (region, default) in [
            (Some("us-east-1"), "eu-west-1"),
            (Some(""), "us-east-1"),
            (None, "us-east-1"),
        ] {
            let program = program.clone().env("AWS_DEFAULT_REGION", default);
            let program = match region {
                Some(region) => program.env("AWS_REGION", region),
                None => program.without("AWS_REGION"),
            };
            let process = program.start();
            process.logged(works).await;
        }
        let hosts = self.proxy.hosts();
        assert!(
            hosts.iter().all(|host| host.contains("us-east-1")),
            "{hosts:?}"
        );
    }

    /// Whichever way the proxy's authority is named, the program comes so far as to print `works`;
    /// where nobody names it, the certificate is told as the cause, with the variable to set.
    ///
    /// # Panics
    /// It is not so.
    pub async fn authorities(&self, program: Program, works: &str) {
        let program = self.program(program).without("AWS_CA_BUNDLE");
        let authority = self.proxy.authority();
        let profile = self.file("profile", &format!("[default]\nca_bundle = {authority}\n"));
        for (name, value) in [
            ("AWS_CA_BUNDLE", &authority),
            ("SSL_CERT_FILE", &authority),
            ("AWS_CONFIG_FILE", &profile),
        ] {
            let process = program.clone().env(name, value).start();
            process.logged(works).await;
        }
        let process = program.start();
        let told = process.logged("is not trusted").await;
        for wanted in [
            "UntrustedCertificate",
            ".us-east-1.amazonaws.com",
            "AWS_CA_BUNDLE",
        ] {
            assert!(told.contains(wanted), "{wanted} is missing in {told}");
        }
    }
}
