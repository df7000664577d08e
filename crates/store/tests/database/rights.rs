//! What the role `sluice_submitter` may, and attacks on the functions that run with their owner's rights.

use sqlx::{Connection, PgConnection, Row};

use crate::fixture::Fixture;

/// A session that has the submitter's rights and nothing else.
async fn submitter(f: &Fixture) -> PgConnection {
    let mut session = PgConnection::connect_with(&f.database.connect_options()).await.unwrap();
    sqlx::query("SET SESSION AUTHORIZATION sluice_submitter").execute(&mut session).await.unwrap();
    session
}

async fn denied(session: &mut PgConnection, statement: &str) {
    let error =
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(session).await.expect_err(statement);
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned);
    assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
}

#[tokio::test]
async fn the_submitter_uses_the_public_functions_and_nothing_else() {
    let f = Fixture::new().await;
    let mut session = submitter(&f).await;
    let id: uuid::Uuid = sqlx::query_scalar("SELECT sluice.submit('{\"model\":\"m\"}')")
        .fetch_one(&mut session)
        .await
        .unwrap();
    for call in [
        format!("SELECT * FROM sluice.job('{id}')"),
        "SELECT sluice.submit_many('[{\"body\":{\"model\":\"m\"}}]')".to_owned(),
        format!("SELECT sluice.cancel('{id}')"),
        format!("SELECT sluice.replay('{id}')"),
        "SELECT sluice.replay_failed('{}')".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(call.clone())).execute(&mut session).await.expect(&call);
    }
    for table in [
        "jobs",
        "ready",
        "running",
        "held",
        "done",
        "ledger_begun",
        "ledger_ended",
        "late_results",
        "incarnations",
        "queues",
        "lanes",
        "configurations",
        "idempotency_keys",
        "cancelled_leases",
        "pauses",
        "limits",
        "limit_states",
        "limit_slices",
        "limit_changes",
        "cooldowns",
        "left_calls",
        "stream_waits",
        "stream_events",
        "files",
        "file_chunks",
        "batches",
        "batch_lines",
    ] {
        denied(&mut session, &format!("SELECT FROM sluice.{table}")).await;
        denied(&mut session, &format!("DELETE FROM sluice.{table}")).await;
    }
    for view in ["attempts_begun", "attempts_ended", "queued"] {
        denied(&mut session, &format!("SELECT FROM sluice.{view}")).await;
    }
    denied(&mut session, "SELECT sluice.lease(gen_random_uuid(), '{}', '{}', '{}', 1)").await;
    denied(&mut session, "SELECT sluice.cancel_job('other', gen_random_uuid())").await;
    denied(&mut session, "SELECT sluice.job_details(ARRAY[gen_random_uuid()], true)").await;
    denied(&mut session, "SELECT sluice.partitions_drop('0', '0')").await;
    denied(&mut session, "CREATE TABLE sluice.mine ()").await;
}

#[tokio::test]
async fn nobody_else_may_execute_anything() {
    let f = Fixture::new().await;
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'sluice'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')",
    )
    .fetch_all(f.database.pool())
    .await
    .unwrap();
    assert_eq!(open, Vec::<String>::new());
}

#[tokio::test]
async fn every_function_pins_a_search_path_that_ends_in_pg_temp_or_was_bound_when_it_was_made() {
    let f = Fixture::new().await;
    let rows = sqlx::query(
        "SELECT p.oid::regprocedure::text, coalesce(array_to_string(p.proconfig, ' | '), '') FROM pg_proc p
         WHERE p.pronamespace = 'sluice'::regnamespace AND p.prosqlbody IS NULL",
    )
    .fetch_all(f.database.pool())
    .await
    .unwrap();
    for row in rows {
        let (name, settings): (String, String) = (row.get(0), row.get(1));
        let pinned =
            settings.split(" | ").any(|s| s.starts_with("search_path=pg_catalog") && s.ends_with("pg_temp"));
        assert!(pinned, "{name}: {settings}");
    }
}

#[tokio::test]
async fn shadowed_names_change_nothing() {
    let f = Fixture::new().await;
    for statement in
        ["CREATE SCHEMA IF NOT EXISTS attacker", "GRANT ALL ON SCHEMA attacker TO sluice_submitter"]
    {
        sqlx::query(statement).execute(f.database.pool()).await.unwrap();
    }
    let mut session = submitter(&f).await;
    for statement in [
        "CREATE TEMPORARY TABLE jobs (id uuid)",
        "CREATE TEMPORARY TABLE ready (id uuid)",
        "CREATE TEMPORARY TABLE incarnations (id uuid, dead_at timestamptz, is_asleep boolean)",
        "CREATE FUNCTION attacker.json_typeof(json) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$",
        "CREATE FUNCTION attacker.octet_length(text) RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$",
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$",
        "SET search_path = attacker, pg_temp, pg_catalog",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut session).await.expect(statement);
    }
    let id: uuid::Uuid = sqlx::query_scalar("SELECT sluice.submit('{\"model\":\"m\"}')")
        .fetch_one(&mut session)
        .await
        .unwrap();
    let state: String = sqlx::query_scalar("SELECT state FROM sluice.job($1)")
        .bind(id)
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!((state.as_str(), f.count("jobs").await, f.count("ready").await), ("queued", 1, 1));
}
