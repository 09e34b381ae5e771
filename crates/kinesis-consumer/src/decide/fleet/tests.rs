//! Roles, shares and watches by tables.

use rstest::rstest;

use super::*;
use crate::{decide::assignment::Has, model::sequence::Checkpoint};

mod by_load;

const FAILOVER: Duration = Duration::from_secs(10);

/// `"a a - J"`: leases 0 to 3, held by `a`, nobody, and Java's `J`; `a>b`: `b` asks; `a!`:
/// finished.
fn leases(table: &str) -> Vec<Lease> {
    let lease = |(index, text): (usize, &str)| {
        let end = text.ends_with('!');
        let text = text.trim_end_matches('!');
        let (holder, to) = match text.split_once('>') {
            Some((holder, to)) => (holder, Some(to.to_owned())),
            None => (text, None),
        };
        let is_native = holder.chars().all(char::is_lowercase);
        let checkpoint = match end {
            true => Checkpoint::ShardEnd,
            false => Checkpoint::TrimHorizon,
        };
        Lease {
            owner: (holder != "-").then(|| holder.to_owned()),
            native_counter: is_native.then_some(0),
            native_process: is_native.then(|| format!("process of {holder}")),
            native_clock: is_native.then_some(500 * index as u64),
            handover_to: to,
            ..Lease::new(format!("s{index}"), checkpoint)
        }
    };
    table.split_whitespace().enumerate().map(lease).collect()
}

