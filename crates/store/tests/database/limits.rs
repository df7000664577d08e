//! Limits: taken with the lease, given back with the attempt's end, by whatever hand.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_domain::{
    Decision, DeclaredLimit, ErrorClass, IncarnationId, JobState, LeasedJob, LimitId, LimitKind,
    LimitSubject, ModelName, NewJob, Outcome, QueueName, Settlement, TenantName, Usage,
};
use sluice_store::{LimitedGrant, LimitedLease};
use sluice_testkit::job;

use crate::fixture::{Fixture, grant, success};

pub fn limit(kind: LimitKind, window_s: u32, cap: u64) -> DeclaredLimit {
    let model = Some(ModelName::from_stored("deepseek-flash".to_owned()));
    DeclaredLimit {
        subject: LimitSubject::Account { account: "main".to_owned(), model },
        kind,
        window_s,
        cap,
        floor: None,
    }
}

pub fn slots(cap: u64) -> DeclaredLimit {
    limit(LimitKind::Concurrency, 0, cap)
}

fn requests(cap: u64) -> DeclaredLimit {
    limit(LimitKind::Requests, 60, cap)
}

fn tokens(cap: u64) -> DeclaredLimit {
    limit(LimitKind::Tokens, 60, cap)
}

fn asking_for(max_tokens: u64) -> NewJob {
    job().body(&json!({"model": "deepseek-flash", "max_tokens": max_tokens, "messages": []})).build()
}

pub async fn lease_limited(
    f: &Fixture,
    worker: IncarnationId,
    limits: &[DeclaredLimit],
    most: u32,
) -> LimitedLease {
    let limits = ids(limits);
    let board = f.store.board(None, None).await.unwrap();
    let open = board.iter().filter(|entry| entry.age.is_some());
    let grants: Vec<_> =
        open.map(|entry| LimitedGrant { grant: grant(entry, most), limits: Arc::clone(&limits) }).collect();
    f.store.lease_limited_many(worker, &grants, most).await.unwrap()
}

/// As grants name them.
fn ids(limits: &[DeclaredLimit]) -> Arc<[LimitId]> {
    let mut ids: Vec<LimitId> = limits.iter().map(DeclaredLimit::id).collect();
    ids.sort_unstable();
    ids.into()
}

/// What the books say of a limit now.
async fn used(f: &Fixture, limit: &DeclaredLimit) -> i64 {
    let listed = f.store.limits().await.unwrap();
    listed.iter().find(|known| known.id == limit.id()).expect("the limit").used
}

/// What ends an attempt of which the provider answered nothing about usage.
fn refused(worker: IncarnationId, leased: &LeasedJob, outcome: Outcome) -> Settlement {
    Settlement {
        outcome,
        decision: Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: true },
        error: Some((ErrorClass::RateLimited, "429".to_owned())),
        answer: None,
        usage: None,
        ..success(worker, leased, b"")
    }
}

/// Lets all that was taken of windows look older.
async fn age_windows(f: &Fixture, by: &str) {
    for (table, column) in [
        ("limit_slices", "at"),
        ("limit_states", "fallen_before"),
        ("running", "leased_at"),
        ("limit_changes", "leased_at"),
    ] {
        let statement = format!("UPDATE sluice.{table} SET {column} = {column} - interval '{by}'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(f.database.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn slots_are_taken_with_the_lease_and_come_back_with_the_end() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(3)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(9)).await.unwrap();
    let first = lease_limited(&f, worker, &limits, 9).await;
    assert_eq!(first.jobs.len(), 3);
    assert_eq!(
        first.no_room.iter().map(|word| (word.limit, word.room_in)).collect::<Vec<_>>(),
        [(limits[0].id(), None)]
    );
    assert!(lease_limited(&f, worker, &limits, 9).await.jobs.is_empty());
    f.store.settle_many(&[success(worker, &first.jobs[0], b"{}")]).await.unwrap();
    assert_eq!(used(&f, &limits[0]).await, 2);
    let handed = [(first.jobs[1].job_id, first.jobs[1].lease_id)];
    f.store.lease_hand_back_many(worker, &handed).await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 9).await.jobs.len(), 2);
    f.store.incarnation_end(worker).await.unwrap();
    assert_eq!(used(&f, &limits[0]).await, 0, "slots of the dead are free again");
}

#[tokio::test]
async fn a_cancelled_lease_keeps_its_slot_until_its_worker_lets_go() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(1), requests(10), tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    let id = f.submit(&asking_for(100)).await;
    let leased = lease_limited(&f, worker, &limits, 1).await.jobs.remove(0);
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    assert_eq!((used(&f, &limits[0]).await, used(&f, &limits[1]).await), (1, 1));
    let mut let_go = refused(worker, &leased, Outcome::Cancelled);
    let_go.call = None;
    f.store.settle_many(&[let_go]).await.unwrap();
    let left = [used(&f, &limits[0]).await, used(&f, &limits[1]).await, used(&f, &limits[2]).await];
    assert_eq!(left, [0, 0, 0], "nothing was sent");
}

