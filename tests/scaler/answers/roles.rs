//! A role that cannot be assumed: the real binary, whose way to STS is in its environment. A role
//! that was assumed is good for its session, so there is no more than a first question.

use embedded_kinesis::{EmbeddedKinesis, FOREVER};

use super::{
    faults::faults,
    table::{Key, Row, Rows, Told},
};
use crate::support::*;

pub(super) const MODE: &str = "all";
pub(super) const NAME: &str = "AssumeRole";

const CONFIG: &str = "
aws: {refresh: 300ms, timeout: 2s, callsPerSecond: 1000}
policy: [{namespaces: ['*'], endpoints: ['http://127.0.0.1:*'], roles: ['*']}]
";

/// Of each fault, or of one of so many.
pub(super) async fn answers(written: &Rows, update: bool, step: usize) -> Result<Rows, String> {
    let kinesis = EmbeddedKinesis::start(embedded_kinesis::Config::default());
    let kinesis = kinesis.await.unwrap();
    create_stream(&aws(&kinesis), "orders", 3).await;
    let endpoint = kinesis.endpoint();
    let env = [
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
    ];
    let scaler = Process::start(CONFIG, &env).await;
    let mut client = scaler.client().await;
    let mut rows = Rows::new();
    for (number, fault) in faults(NAME).into_iter().enumerate().step_by(step) {
        kinesis.faults().clear();
        let before = kinesis.count(NAME);
        kinesis.faults().inject(NAME, fault.fault, FOREVER);
        let role = format!("arn:aws:iam::111122223333:role/keda-{number}");
        let object = object(metadata(&[
            ("streamName", "orders"),
            ("awsEndpoint", &endpoint),
            ("awsRoleArn", &role),
        ]));
        let key = Key::new(NAME, fault.name, MODE);
        let wanted = written.get(&key).filter(|_| !update).map(|row| &row.cold);
        if wanted.is_none() && !update {
            return Err(format!("{key:?} is not in docs/answers.md: UPDATE=answers"));
        }
        let mut last = String::new();
        let asked = async {
            loop {
                let told = match value(&mut client, &object).await {
                    Ok(3.0) => Told::Answered,
                    Ok(value) => return Err(format!("{key:?}: {value} is made up")),
                    Err(status) => Told::of_error(&status)?,
                };
                let is_met = kinesis.count(NAME) >= before + 3 || told == Told::Answered;
                if is_met && wanted.is_none_or(|wanted| *wanted == told) {
                    return Ok(told);
                }
                last = told.to_string();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let cold = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(told) => told?,
            Err(_) => return Err(format!("{key:?}: in vain; the last answer was {last}")),
        };
        let (warm, late) = (Told::NotAsked, Told::NotAsked);
        rows.insert(key, Row { cold, warm, late });
    }
    Ok(rows)
}
