//! What must not stop the reaper, and what must not make it hasty.

use std::time::Duration;

use chrono::TimeDelta;
use sluice_domain::{IncarnationId, JobState, Outcome};
use sluice_store::{BeatReply, ReapRequest, Reaped, Store, StoreOptions, WorkerLoad};
use sluice_testkit::job;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::fixture::Fixture;

const TTL: Duration = Duration::from_secs(15);

/// Two scans, of which the second knows what to expect; what both did.
async fn reap(f: &Fixture) -> Reaped {
    let seen = f.store.reap(ReapRequest { ttl: TTL, expected: None }).await.unwrap();
    assert_eq!(seen.marked, 0);
    let expected = Some((seen.database_now, seen.postmaster_start));
    let reaped = f.store.reap(ReapRequest { ttl: TTL, expected }).await.unwrap();
    Reaped { leases: seen.leases + reaped.leases, ..reaped }
}

async fn run(f: &Fixture, statement: impl Into<String>) {
    let statement: String = statement.into();
    sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(f.database.pool()).await.expect(&statement);
}

/// A transaction of somebody else that holds what the statement locks.
async fn holding<'a>(f: &'a Fixture, statement: &'static str) -> Transaction<'a, Postgres> {
    let mut transaction = f.database.pool().begin().await.unwrap();
    let held = sqlx::query(statement).fetch_all(&mut *transaction).await.unwrap();
    assert!(!held.is_empty(), "{statement}");
    transaction
}

/// A worker with so many leases that has not beaten for a minute.
async fn silent_worker(f: &Fixture, leases: usize) -> IncarnationId {
    let worker = f.incarnation().await;
    for jobs in job().times(leases).chunks(500) {
        f.store.submit_many(jobs).await.unwrap();
        assert_eq!(f.lease(worker, 500).await.len(), jobs.len());
    }
    f.stop_beating(worker).await;
    worker
}

#[tokio::test]
async fn a_beat_that_holds_its_row_is_waited_for_by_nobody_and_counts() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 1).await;
    let beat = "UPDATE sluice.incarnations SET beat_at = clock_timestamp() RETURNING id";
    let beating = holding(&f, beat).await;
    assert_eq!(reap(&f).await.marked, 0, "the beat holds its row");
    beating.commit().await.unwrap();
    assert_eq!(reap(&f).await.marked, 0, "it has beaten");
    f.stop_beating(worker).await;
    holding(&f, beat).await.rollback().await.unwrap();
    let reaped = reap(&f).await;
    assert_eq!((reaped.marked, reaped.leases), (1, 1), "it has not");
}

#[tokio::test]
async fn all_pages_of_leases_and_of_workers_are_moved() {
    let f = Fixture::new().await;
    silent_worker(&f, 1_200).await;
    silent_worker(&f, 1_200).await;
    run(
        &f,
        "INSERT INTO sluice.incarnations (id, worker, host, pid, version, started_at, beat_at)
         SELECT gen_random_uuid(), 'w', 'h', 1, '0', now(), now() - interval '1 minute'
         FROM generate_series(1, 1500)",
    )
    .await;
    let mut pages = Vec::new();
    while f.count("running").await > 0 || !f.store.workers().await.unwrap().is_empty() {
        let reaped = reap(&f).await;
        pages.push(reaped);
        assert!(reaped.marked > 0 || reaped.leases > 0, "{pages:?}");
    }
    let sum = |of: fn(&Reaped) -> u32| pages.iter().map(of).sum::<u32>();
    assert_eq!((sum(|page| page.marked), sum(|page| page.leases)), (1_502, 2_400));
    assert!(pages.iter().all(|page| page.marked <= 1_000), "a thousand at most: {pages:?}");
    assert_eq!(f.count("ready").await, 2_400);
}

#[tokio::test]
async fn the_silent_alone_are_dead() {
    let f = Fixture::new().await;
    let beating = f.incarnation().await;
    let kept = f.submit(&job().build()).await;
    assert_eq!(f.lease(beating, 1).await.len(), 1);
    silent_worker(&f, 2).await;
    let reaped = reap(&f).await;
    assert_eq!((reaped.marked, reaped.leases), (1, 2));
    assert_eq!(f.state(kept).await, JobState::Running);
    let mut beats = f.store.beat_connection().await.unwrap();
    let alive = beats.beat(beating, WorkerLoad::default()).await.unwrap();
    assert!(matches!(alive, BeatReply::Alive { .. }), "{alive:?}");
}

#[tokio::test]
async fn a_page_of_leases_is_as_long_as_it_may_be() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 6).await;
    let leases = f.store.leases_older_than(worker, Duration::ZERO).await.unwrap();
    for (id, _) in &leases[..3] {
        f.store.job_cancel(&f.tenant, *id).await.unwrap();
    }
    run(&f, format!("SELECT sluice.expire_leases('{}', 2)", worker.as_uuid())).await;
    assert_eq!((f.count("running").await, f.count("cancelled_leases").await), (1, 1));
}