#[tokio::test]
async fn who_may_have_sent_gives_back_the_slot_alone() {
    let f = Fixture::new().await;
    let limits = [slots(9), requests(9), tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    let all = async || [used(&f, &limits[0]).await, used(&f, &limits[1]).await, used(&f, &limits[2]).await];
    // A worker dies with one lease that runs and one that was cancelled.
    let dead = f.incarnation().await;
    f.submit(&asking_for(100)).await;
    f.submit(&asking_for(100)).await;
    let leased = lease_limited(&f, dead, &limits, 2).await.jobs;
    f.store.job_cancel(&f.tenant, leased[0].job_id).await.unwrap();
    let [slots, requests, reserved] = all().await;
    assert_eq!((slots, requests), (2, 2));
    f.store.incarnation_end(dead).await.unwrap();
    assert_eq!(all().await, [0, 2, reserved]);
    // One lets go of a cancelled lease whose call was made.
    let worker = f.incarnation().await;
    let leased = lease_limited(&f, worker, &limits, 1).await.jobs.remove(0);
    f.store.job_cancel(&f.tenant, leased.job_id).await.unwrap();
    f.store.settle_many(&[refused(worker, &leased, Outcome::Cancelled)]).await.unwrap();
    assert_eq!(all().await, [0, 3, reserved + reserved / 2]);
}

#[tokio::test]
async fn an_answer_that_counts_no_tokens_says_nothing_about_their_size() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    f.submit(&asking_for(100)).await;
    let leased = lease_limited(&f, worker, &limits, 1).await.jobs.remove(0);
    let mut settlement = success(worker, &leased, b"{}");
    settlement.usage = Some(Usage::default());
    f.store.settle_many(&[settlement]).await.unwrap();
    let learnt: Vec<(Option<i64>, Option<i64>)> =
        sqlx::query_as("SELECT body_bytes::bigint, input_tokens::bigint FROM sluice.limit_changes")
            .fetch_all(f.database.pool())
            .await
            .unwrap();
    assert_eq!(learnt, [(None, None)]);
}

#[tokio::test]
async fn requests_fall_out_of_the_window_and_come_back_only_where_nothing_was_sent() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [requests(5)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(20)).await.unwrap();
    let first = lease_limited(&f, worker, &limits, 20).await;
    assert_eq!(first.jobs.len(), 5);
    let room_in = first.no_room[0].room_in.unwrap();
    assert!((Duration::from_secs(59)..Duration::from_secs(62)).contains(&room_in), "{room_in:?}");
    let [answered, unsent, lost, ..] = first.jobs.as_slice() else { panic!("five jobs") };
    let settlements = [
        success(worker, answered, b"{}"),
        refused(worker, unsent, Outcome::NotSent),
        refused(worker, lost, Outcome::Unknown),
    ];
    f.store.settle_many(&settlements).await.unwrap();
    assert_eq!(used(&f, &limits[0]).await, 4);
    assert_eq!(lease_limited(&f, worker, &limits, 20).await.jobs.len(), 1);
    age_windows(&f, "30 s").await;
    assert!(lease_limited(&f, worker, &limits, 20).await.jobs.is_empty());
    age_windows(&f, "31 s").await;
    assert_eq!(used(&f, &limits[0]).await, 0);
    assert_eq!(lease_limited(&f, worker, &limits, 20).await.jobs.len(), 5);
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_settled_by_use() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store
        .submit_many(&std::iter::repeat_with(|| asking_for(400)).take(4).collect::<Vec<_>>())
        .await
        .unwrap();
    let first = lease_limited(&f, worker, &limits, 4).await;
    assert_eq!(first.jobs.len(), 2, "each is taken for a little more than 400");
    assert!((801..1_000).contains(&used(&f, &limits[0]).await));
    let mut used_less = success(worker, &first.jobs[0], b"{}");
    used_less.usage = Some(Usage { input_tokens: 10, output_tokens: 20, ..Usage::default() });
    f.store.settle_many(&[used_less, refused(worker, &first.jobs[1], Outcome::Unknown)]).await.unwrap();
    let left = used(&f, &limits[0]).await;
    assert!(
        (431..530).contains(&left),
        "30 that were used, and an estimate that nothing is known of: {left}"
    );
    assert_eq!(lease_limited(&f, worker, &limits, 4).await.jobs.len(), 1);
    age_windows(&f, "61 s").await;
    assert_eq!(used(&f, &limits[0]).await, 0);
}

#[tokio::test]
async fn a_job_larger_than_a_whole_limit_is_told_apart_and_holds_nothing() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(9), tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    let large = f.submit(&asking_for(1_001)).await;
    let small = f.submit(&asking_for(10)).await;
    let lease = lease_limited(&f, worker, &limits, 4).await;
    assert_eq!(lease.jobs.iter().map(|leased| leased.job_id).collect::<Vec<_>>(), [small]);
    let refused = &lease.too_large[0];
    assert_eq!((refused.job.job_id, refused.limit), (large, limits[1].id()));
    assert!(refused.needed > 1_001);
    assert_eq!(used(&f, &limits[0]).await, 1);
}

