//! The books of limits under whatever comes: at every commit no limit is exceeded, and nothing is lost for ever.

use std::{sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use sluice_domain::{Decision, DeclaredLimit, IncarnationId, LeasedJob, LimitKind, Outcome, Usage};
use sluice_testkit::job;

use crate::{
    fixture::{Fixture, success},
    limits::{lease_limited, limit, slots},
};

/// What is broken, in one look: a limit that is exceeded, slots that nobody holds, a sum that is not that of its slices.
const BROKEN: &str = "
    SELECT l.kind || ' ' || coalesce(s.used, 0) || ' of ' || l.cap || ', held ' || h.held || ', slices ' || w.amount
    FROM sluice.limits l
    LEFT JOIN LATERAL (
        SELECT * FROM sluice.limit_states s WHERE s.limit_id = l.id ORDER BY s.version DESC LIMIT 1) s ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.amount), 0) AS amount FROM sluice.limit_changes c WHERE c.limit_id = l.id) c
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(w.amount), 0) AS amount FROM sluice.limit_slices w WHERE w.limit_id = l.id) w
    CROSS JOIN LATERAL (
        SELECT count(*) AS held FROM (
            SELECT FROM sluice.running r WHERE l.id = ANY (r.limit_ids)
            UNION ALL SELECT FROM sluice.cancelled_leases c WHERE l.id = ANY (c.limit_ids)) h) h
    WHERE coalesce(s.used, 0) > l.cap
       OR (l.kind = 'concurrency' AND coalesce(s.used, 0) + c.amount <> h.held)
       OR (l.kind <> 'concurrency' AND coalesce(s.used, 0) <> w.amount)
       OR (SELECT count(*) FROM sluice.limit_states o WHERE o.limit_id = l.id) > 1";

async fn broken(f: &Fixture) -> Vec<String> {
    sqlx::query_scalar(BROKEN).fetch_all(f.database.pool()).await.unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Lease(u32),
    Settle { at: usize, end: End },
    Cancel(usize),
    Die,
    Pass(u32),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Answered,
    Unsent,
    Unknown,
    HandedBack,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let end = prop::sample::select(vec![End::Answered, End::Unsent, End::Unknown, End::HandedBack]);
    let act = prop_oneof![
        4 => (1_u32..8).prop_map(Act::Lease),
        6 => (any::<usize>(), end).prop_map(|(at, end)| Act::Settle { at, end }),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => Just(Act::Die),
        2 => (1_u32..70).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..40)
}

/// As if so many seconds had passed.
async fn pass(f: &Fixture, seconds: u32) {
    // All are gone before the first comes back: two that change places would meet.
    let slices = format!(
        "WITH gone AS (DELETE FROM sluice.limit_slices RETURNING *)
         INSERT INTO sluice.limit_slices (limit_id, at, amount)
         SELECT limit_id, at - interval '{seconds} s', amount FROM gone ORDER BY limit_id, at"
    );
    sqlx::query(sqlx::AssertSqlSafe(slices)).execute(f.database.pool()).await.unwrap();
    for (table, column) in [
        ("limit_states", "fallen_before"),
        ("running", "leased_at"),
        ("cancelled_leases", "begun_at"),
        ("limit_changes", "leased_at"),
    ] {
        let statement = format!("UPDATE sluice.{table} SET {column} = {column} - interval '{seconds} s'");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(f.database.pool()).await.unwrap();
    }
}

async fn end(f: &Fixture, worker: IncarnationId, leased: &LeasedJob, end: End) {
    let mut settlement = success(worker, leased, b"{}");
    settlement.decision = Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: false };
    settlement.answer = None;
    settlement.usage = None;
    match end {
        End::Answered => {
            settlement.outcome = Outcome::Retry;
            settlement.usage = Some(Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() });
        }
        End::Unsent => settlement.outcome = Outcome::NotSent,
        End::Unknown => settlement.outcome = Outcome::Unknown,
        End::HandedBack => {
            let key = [(leased.job_id, leased.lease_id)];
            f.store.lease_hand_back_many(worker, &key).await.unwrap();
            return;
        }
    }
    f.store.settle_many(&[settlement]).await.unwrap();
}

#[test]
fn no_sequence_of_leases_ends_cancels_and_deaths_exceeds_a_limit_or_loses_anything() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(16) });
    let caps = (1_u64..6, 1_u64..20, 300_u64..3_000);
    runner
        .run(&(caps, acts()), |((most_slots, most_requests, most_tokens), acts)| {
            runtime.block_on(async {
                let f = Fixture::new().await;
                let limits = [
                    slots(most_slots),
                    limit(LimitKind::Requests, 60, most_requests),
                    limit(LimitKind::Tokens, 60, most_tokens),
                ];
                play(&f, &limits, acts).await
            })
        })
        .unwrap();
}

async fn play(f: &Fixture, limits: &[DeclaredLimit], acts: Vec<Act>) -> Result<(), TestCaseError> {
    f.store.limits_declare(limits).await.unwrap();
    f.store.submit_many(&job().times(12)).await.unwrap();
    let mut worker = f.incarnation().await;
    let mut leased: Vec<LeasedJob> = Vec::new();
    for act in acts {
        match act {
            Act::Lease(most) => {
                leased.extend(lease_limited(f, worker, limits, most).await.jobs);
            }
            Act::Settle { at, end: how } if !leased.is_empty() => {
                let at = at % leased.len();
                end(f, worker, &leased.swap_remove(at), how).await;
            }
            Act::Cancel(at) if !leased.is_empty() => {
                f.store.job_cancel(&f.tenant, leased[at % leased.len()].job_id).await.unwrap();
            }
            Act::Die => {
                f.store.incarnation_end(worker).await.unwrap();
                worker = f.incarnation().await;
                leased.clear();
            }
            Act::Pass(seconds) => pass(f, seconds).await,
            Act::Settle { .. } | Act::Cancel(_) => {}
        }
        prop_assert_eq!(broken(f).await, Vec::<String>::new(), "after {:?}", act);
    }
    f.store.incarnation_end(worker).await.unwrap();
    pass(f, 62).await;
    for known in f.store.limits().await.unwrap() {
        prop_assert_eq!(known.used, 0, "{} is lost for ever", known.limit);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_workers_at_once_never_exceed_a_limit_nor_deadlock() {
    let f = Arc::new(Fixture::new().await);
    let limits =
        Arc::new([slots(7), limit(LimitKind::Requests, 60, 300), limit(LimitKind::Tokens, 60, 200_000)]);
    f.store.limits_declare(limits.as_slice()).await.unwrap();
    f.store.submit_many(&job().times(200)).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..6_usize {
        let (f, limits) = (Arc::clone(&f), Arc::clone(&limits));
        workers.spawn(async move {
            let worker = f.incarnation().await;
            let mut ended = 0;
            for round in 0..25 {
                let leased = lease_limited(&f, worker, limits.as_slice(), 3).await.jobs;
                for (at, job) in leased.iter().enumerate() {
                    let how = [End::Answered, End::Unsent, End::Unknown, End::HandedBack]
                        [(number + round + at) % 4];
                    end(&f, worker, job, how).await;
                    ended += 1;
                }
                assert_eq!(broken(&f).await, Vec::<String>::new());
            }
            ended
        });
    }
    let ended: usize = workers.join_all().await.into_iter().sum();
    assert!(ended > 0);
    assert!(
        f.store
            .limits()
            .await
            .unwrap()
            .iter()
            .filter(|known| known.limit.window_s == 0)
            .all(|known| known.used == 0)
    );
}
