//! The weekly partitions: made in time, dropped only when nothing is left in them.

use std::time::Duration;

use sqlx::{Acquire, Row};

use crate::fixture::Fixture;

const WEEK: Duration = Duration::from_hours(7 * 24);

/// Makes the partitions of the week that began ten weeks ago, with one job that ended then; says the job's id.
async fn old_week(f: &Fixture) -> uuid::Uuid {
    let mut session = f.database.pool().acquire().await.unwrap();
    sqlx::query("SET timezone = 'UTC'").execute(&mut *session).await.unwrap();
    let row = sqlx::query(
        "SELECT sluice.uuid_floor(w), sluice.uuid_floor(w + interval '7 days'), to_char(w, 'YYYYMMDD')
         FROM (SELECT date_trunc('week', clock_timestamp()) - interval '70 days' AS w) t",
    )
    .fetch_one(&mut *session)
    .await
    .unwrap();
    let (from, to, name): (uuid::Uuid, uuid::Uuid, String) = (row.get(0), row.get(1), row.get(2));
    for parent in ["jobs", "done", "ledger_begun", "ledger_ended", "late_results"] {
        let statement = format!(
            "CREATE TABLE sluice.{parent}_{name} PARTITION OF sluice.{parent} FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *session).await.unwrap();
    }
    for statement in [
        "INSERT INTO sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, hold_on_unknown,
             tags, body) VALUES ($1, 'default', 'q', 'm', '/v1/x', 1, 3, clock_timestamp() - interval '69 days',
             false, '{}', '{}')",
        "INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries, crashes)
         VALUES ($1, 1, 'succeeded', 1, 3, clock_timestamp() - interval '69 days', 1, 1, 0)",
    ] {
        sqlx::query(statement).bind(from).execute(&mut *session).await.unwrap();
    }
    from
}

#[tokio::test]
async fn weeks_fit_together_whatever_the_time_zone_of_the_session() {
    let f = Fixture::new().await;
    let mut session = f.database.pool().acquire().await.unwrap();
    // More than a year holds both changes of the clocks.
    for zone in ["Europe/Berlin", "America/Santiago"] {
        let set = format!("SET timezone = '{zone}'");
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut *session).await.unwrap();
        sqlx::query("SELECT sluice.partitions_ensure(60)").execute(&mut *session).await.unwrap();
    }
    let weeks = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'sluice.done'::regclass";
    let count: i64 = sqlx::query_scalar(weeks).fetch_one(&mut *session).await.unwrap();
    assert_eq!(count, 61 + 1, "and the default partition");
    sqlx::query("SET timezone = 'UTC'").execute(&mut *session).await.unwrap();
}

#[tokio::test]
async fn a_submit_that_is_not_committed_does_not_keep_weeks_from_being_made() {
    let f = Fixture::new().await;
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"m\"}', idempotency_key => 'k')")
        .execute(&mut *holder)
        .await
        .unwrap();
    assert_eq!(f.store.partitions_ensure(3).await.unwrap(), 5);
    holder.rollback().await.unwrap();
}

#[tokio::test]
async fn an_old_week_is_dropped_whole() {
    let f = Fixture::new().await;
    old_week(&f).await;
    assert_eq!(f.store.partitions_drop(4 * WEEK, 52 * WEEK).await.unwrap(), 3);
    assert_eq!((f.count("jobs").await, f.count("done").await), (0, 0));
}

#[tokio::test]
async fn a_week_is_kept_for_a_replay_that_commits_while_the_drop_waits() {
    let f = Fixture::new().await;
    let id = old_week(&f).await;
    let mut session = f.database.pool().acquire().await.unwrap();
    let mut replay = session.begin().await.unwrap();
    sqlx::query("SELECT sluice.replay($1)").bind(id).execute(&mut *replay).await.unwrap();
    let store = f.store.clone();
    let drop = tokio::spawn(async move { store.partitions_drop(4 * WEEK, 52 * WEEK).await });
    f.somebody_waits_for_a_lock().await;
    replay.commit().await.unwrap();
    // It either sees the replay or gave up waiting.
    assert_eq!(drop.await.unwrap().unwrap_or(0), 0);
    assert_eq!((f.count("jobs").await, f.count("ready").await), (1, 1));
}