#[tokio::test]
async fn who_does_not_fit_yet_is_not_passed_by_smaller_ones() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    f.submit(&asking_for(600)).await;
    f.submit(&asking_for(900)).await;
    f.submit(&asking_for(1)).await;
    let lease = lease_limited(&f, worker, &limits, 4).await;
    assert_eq!(lease.jobs.len(), 1);
    assert_eq!(lease.no_room.len(), 1);
}

#[tokio::test]
async fn a_job_takes_of_all_its_limits_or_of_none() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(2), requests(50), tokens(100_000)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(9)).await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 9).await.jobs.len(), 2);
    assert!(lease_limited(&f, worker, &limits, 9).await.jobs.is_empty());
    assert_eq!((used(&f, &limits[0]).await, used(&f, &limits[1]).await), (2, 2));
}

#[tokio::test]
async fn nothing_is_leased_under_a_limit_that_nobody_declared() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(2)];
    f.submit(&job().build()).await;
    let lease = lease_limited(&f, worker, &limits, 9).await;
    assert_eq!((lease.jobs.len(), lease.unknown), (0, vec![limits[0].id()]));
}

#[tokio::test]
async fn what_is_declared_no_more_limits_nothing_and_stays_counted() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(1)];
    assert_eq!(f.store.configuration_apply_if_newest(0, "a", &limits, "test").await.unwrap(), Some(1));
    f.store.submit_many(&job().times(9)).await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 9).await.jobs.len(), 1);
    f.store.configuration_apply_if_newest(1, "b", &[], "test").await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 4).await.jobs.len(), 4);
    f.store.configuration_apply_if_newest(2, "c", &[slots(2)], "test").await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 4).await.jobs.len(), 1);
}

#[tokio::test]
async fn the_limit_of_a_queue_is_each_tenants_own_and_follows_the_configuration() {
    let f = Fixture::new().await;
    let of = |tenant: &str, cap| DeclaredLimit {
        subject: LimitSubject::Queue {
            tenant: TenantName::new(tenant).unwrap(),
            queue: QueueName::default(),
        },
        kind: LimitKind::Concurrency,
        window_s: 0,
        cap,
        floor: None,
    };
    f.store.configuration_apply_if_newest(0, "a", &[of("default", 5)], "test").await.unwrap();
    f.store.limits_ensure_if_newest(0, &[of("early", 5)]).await.unwrap();
    f.store.limits_ensure_if_newest(9, &[of("never", 5)]).await.unwrap();
    f.store.limits_ensure_if_newest(1, &[of("other", 5), of("default", 9)]).await.unwrap();
    f.store.configuration_apply_if_newest(1, "b", &[of("default", 7)], "test").await.unwrap();
    let listed = f.store.limits().await.unwrap();
    let caps: Vec<_> = listed.iter().map(|known| (known.limit.subject.tenant(), known.limit.cap)).collect();
    assert_eq!(caps, [("default", 7), ("other", 7)]);
}

#[tokio::test]
async fn what_was_called_and_cancelled_and_is_lost_gives_back_its_slot_alone() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(1), requests(10), tokens(1_000)];
    f.store.limits_declare(&limits).await.unwrap();
    let id = f.submit(&asking_for(100)).await;
    let leased = lease_limited(&f, worker, &limits, 1).await.jobs.remove(0);
    let tokens_taken = used(&f, &limits[2]).await;
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    assert_eq!(f.store.leases_lose(&[(id, leased.lease_id)]).await.unwrap(), 1);
    let left = [used(&f, &limits[0]).await, used(&f, &limits[1]).await, used(&f, &limits[2]).await];
    assert_eq!(left, [0, 1, tokens_taken], "the call may have been sent");
    assert_eq!(f.state(id).await, JobState::Cancelled);
    let attempts = f.store.attempts(&f.tenant, id).await.unwrap().unwrap();
    assert_eq!(attempts[0].outcome, Some(Outcome::Lost));
}

#[tokio::test]
async fn a_limit_that_somebody_holds_is_not_waited_for_for_long() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let limits = [slots(3)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(3)).await.unwrap();
    let mut holding = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM sluice.limits FOR UPDATE").execute(&mut *holding).await.unwrap();
    let grants = [LimitedGrant {
        grant: grant(&f.store.board(None, None).await.unwrap()[0], 3),
        limits: ids(&limits),
    }];
    let refused = f.store.lease_limited_many(worker, &grants, 3).await.expect_err("somebody holds the limit");
    assert_eq!(refused.sql_state().as_deref(), Some("55P03"), "{refused}");
    holding.rollback().await.unwrap();
    assert_eq!(lease_limited(&f, worker, &limits, 3).await.jobs.len(), 3);
}
