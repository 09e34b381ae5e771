//! What was sent, and what of it is in the table: as it goes along, which gives the lag; and at the
//! end, every user, content and all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use tokio::time::Instant;

use crate::stage::TABLE;

/// DynamoDB's limit for one BatchGetItem.
const BATCH: usize = 100;

/// One user, as it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The partition key, and the table's key.
    pub email: String,
    /// In the data.
    pub name: String,
    /// In the data.
    pub city: String,
}

/// All users that were sent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Sent>>);

#[derive(Debug, Default)]
struct Sent {
    users: Vec<(User, Instant)>,
    /// Not yet seen in the table: indices into `users`, oldest first.
    missing: Vec<usize>,
}

/// How the table compares with what was sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Users sent.
    pub sent: usize,
    /// Users in the table with the content that was sent.
    pub right: usize,
    /// E-mails sent that the table lacks.
    pub missing: Vec<String>,
    /// E-mails whose item differs.
    pub wrong: Vec<String>,
    /// E-mails in the table that nobody sent.
    pub foreign: Vec<String>,
    /// Users by the pod that wrote them.
    pub by_pod: BTreeMap<String, usize>,
}

impl Verdict {
    /// Is the table what was sent?
    pub fn is_right(&self) -> bool {
        self.sent > 0 && self.right == self.sent && self.foreign.is_empty()
    }
}

type Item = HashMap<String, AttributeValue>;

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes users that are about to be sent.
    pub fn sending(&self, users: &[User]) {
        let mut sent = self.lock();
        let now = Instant::now();
        for user in users {
            let index = sent.users.len();
            sent.missing.push(index);
            sent.users.push((user.clone(), now));
        }
    }

    /// Looks for the users that were missing the last time, the oldest first. Returns how many are
    /// stored in all, and the age of the oldest that is not.
    pub async fn look(&self, dynamodb: &aws_sdk_dynamodb::Client) -> Result<(u64, Duration)> {
        let missing: Vec<(usize, String)> = {
            let sent = self.lock();
            sent.missing
                .iter()
                .map(|&index| (index, sent.users[index].0.email.clone()))
                .collect()
        };
        let mut found = HashSet::new();
        for batch in missing.chunks(BATCH) {
            let keys = batch.iter().map(|(_, email)| {
                Item::from([("email".to_owned(), AttributeValue::S(email.clone()))])
            });
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys.collect()))
                .projection_expression("email")
                .consistent_read(true)
                .build()?;
            let answer = dynamodb
                .batch_get_item()
                .request_items(TABLE, request)
                .send()
                .await
                .context("BatchGetItem")?;
            let items = answer
                .responses
                .unwrap_or_default()
                .remove(TABLE)
                .unwrap_or_default();
            found.extend(items.iter().filter_map(|item| string(item, "email")));
        }
        let mut sent = self.lock();
        let gone: HashSet<usize> = missing
            .into_iter()
            .filter(|(_, email)| found.contains(email))
            .map(|(index, _)| index)
            .collect();
        sent.missing.retain(|index| !gone.contains(index));
        let lag = sent
            .missing
            .first()
            .map_or(Duration::ZERO, |&index| sent.users[index].1.elapsed());
        Ok(((sent.users.len() - sent.missing.len()) as u64, lag))
    }

    /// Reads the whole table and compares.
    pub async fn verify(&self, dynamodb: &aws_sdk_dynamodb::Client) -> Result<Verdict> {
        let mut items = Vec::new();
        let mut pages = dynamodb
            .scan()
            .table_name(TABLE)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.next().await {
            items.push(item.context("Scan")?);
        }
        let users: Vec<User> = self
            .lock()
            .users
            .iter()
            .map(|(user, _)| user.clone())
            .collect();
        Ok(compare(&users, &items))
    }
}

fn string(item: &Item, attribute: &str) -> Option<String> {
    item.get(attribute)?.as_s().ok().cloned()
}

fn compare(users: &[User], items: &[Item]) -> Verdict {
    let mut verdict = Verdict {
        sent: users.len(),
        ..Verdict::default()
    };
    let mut stored: HashMap<String, &Item> = items
        .iter()
        .map(|item| (string(item, "email").unwrap_or_default(), item))
        .collect();
    for user in users {
        let Some(item) = stored.remove(&user.email) else {
            verdict.missing.push(user.email.clone());
            continue;
        };
        let pod = string(item, "processed_by");
        if string(item, "name").as_ref() == Some(&user.name)
            && string(item, "city").as_ref() == Some(&user.city)
            && pod.is_some()
        {
            verdict.right += 1;
        } else {
            verdict.wrong.push(user.email.clone());
        }
        *verdict
            .by_pod
            .entry(pod.unwrap_or_else(|| "nobody".into()))
            .or_default() += 1;
    }
    verdict.foreign = stored.into_keys().collect();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::user;

    fn item(user: &User, pod: &str) -> Item {
        [
            ("email", &user.email),
            ("name", &user.name),
            ("city", &user.city),
            ("processed_by", &pod.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), AttributeValue::S(value.clone())))
        .into()
    }

    #[test]
    fn a_table_of_all_users_is_right() {
        let users = [user(1), user(2), user(3)];
        let items = [
            item(&users[0], "a"),
            item(&users[1], "b"),
            item(&users[2], "b"),
        ];
        let verdict = compare(&users, &items);
        assert!(verdict.is_right(), "{verdict:?}");
        assert_eq!(verdict.by_pod, [("a".into(), 1), ("b".into(), 2)].into());
    }

    #[test]
    fn what_is_missing_wrong_or_foreign_is_named() {
        let users = [user(1), user(2), user(3)];
        let mut wrong = item(&users[1], "a");
        wrong.insert("city".into(), AttributeValue::S("Atlantis".into()));
        let verdict = compare(&users, &[item(&users[0], "a"), wrong, item(&user(9), "a")]);
        assert!(!verdict.is_right());
        assert_eq!(verdict.missing, [users[2].email.clone()]);
        assert_eq!(verdict.wrong, [users[1].email.clone()]);
        assert_eq!(verdict.foreign, [user(9).email]);
    }

    #[test]
    fn nothing_sent_proves_nothing() {
        assert!(!compare(&[], &[]).is_right());
    }
}