#[tokio::test]
async fn a_locked_lease_keeps_only_itself() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 5).await;
    let cancelled = f.store.leases_older_than(worker, Duration::ZERO).await.unwrap()[..2].to_vec();
    for (id, _) in &cancelled {
        f.store.job_cancel(&f.tenant, *id).await.unwrap();
    }
    let lease = "SELECT FROM sluice.running ORDER BY job_id LIMIT 1 FOR UPDATE";
    let slot = "SELECT FROM sluice.cancelled_leases ORDER BY lease_id LIMIT 1 FOR UPDATE";
    let (lease, slot) = (holding(&f, lease).await, holding(&f, slot).await);
    assert_eq!(reap(&f).await.leases, 2);
    assert_eq!((f.count("running").await, f.count("cancelled_leases").await), (1, 1));
    lease.rollback().await.unwrap();
    slot.rollback().await.unwrap();
    assert_eq!(reap(&f).await.leases, 1);
    assert_eq!((f.count("running").await, f.count("cancelled_leases").await), (0, 0));
}

#[tokio::test]
async fn a_row_that_can_not_be_moved_keeps_only_itself() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 1_100).await;
    // Such a row can't come to be, and if it does, the others must not pay for it: it is early in the first page.
    run(
        &f,
        "ALTER TABLE sluice.done DISABLE TRIGGER job_stands_in_one_place;
         INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries, crashes)
         SELECT r.job_id, r.generation, 'succeeded', r.lane_id, r.priority, now(), r.lease_no, 0, 0
         FROM sluice.running r ORDER BY r.job_id OFFSET 3 LIMIT 1;
         ALTER TABLE sluice.done ENABLE TRIGGER job_stands_in_one_place",
    )
    .await;
    assert_eq!(reap(&f).await.leases, 1_000);
    assert_eq!(reap(&f).await.leases, 99);
    assert_eq!(reap(&f).await.leases, 0);
    assert_eq!((f.count("running").await, f.count("ready").await), (1, 1_099));
    let health = f.store.lease_health(TTL).await.unwrap();
    assert_eq!(health.overdue, 1, "it is seen: {health:?}");
    assert!(health.overdue_age >= Duration::from_secs(44), "{health:?}");
    // Nor does it keep the worker's own end from ending.
    assert_eq!(f.store.incarnation_end(worker).await.unwrap(), 0);
}

#[tokio::test]
async fn leases_are_moved_without_a_look_at_jobs_or_lanes() {
    let f = Fixture::new().await;
    silent_worker(&f, 3).await;
    run(&f, "DELETE FROM sluice.jobs; DELETE FROM sluice.lanes").await;
    assert_eq!(reap(&f).await.leases, 3);
    assert_eq!(f.count("ready").await, 3);
}

#[tokio::test]
async fn two_reapers_at_once_move_each_lease_once() {
    let f = Fixture::new().await;
    let ids: Vec<_> = {
        let worker = silent_worker(&f, 300).await;
        f.store.leases_older_than(worker, Duration::ZERO).await.unwrap()
    };
    let (one, other, third) = tokio::join!(reap(&f), reap(&f), reap(&f));
    let moved = one.leases + other.leases + third.leases;
    // Whoever came second passed over what the first held.
    assert_eq!(moved + reap(&f).await.leases, 300);
    assert_eq!((f.count("running").await, f.count("ready").await), (0, 300));
    assert_eq!(f.count("ledger_ended").await, 300);
    let attempts = f.store.attempts(&f.tenant, ids[0].0).await.unwrap().unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.outcome).collect::<Vec<_>>(), [Some(Outcome::Lost)]);
}

#[tokio::test]
async fn a_worker_that_died_before_the_clock_was_set_back_is_found() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 1).await;
    let beat = f.store.database_now().await.unwrap() + TimeDelta::hours(1);
    sqlx::query("UPDATE sluice.incarnations SET beat_at = $1")
        .bind(beat)
        .execute(f.database.pool())
        .await
        .unwrap();
    let health = f.store.lease_health(TTL).await.unwrap();
    assert_eq!((health.fresh, health.late, health.silent), (0, 0, 1));
    let reaped = reap(&f).await;
    assert_eq!((reaped.marked, reaped.leases), (1, 1));
    let mut beats = f.store.beat_connection().await.unwrap();
    assert_eq!(beats.beat(worker, WorkerLoad::default()).await.unwrap(), BeatReply::Dead);
}

