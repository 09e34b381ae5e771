//! Sends users to the stream at the rate that is set, through the AWS SDK: the partition key is the
//! e-mail, the data a JSON object.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Ledger, User},
    stage::STREAM,
    state::Board,
};

/// Batches a second.
const BATCHES: u32 = 5;

const NAMES: [&str; 12] = [
    "Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken", "Margaret", "Leslie",
    "Frances", "Tim",
];
const CITIES: [&str; 8] = [
    "London",
    "Lisbon",
    "Kraków",
    "Nairobi",
    "Osaka",
    "Montréal",
    "São Paulo",
    "北京",
];

/// The `number`-th user.
pub fn user(number: u32) -> User {
    let name = NAMES[number as usize % NAMES.len()];
    let city = CITIES[number as usize / NAMES.len() % CITIES.len()];
    User {
        email: format!("{}.{number:05}@example.com", name.to_lowercase()),
        name: name.into(),
        city: city.into(),
    }
}

/// Sets the producer's rate, and stops it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Switch {
    rate: watch::Sender<u32>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Switch {
    /// So many users a second, in steps of five.
    pub fn at(rate: u32) -> Self {
        Self {
            rate: watch::Sender::new(rate),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// So many users a second from now on.
    pub fn set(&self, rate: u32) {
        self.rate.send_replace(rate);
    }

    /// Lets the batch in flight be sent, and returns when nothing more comes.
    pub async fn off(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

/// Sends until it is switched off.
pub async fn run(
    kinesis: aws_sdk_kinesis::Client,
    ledger: Ledger,
    board: Board,
    switch: Switch,
) -> Result<()> {
    let _stopped = switch.stopped.drop_guard();
    let mut ticks = interval(Duration::from_secs(1) / BATCHES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut numbers = 1..;
    loop {
        tokio::select! {
            biased;
            () = switch.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let batch = *switch.rate.borrow() / BATCHES;
        if batch == 0 {
            continue;
        }
        let users: Vec<User> = numbers.by_ref().take(batch as usize).map(user).collect();
        // Written down before they are sent: a consumer may be faster than the answer.
        ledger.sending(&users);
        let at = board.elapsed();
        board.update(|state| state.first_sent.get_or_insert(at).to_owned());
        send(&kinesis, users).await?;
        board.update(|state| state.sent += u64::from(batch));
    }
}

/// Sends all of them; those that Kinesis did not take are sent again.
async fn send(kinesis: &aws_sdk_kinesis::Client, mut users: Vec<User>) -> Result<()> {
    for _ in 0..50 {
        let entries = users
            .iter()
            .map(|user| {
                let data = serde_json::json!({"name": user.name, "city": user.city}).to_string();
                Ok(PutRecordsRequestEntry::builder()
                    .partition_key(&user.email)
                    .data(Blob::new(data))
                    .build()?)
            })
            .collect::<Result<Vec<_>>>()?;
        let answer = kinesis
            .put_records()
            .stream_name(STREAM)
            .set_records(Some(entries))
            .send()
            .await
            .context("PutRecords")?;
        users = users
            .into_iter()
            .zip(answer.records())
            .filter_map(|(user, result)| result.error_code().map(|_| user))
            .collect();
        if users.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("PutRecords: Kinesis refuses {} users for 5 s", users.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_users_share_an_email() {
        let emails: HashSet<_> = (0..5_000).map(|number| user(number).email).collect();
        assert_eq!(emails.len(), 5_000);
    }
}
