use super::*;

fn trigger(shard_count: usize) -> Trigger {
    let pairs = [
        ("streamName", "orders".to_owned()),
        ("awsRegion", "eu-west-1".to_owned()),
        ("shardCount", shard_count.to_string()),
    ];
    let metadata = pairs.map(|(key, value)| (key.to_owned(), value));
    Trigger::parse(&metadata.into(), None).unwrap()
}

fn not_yet() -> Error {
    Error::NotYet("AWS has not been asked yet".to_owned())
}

fn tenant(peer: &str, namespace: &str) -> Tenant {
    Tenant {
        peer: peer.into(),
        namespace: namespace.to_owned(),
    }
}

fn names(page: &[(Asker, Vec<Entry>)]) -> Vec<&str> {
    page.iter().map(|(asker, _)| &*asker.name).collect()
}

#[tokio::test(start_paused = true)]
async fn of_ever_new_triggers_the_latest_are_remembered() {
    let journal = Journal::new(50_000);
    let asker = Asker {
        namespace: "shop".to_owned(),
        name: "billing".to_owned(),
    };
    for shard_count in 1..=10 * MOST_TRIGGERS {
        let answer = Err(not_yet());
        journal.note(&"shop".into(), "billing", &trigger(shard_count), &answer);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let entries = journal.entries_of(&asker);
    assert_eq!(entries.len(), MOST_TRIGGERS);
    let oldest = entries.iter().map(|entry| entry.trigger.shard_count).min();
    assert_eq!(oldest, Some(9 * MOST_TRIGGERS as i64 + 1));
}

#[tokio::test(start_paused = true)]
async fn the_journal_is_bounded_as_a_whole_and_the_greediest_namespace_makes_room() {
    const MOST: usize = 100;
    let journal = Journal::new(MOST);
    let answer = Err(not_yet());
    let note = |namespace: &str, name: usize, shard_count: usize| {
        let name = name.to_string();
        journal.note(&namespace.into(), &name, &trigger(shard_count), &answer);
        let kept = journal.kept();
        let total: usize = kept.entries.values().map(|its| size(its).answers).sum();
        assert_eq!(kept.room.answers(), total);
        assert!(total <= MOST, "{total} answers");
    };
    note("modest", 0, 1);
    assert!(!journal.forgot_lately());
    for name in 0..10 * MOST {
        note("greedy", name, name % 7 + 1);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let (latest, has_more) = journal.latest(None, MOST);
    assert_eq!(latest.len(), MOST, "as many as there is room for");
    assert!(!has_more);
    let kept = |asker: &&Asker| asker.namespace == "modest" || asker.name == "999";
    let askers = latest.iter().map(|(asker, _)| asker);
    assert_eq!(
        askers.filter(kept).count(),
        2,
        "the latest, and the modest one"
    );
    assert!(journal.forgot_lately());
    tokio::time::advance(REMEMBERED).await;
    assert!(!journal.forgot_lately());
}

/// Looking through all that is remembered at each answer would take this test an hour.
#[tokio::test(start_paused = true)]
async fn where_much_is_remembered_room_is_made_without_a_look_at_all_of_it() {
    const MOST: usize = 20_000;
    let journal = Journal::new(MOST);
    let (trigger, answer) = (trigger(1), Err(not_yet()));
    for number in 0..3 * MOST {
        let namespace = (number % 100).to_string();
        let name = number.to_string();
        journal.note(&(&*namespace).into(), &name, &trigger, &answer);
    }
    assert_eq!(journal.kept().entries.len(), MOST);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_claims_many_namespaces_makes_room_for_another() {
    let journal = Journal::new(100);
    let answer = |value| {
        Ok(Answer {
            value,
            active: true,
            reason: "so it is".to_owned(),
            decision: None,
        })
    };
    for value in 0..10 {
        let keda = tenant("keda", "shop");
        journal.note(&keda, "billing", &trigger(1), &answer(value));
    }
    for number in 0..260 {
        let flood = tenant("flood", &number.to_string());
        journal.note(&flood, "x", &trigger(1), &answer(0));
    }
    let billing = Asker {
        namespace: "shop".to_owned(),
        name: "billing".to_owned(),
    };
    assert_eq!(journal.entries_of(&billing)[0].answers.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_scaled_object_has_one_history_whoever_asks() {
    let journal = Journal::new(100);
    let billing = Asker {
        namespace: "shop".to_owned(),
        name: "billing".to_owned(),
    };
    let note = |peer, answer: Result<i64, Error>| {
        let answer = answer.map(|value| Answer {
            value,
            active: true,
            reason: "so it is".to_owned(),
            decision: None,
        });
        journal.note(&tenant(peer, "shop"), "billing", &trigger(1), &answer);
    };
    note("keda's pod", Ok(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    note("keda's pod", Err(not_yet()));
    assert_eq!(journal.failing(10).0, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    note("keda's next pod", Ok(2));
    assert_eq!(journal.failing(10).0, 0, "it was mended since");
    let entries = journal.entries_of(&billing);
    assert_eq!(entries.len(), 1);
    let values = entries[0].answers.iter().map(|it| &it.answer);
    let values: Vec<_> = values
        .map(|it| it.as_ref().ok().map(|it| it.value))
        .collect();
    assert_eq!(values, [Some(1), None, Some(2)]);
    let (page, _) = journal.latest(None, 10);
    assert_eq!(page[0].1[0].answers[0].answer.as_ref().unwrap().value, 2);
}

#[tokio::test(start_paused = true)]
async fn all_are_shown_page_by_page() {
    let journal = Journal::new(100);
    for name in ["a", "b", "c", "d", "e"] {
        for peer in ["keda's pod", "keda's next pod"] {
            journal.note(&tenant(peer, "shop"), name, &trigger(1), &Err(not_yet()));
        }
    }
    let (page, has_more) = journal.latest(None, 2);
    assert_eq!((names(&page), has_more), (vec!["a", "b"], true));
    let after = Asker::of_query(&page[1].0.query()).unwrap();
    let (page, has_more) = journal.latest(Some(&after), 2);
    assert_eq!((names(&page), has_more), (vec!["c", "d"], true));
    let (page, has_more) = journal.latest(Some(&page[1].0), 2);
    assert_eq!((names(&page), has_more), (vec!["e"], false));
}

#[tokio::test(start_paused = true)]
async fn made_up_names_hide_no_scaled_object_that_fails_by_no_fault_of_its_author() {
    let journal = Journal::new(50_000);
    let note = |tenant: Tenant, name: &str, answer: Error| {
        journal.note(&tenant, name, &trigger(1), &Err(answer));
    };
    note("shop".into(), "orders", not_yet());
    for number in 0..10 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let made_up = format!("aaa{number}");
        note("shop".into(), &made_up, Error::InvalidMetadata(Vec::new()));
    }
    let (count, named) = journal.failing(3);
    assert_eq!(count, 11);
    let names: Vec<_> = named.iter().map(|(asker, _)| &*asker.name).collect();
    assert_eq!(names, ["orders", "aaa9", "aaa8"]);

    // Also where nobody can tell that they are made up.
    for number in 0..100 {
        tokio::time::advance(Duration::from_millis(1)).await;
        note(tenant("", "evil"), &format!("evil{number}"), not_yet());
        let namespace = number.to_string();
        note(tenant("flood", &namespace), "flood", not_yet());
    }
    let (_, named) = journal.failing(4);
    let names: Vec<_> = named.iter().map(|(asker, _)| &*asker.name).collect();
    assert!(names.contains(&"orders"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_what_it_may_of_this_scaler_does_not_count_as_failing() {
    let journal = Journal::new(100);
    let refused = Err(Error::Exhausted {
        limit: "watchers",
        why: "too many".to_owned(),
    });
    journal.note(&"evil".into(), "x", &trigger(1), &refused);
    assert_eq!(journal.failing(10), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_stays_as_it_is_is_remembered_once_and_what_is_unread_once_a_minute() {
    let journal = Journal::new(50_000);
    let asker = Asker {
        namespace: "shop".to_owned(),
        name: "billing".to_owned(),
    };
    let (trigger, times) = (trigger(1), 120);
    let answer = |reason: String| Answer {
        value: 3,
        active: true,
        reason,
        decision: None,
    };
    let mut kept = Vec::new();
    for changes in [false, true] {
        for time in 0..times {
            let number = if changes { time } else { 0 };
            let answer = Ok(answer(format!("the oldest is {number} s old")));
            journal.note(&"shop".into(), "billing", &trigger, &answer);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        kept.push(journal.entries_of(&asker)[0].answers.len());
    }
    assert_eq!(kept, [1, 3]);
}