/// What `me` sees of the table, read at once.
fn seen<T>(table: &str, judge: impl FnOnce(Sight<'_>) -> T) -> T {
    seen_by(FAILOVER, table, judge)
}

fn seen_by<T>(failover: Duration, table: &str, judge: impl FnOnce(Sight<'_>) -> T) -> T {
    seen_of(failover, leases(table), judge)
}

fn seen_of<T>(failover: Duration, leases: Vec<Lease>, judge: impl FnOnce(Sight<'_>) -> T) -> T {
    let now = Instant::now();
    let mut observations = Observations::new(failover);
    observations.observe(&leases, now);
    let ours = leases.iter().filter(|lease| lease.holder() == Some("me"));
    let held = ours.map(|lease| lease.key.clone()).collect();
    judge(Sight::new(&leases, &observations, "me", &held, now))
}

fn keys(keys: &[&str]) -> Vec<LeaseKey> {
    keys.iter().map(|key| (*key).into()).collect()
}

#[rstest]
#[case::nobody_else("me me", Role::Warden)]
#[case::nobody_at_all("- -", Role::Warden)]
#[case::nothing_there("", Role::Warden)]
#[case::the_first_one("me a me b", Role::Warden)]
#[case::finished_ones_do_not_count("a! me a", Role::Warden)]
#[case::nor_do_free_ones("- me a", Role::Warden)]
#[case::nor_do_javas("J me a", Role::Warden)]
#[case::the_next_one("a a me b", Role::Deputy(1))]
#[case::the_one_after_it("a b me", Role::Deputy(2))]
#[case::any_other("a b c me", Role::Member)]
#[case::without_a_lease("a a", Role::Spare)]
fn the_order_of_leases_says_who_is_what(#[case] table: &str, #[case] role: Role) {
    assert_eq!(seen(table, |sight| sight.role()), role);
}

/// `b` says it in its leases, `a` is of an earlier version.
#[rstest]
#[case::nobody_else("me - me", false)]
#[case::who_says_for_how_long("me b b", false)]
#[case::an_earlier_version("me b a", true)]
#[case::java("me J b", true)]
#[case::finished_ones_do_not_count("me a! J!", false)]
fn who_does_not_say_for_how_long_it_may_be_silent_does_not_heed_others(
    #[case] table: &str,
    #[case] want: bool,
) {
    let mut leases = leases(table);
    for lease in &mut leases {
        let says = lease.owner.as_deref() == Some("b");
        lease.failover_millis = says.then_some(25_000);
    }
    // On its way to whoever asked for it.
    leases.push(Lease {
        owner: Some("c".to_owned()),
        native_counter: Some(0),
        ..Lease::new("s9", Checkpoint::TrimHorizon)
    });
    assert_eq!(
        seen_of(FAILOVER, leases, |sight| sight.has_heedless()),
        want
    );
}

/// Of each watched worker one lease is looked at, the one that was written last.
#[rstest]
#[case::the_warden_watches_all("me a a b a J", &[("s3", 0), ("s4", 0)])]
#[case::the_first_deputy_its_warden("a me b a", &[("s3", 0)])]
#[case::the_second_one_later("a b me a", &[("s3", 20)])]
#[case::nobody_else_does("a b c me", &[])]
fn who_is_watched(#[case] table: &str, #[case] want: &[(&str, u64)]) {
    let mut watched = seen(table, |sight| {
        let watches = sight.watches().into_iter();
        let after = |due: Instant| (due - sight.now).as_secs().saturating_sub(10);
        let watches = watches.map(|(due, key)| (key.shard.to_string(), after(due)));
        watches.collect::<Vec<_>>()
    });
    watched.sort();
    let want = want.iter().map(|(key, later)| ((*key).to_owned(), *later));
    assert_eq!(watched, want.collect::<Vec<_>>());
}

#[test]
fn free_leases_go_to_who_has_least() {
    let shares = seen("me a a b b b J", |sight| {
        sight.share_out(&keys(&["x", "y", "z"]))
    });
    let count = |worker: &str| shares.get(worker).map_or(0, BTreeSet::len);
    assert_eq!(
        (count("a"), count("b"), count("J")),
        (2, 1, 0),
        "{shares:?}"
    );
    assert!(seen("me J", |sight| sight.share_out(&keys(&["x"]))).is_empty());
}

#[rstest]
#[case::the_poor_are_told("me me a a a a b", &[("b", 1)])]
#[case::of_ours_too("me me me me a", &[("a", 1)])]
#[case::this_worker_asks_by_itself("me a a a a", &[])]
#[case::even("me a a b b", &[])]
#[case::not_while_some_are_free("me me me a -", &[])]
#[case::nor_while_some_move("me me me>a a me", &[])]
fn the_poor_ask_the_rich(#[case] table: &str, #[case] want: &[(&str, usize)]) {
    let shares = seen(table, |sight| sight.even_out().unwrap_or_default());
    let counts: Vec<_> = (shares.iter())
        .map(|(worker, keys)| (worker.as_str(), keys.len()))
        .collect();
    assert_eq!(counts, want, "{shares:?}");
}

#[rstest]
#[case::less_than_all_on_average("me a a a", true)]
#[case::not_with_what_it_is_promised("me a>me a a", false)]
#[case::a_request_that_is_refused_is_none("me me a>me a b b b b b b", true)]
#[case::less_than_the_next_is_as_much("me a a", false)]
#[case::who_joins_as_well_counts("me a>b a a", false)]
#[case::finished_ones_do_not_count("me a! a! a!", false)]
#[case::who_has_nothing_asks_for_one_first("a a a a", false)]
#[case::nor_who_begins_beside_others("me b a>me a>me a a a a a a a a", false)]
#[case::until_it_has_begun("me me b a>me a a a a a a a a", true)]
fn who_is_short_of_leases(#[case] table: &str, #[case] want: bool) {
    assert_eq!(seen(table, |sight| sight.is_short(usize::MAX)), want);
    assert!(
        !seen(table, |sight| sight.is_short(1)),
        "no more than it may"
    );
}

/// A request by nobody else, or one that is refused, leaves `a` its leases.
#[rstest]
#[case::as_many_as_make_it_more_even("me me a>me a>me a a a", &[("s2", Some(2)), ("s3", None)])]
#[case::what_others_get_is_gone("me a>me a>b a c c c", &[("s1", None)])]
#[case::and_what_they_do_not_get_is_not("me a>me a>b a b b", &[("s1", Some(1))])]
#[case::requests_of_others_are_theirs("me a>b a a", &[])]
fn a_request_that_is_refused_is_taken_back(
    #[case] table: &str,
    #[case] want: &[(&str, Option<u64>)],
) {
    let requests = seen(table, |sight| {
        let has = Has {
            leases: sight.held.len() as u64,
            load: None,
        };
        let requests = sight.own_requests(has).into_iter();
        let requests = requests.map(|(lease, then)| {
            let has = then.map(|then| then.leases);
            (lease.key.shard.to_string(), has)
        });
        requests.collect::<Vec<_>>()
    });
    let want = want.iter().map(|(key, has)| ((*key).to_owned(), *has));
    assert_eq!(requests, want.collect::<Vec<_>>());
}

/// The holder of all has the request for one of them next when it renews that one.
#[test]
fn who_asks_for_one_asks_for_the_one_that_is_renewed_next() {
    let (offered, suggested) = (BTreeSet::new(), BTreeSet::new());
    let told = Told {
        offered: &offered,
        suggested: &suggested,
        is_fresh: true,
    };
    let mut actions = asks(&["s3"]);
    let asked = |table: &str, actions: &mut Vec<Action>| {
        seen(table, |sight| sight.adjust(actions, &told, usize::MAX));
        actions.clone()
    };
    // The first one was written longest ago.
    assert_eq!(asked("a a a a a a", &mut actions), asks(&["s0"]));
    assert_eq!(
        asked("a>b a a a a a", &mut actions),
        asks(&["s1"]),
        "another asked"
    );
}

#[test]
fn a_deputy_looks_at_what_is_before_it() {
    let deputies = seen("me me a J b! b c", |sight| sight.deputies() == ["a", "b"]);
    assert!(deputies);
    let before = |table: &str| {
        seen(table, |sight| {
            let keys = sight.before_ours().map(|key| key.shard.to_string());
            keys.collect::<Vec<_>>()
        })
    };
    assert_eq!(before("a b! J - me c me"), ["s0", "s2", "s3"]);
    assert!(before("me a").is_empty() && before("a a").is_empty());
}

/// The renewals are seven seconds apart: news are seen after half of that at the latest.
#[test]
fn news_go_to_two_leases_that_are_renewed_at_other_times() {
    let boards = |table: &str, worker: &str| {
        seen_by(Duration::from_secs(20), table, |sight| {
            let boards = sight.boards(worker).into_iter();
            let boards = boards.map(|lease| lease.key.shard.to_string());
            boards.collect::<Vec<_>>()
        })
    };
    // Their clocks are half a second apart.
    assert_eq!(boards("a a a a a a a a a", "a"), ["s0", "s7"]);
    assert_eq!(boards("me a", "a"), ["s1"]);
    assert!(boards("me J", "J").is_empty());
}

fn asks(keys: &[&str]) -> Vec<Action> {
    keys.iter().map(|key| Action::Ask((*key).into())).collect()
}

#[rstest]
#[case::one_first("a a a a a a", 1)]
#[case::none_while_that_one_is_coming("a>me a a a a a", 0)]
#[case::then_its_share("me a a a a a", 2)]
#[case::less_where_others_join("me a>b a>c a a a", 1)]
#[case::less_of_it_beside_others_who_begin("me b a a a a a a a a", 2)]
#[case::all_of_it_beside_others_who_have_begun("me b b a a a a a a a", 3)]
#[case::and_what_is_coming_counts("me a>me a a a a", 1)]
fn a_joiner_asks_for_its_share(#[case] table: &str, #[case] want: usize) {
    let (offered, suggested) = (BTreeSet::new(), BTreeSet::new());
    let told = Told {
        offered: &offered,
        suggested: &suggested,
        is_fresh: true,
    };
    let mut actions = asks(&["s3", "s4", "s5"]);
    seen(table, |sight| sight.adjust(&mut actions, &told, usize::MAX));
    assert_eq!(actions.len(), want, "{actions:?}");
    let mut actions = asks(&["s3", "s4", "s5"]);
    let told = Told {
        is_fresh: false,
        ..told
    };
    seen(table, |sight| sight.adjust(&mut actions, &told, usize::MAX));
    assert_eq!(actions, [], "who holds what is not known");
}

#[test]
fn what_others_tell_is_done_as_far_as_there_is_room() {
    let offered = keys(&["s0", "s1", "s2", "s3"]).into_iter().collect();
    let suggested = keys(&["s4", "s5", "s6"]).into_iter().collect();
    let told = Told {
        offered: &offered,
        suggested: &suggested,
        is_fresh: false,
    };
    let done = |most: usize| {
        let mut actions = Vec::new();
        seen("a - - -! a a>b J me", |sight| {
            sight.adjust(&mut actions, &told, most);
        });
        actions
    };
    let takes = ["s1", "s2"].map(|key| Action::Take(key.into()));
    let ask = Action::Ask("s4".into());
    assert_eq!(done(9), [&takes[..], &[ask]].concat());
    assert_eq!(done(2), takes[..1]);
    assert_eq!(done(1), []);
}

#[test]
fn all_members_together_scan_as_often_as_few() {
    let seconds = Duration::from_secs;
    assert_eq!(member_interval(FAILOVER, 2), seconds(200));
    assert_eq!(member_interval(FAILOVER, 50), seconds(750));
    assert_eq!(member_interval(FAILOVER, 200), seconds(3000));
}

#[rstest]
#[case::the_only_one(&[], 3500)]
#[case::opposite(&[3500], 1750)]
#[case::in_the_longest_gap(&[500, 1000, 3000], 2000)]
#[case::over_the_end(&[1000, 1500, 2000], 3250)]
#[case::and_on(&[2000, 2500, 3000], 750)]
fn renewals_are_spread(#[case] others: &[u64], #[case] want: u64) {
    let millis = Duration::from_millis;
    let others: Vec<_> = others.iter().map(|due| millis(*due)).collect();
    assert_eq!(first_renewal(millis(3500), &others), millis(want));
}