#[tokio::test]
async fn a_beat_that_lies_a_little_ahead_is_fresh() {
    let f = Fixture::new().await;
    silent_worker(&f, 1).await;
    run(&f, "UPDATE sluice.incarnations SET beat_at = clock_timestamp() + interval '5 s'").await;
    assert_eq!(reap(&f).await.marked, 0);
    assert_eq!(f.store.lease_health(TTL).await.unwrap().fresh, 1);
}

#[tokio::test]
async fn leases_of_a_worker_without_a_row_end_too() {
    let f = Fixture::new().await;
    silent_worker(&f, 3).await;
    let any = sluice_domain::JobFilter::default();
    let cancelled = f.store.job_ids_matching(&f.tenant, &any, None, 1).await.unwrap()[0];
    f.store.job_cancel(&f.tenant, cancelled).await.unwrap();
    let alive = f.incarnation().await;
    let kept = f.submit(&job().build()).await;
    f.lease_one(alive).await;
    sqlx::query("DELETE FROM sluice.incarnations WHERE id <> $1")
        .bind(alive.as_uuid())
        .execute(f.database.pool())
        .await
        .unwrap();
    assert_eq!(reap(&f).await.leases, 0);
    assert_eq!(f.store.orphans_expire().await.unwrap(), 2);
    assert_eq!((f.count("ready").await, f.count("cancelled_leases").await), (2, 0));
    assert_eq!(f.state(kept).await, JobState::Running);
}

#[tokio::test]
async fn a_known_dead_worker_whose_row_is_held_is_left_to_the_next_look() {
    let f = Fixture::new().await;
    let worker = silent_worker(&f, 2).await;
    let held = holding(&f, "SELECT FROM sluice.incarnations FOR UPDATE").await;
    assert_eq!(f.store.incarnation_end_if_unlocked(worker).await.unwrap(), None);
    assert_eq!(f.count("running").await, 2, "while a row is in running, a settle counts");
    held.rollback().await.unwrap();
    assert_eq!(f.store.incarnation_end_if_unlocked(worker).await.unwrap(), Some(2));
    assert_eq!(f.store.incarnation_end_if_unlocked(worker).await.unwrap(), None);
}

#[tokio::test]
async fn health_counts_beats_overdue_leases_and_held_jobs() {
    let f = Fixture::new().await;
    f.incarnation().await;
    let late = f.incarnation().await;
    sqlx::query("UPDATE sluice.incarnations SET beat_at = beat_at - interval '8 s' WHERE id = $1")
        .bind(late.as_uuid())
        .execute(f.database.pool())
        .await
        .unwrap();
    let holder = f.incarnation().await;
    f.submit(&job().on_unknown(sluice_domain::OnUnknown::Hold).build()).await;
    f.lease_one(holder).await;
    f.store.incarnation_end(holder).await.unwrap();
    silent_worker(&f, 4).await;
    let health = f.store.lease_health(TTL).await.unwrap();
    assert_eq!((health.fresh, health.late, health.silent, health.overdue), (1, 1, 1, 4));
    assert!((44..60).contains(&health.overdue_age.as_secs()), "{health:?}");
    assert_eq!(health.held, [(sluice_domain::HoldReason::UnknownOutcome, 1)]);
}

#[tokio::test]
async fn beats_that_came_while_a_scan_waited_for_its_table_lie_not_ahead() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let ttl = Duration::from_secs(1);
    let mut holder = f.database.pool().begin().await.unwrap();
    let seen = f.store.reap(ReapRequest { ttl, expected: None }).await.unwrap();
    sqlx::query("LOCK TABLE sluice.incarnations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let expected = Some((seen.database_now, seen.postmaster_start));
    let store = f.store.clone();
    let scan = tokio::spawn(async move { store.reap(ReapRequest { ttl, expected }).await.unwrap() });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sluice.reap%'";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *holder).await.unwrap() == 0 {
        sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut *holder).await.unwrap();
    }
    // Longer than half a TTL, after the scan has read its clock.
    sqlx::query("SELECT pg_sleep(0.8)").execute(&mut *holder).await.unwrap();
    let beat = "UPDATE sluice.incarnations SET beat_at = clock_timestamp() WHERE id = $1";
    sqlx::query(beat).bind(worker.as_uuid()).execute(&mut *holder).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(scan.await.unwrap().marked, 0);
}

#[tokio::test]
async fn a_server_that_only_reads_answers_no_scan() {
    let f = Fixture::new().await;
    f.incarnation().await;
    reap(&f).await;
    run(&f, format!("ALTER DATABASE {} SET default_transaction_read_only = on", f.database.name())).await;
    let store = Store::connect(&StoreOptions::new(f.database.url())).await.unwrap();
    // No beat can be written there. A scan that succeeds would be taken for a sign of health.
    let refused = store.reap(ReapRequest { ttl: TTL, expected: None }).await.expect_err("it writes nothing");
    assert_eq!(refused.sql_state().as_deref(), Some("25006"), "{refused}");
}
