//! The database refuses what is not an edge of the state machine, whatever statement tries it.

use sluice_testkit::job;

use crate::fixture::{Fixture, success};

const COPY_RUNNING_TO_READY: &str =
    "INSERT INTO sluice.ready SELECT lane_id, priority, 0, clock_timestamp(), job_id,
    generation, lease_no, tries, crashes, refusals, hold_on_unknown, deadline FROM sluice.running";
const COPY_READY_TO_RUNNING: &str =
    "INSERT INTO sluice.running (job_id, lease_id, incarnation_id, lane_id, priority, generation,
    lease_no, tries, crashes, refusals, hold_on_unknown, deadline, leased_at)
    SELECT job_id, gen_random_uuid(), gen_random_uuid(),
    lane_id, priority, generation, lease_no + 1, tries, crashes, refusals, hold_on_unknown, deadline,
    clock_timestamp() FROM sluice.ready";
const COPY_READY_TO_HELD: &str =
    "INSERT INTO sluice.held SELECT job_id, lane_id, priority, generation, lease_no,
    tries, crashes, refusals, hold_on_unknown, deadline, 'poison', clock_timestamp() FROM sluice.ready";
const COPY_RUNNING_TO_DONE: &str = "INSERT INTO sluice.done (job_id, generation, state, lane_id, priority,
    finished_at, lease_no, tries, crashes) SELECT job_id, generation, 'succeeded', lane_id, priority,
    clock_timestamp(), lease_no, tries, crashes FROM sluice.running";
const REVIVE: &str =
    "INSERT INTO sluice.running (job_id, lease_id, incarnation_id, lane_id, priority, generation,
    lease_no, tries, crashes, refusals, hold_on_unknown, deadline, leased_at)
    SELECT job_id, gen_random_uuid(), gen_random_uuid(), 1, 3,
    generation, lease_no + 1, tries, crashes, 0, false, NULL, clock_timestamp() FROM sluice.done";
const END_TWICE: &str = "INSERT INTO sluice.done SELECT * FROM sluice.done";

async fn refused(f: &Fixture, statement: &'static str) {
    let error = sqlx::query(statement).execute(f.database.pool()).await.unwrap_err();
    let state = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned);
    assert!(matches!(state.as_deref(), Some("23514" | "23505")), "{statement}: {error}");
}

#[tokio::test]
async fn a_job_that_came_back_stands_nowhere_else() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.lease_hand_back_many(worker, &[(leased.job_id, leased.lease_id)]).await.unwrap();
    refused(&f, COPY_READY_TO_RUNNING).await;
    refused(&f, COPY_READY_TO_HELD).await;
}

#[tokio::test]
async fn a_running_job_stands_nowhere_else() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    f.lease_one(worker).await;
    refused(&f, COPY_RUNNING_TO_READY).await;
    refused(&f, COPY_RUNNING_TO_DONE).await;
}

#[tokio::test]
async fn an_ended_generation_never_lives_again_and_never_changes() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.settle_many(&[success(worker, &leased, b"{}")]).await.unwrap();
    refused(&f, REVIVE).await;
    refused(&f, END_TWICE).await;
    for table in ["jobs", "done", "ledger_begun", "ledger_ended"] {
        let column = match table {
            "jobs" => "tenant",
            "ledger_begun" => "begun_at",
            _ => "lease_no",
        };
        let statement = format!("UPDATE sluice.{table} SET {column} = {column}");
        let error = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(f.database.pool()).await;
        assert!(error.unwrap_err().to_string().contains("never changed"), "{table}");
    }
}
