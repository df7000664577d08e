//! The public functions, as a user calls them from psql.

use sluice_domain::JobState;
use sluice_testkit::job;
use sqlx::Row;
use uuid::Uuid;

use crate::fixture::{Fixture, success};

#[tokio::test]
async fn a_rollback_leaves_nothing_behind_and_a_commit_everything() {
    let f = Fixture::new().await;
    for (commits, left) in [(false, 0), (true, 1)] {
        let mut transaction = f.database.pool().begin().await.unwrap();
        sqlx::query("SELECT sluice.submit('{\"model\":\"m\"}', idempotency_key => 'k')")
            .execute(&mut *transaction)
            .await
            .unwrap();
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        for table in ["jobs", "ready", "idempotency_keys"] {
            assert_eq!(f.count(table).await, left, "{table}");
        }
    }
}

#[tokio::test]
async fn the_result_is_read_with_sluice_job() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id: Uuid =
        sqlx::query_scalar("SELECT sluice.submit('{\"model\":\"m\",  \"messages\":[]}', priority => 5)")
            .fetch_one(f.database.pool())
            .await
            .unwrap();
    let leased = f.lease_one(worker).await;
    assert_eq!(leased.body, b"{\"model\":\"m\",  \"messages\":[]}", "the json text, byte for byte");
    f.store.settle_many(&[success(worker, &leased, "{\"ok\":\"ja\u{e4}\"}".as_bytes())]).await.unwrap();
    let row = sqlx::query("SELECT state, result, attempts, cost_usd::text FROM sluice.job($1)")
        .bind(id)
        .fetch_one(f.database.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "succeeded");
    assert_eq!(row.get::<String, _>(1), "{\"ok\":\"ja\u{e4}\"}");
    assert_eq!(row.get::<i32, _>(2), 1);
    assert!(row.get::<String, _>(3).starts_with("0.000001234"));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_read_as_bytes() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.settle_many(&[success(worker, &leased, b"\0\xff")]).await.unwrap();
    let row = sqlx::query("SELECT result, result_bytes FROM sluice.job($1)")
        .bind(id.as_uuid())
        .fetch_one(f.database.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<Option<String>, _>(0), None);
    assert_eq!(row.get::<Vec<u8>, _>(1), b"\0\xff");
}

#[tokio::test]
async fn bad_input_is_refused_with_its_field_and_nothing_is_stored() {
    let f = Fixture::new().await;
    for (call, says) in [
        ("submit('[]')", "body: must be a JSON object"),
        ("submit(NULL)", "body: must be a JSON object"),
        ("submit('{}')", "body.model: must be a string"),
        ("submit('{\"model\":7}')", "body.model: must be a string"),
        ("submit('{\"model\":\"m\"}', priority => 6)", "priority: must be 1 to 5"),
        ("submit('{\"model\":\"m\"}', path => 'http://x')", "path: must start with /"),
        ("submit('{\"model\":\"m\"}', queue => 'a b')", "queue: must have"),
        ("submit('{\"model\":\"m\"}', queue => 'run:1')", "queue: must not begin with run:"),
        ("submit('{\"model\":\"m\"}', idempotency_key => '')", "idempotency_key: must have"),
        ("submit('{\"model\":\"m\"}', run_at => 'infinity')", "run_at: must be within"),
        ("submit('{\"model\":\"m\"}', run_at => '200000-01-01')", "run_at: must be within"),
        ("submit('{\"model\":\"m\"}', deadline => '2001-01-01')", "deadline: must be in the future"),
        ("submit('{\"model\":\"m\"}', max_attempts => 0)", "max_attempts: must be"),
        ("submit('{\"model\":\"m\"}', tags => '[]')", "tags: must be an object"),
        ("submit('{\"model\":\"m\"}', tags => '{\"a\":1}')", "tags: the value of 'a'"),
        ("submit('{\"model\":\"m\"}', on_unknown => 'x')", "on_unknown: must be"),
        ("submit_many('{}')", "jobs: must be a JSON array"),
        ("submit_many('[{\"body\":{\"model\":\"m\"}},{\"body\":[]}]')", "jobs[1]: body: must be"),
        ("submit_many('[{\"body\":{\"model\":\"m\"},\"prio\":1}]')", "jobs[0]: prio: is no field"),
        ("submit_many('[{\"body\":{\"model\":\"m\"},\"priority\":\"x\"}]')", "jobs[0]: invalid input"),
        ("replay_failed('{\"qeue\":\"x\"}')", "'qeue' is no field"),
        ("cancel('00000000-0000-0000-0000-000000000000')", "there is no job"),
        ("replay('00000000-0000-0000-0000-000000000000')", "there is no job"),
    ] {
        let statement = format!("SELECT sluice.{call}");
        let error = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(f.database.pool()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{call}: {error}");
    }
    assert_eq!((f.count("jobs").await, f.count("idempotency_keys").await), (0, 0));
}

#[tokio::test]
async fn many_are_submitted_in_order_and_the_failed_replayed() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT sluice.submit_many('[{\"body\":{\"model\":\"a\"},\"priority\":5},
            {\"body\":{\"model\":\"b\"},\"idempotency_key\":\"k\",\"tags\":{\"t\":\"1\"}},
            {\"body\":{\"model\":\"b\"},\"idempotency_key\":\"k\"}]')",
    )
    .fetch_all(f.database.pool())
    .await
    .unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[1], ids[2], "the same key and content are one job");
    for leased in f.lease(worker, 2).await {
        let mut failed = success(worker, &leased, b"{}");
        failed.outcome = sluice_domain::Outcome::Failed;
        failed.error = Some((sluice_domain::ErrorClass::InvalidRequest, "400".to_owned()));
        failed.decision = sluice_domain::Decision::Fail { is_retryable: false };
        f.store.settle_many(&[failed]).await.unwrap();
    }
    let replayed: i64 = sqlx::query_scalar("SELECT sluice.replay_failed('{\"tags\":{\"t\":\"1\"}}')")
        .fetch_one(f.database.pool())
        .await
        .unwrap();
    assert_eq!(replayed, 1);
    assert_eq!(f.state(sluice_domain::JobId::from_uuid(ids[1])).await, JobState::Queued);
    assert_eq!(f.state(sluice_domain::JobId::from_uuid(ids[0])).await, JobState::Failed);
}

#[tokio::test]
async fn a_filter_takes_dates_that_no_id_can_hold() {
    let f = Fixture::new().await;
    f.submit(&job().build()).await;
    for (after, before) in
        [("1960-01-01", "infinity"), ("-infinity", "20000-01-01"), ("0044-03-15 BC", "9999-12-31")]
    {
        let found: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sluice.matching_jobs('default', NULL, NULL, NULL, NULL, NULL, $1::text::timestamptz,
                 $2::text::timestamptz, NULL, 10)",
        )
        .bind(after)
        .bind(before)
        .fetch_one(f.database.pool())
        .await
        .unwrap();
        assert_eq!(found, 1, "{after} to {before}");
    }
}

/// The channels that were notified within a transaction that is committed.
async fn rung(f: &Fixture, statement: &'static str, id: Uuid) -> Vec<String> {
    let mut listener = sqlx::postgres::PgListener::connect_with(f.database.pool()).await.unwrap();
    listener.listen_all(["sluice_cancelled", "sluice_ended", "test_over"]).await.unwrap();
    sqlx::query(statement).bind(id).execute(f.database.pool()).await.unwrap();
    sqlx::query("SELECT pg_notify('test_over', '')").execute(f.database.pool()).await.unwrap();
    let mut channels = Vec::new();
    loop {
        match listener.recv().await.unwrap().channel() {
            "test_over" => break,
            channel => channels.push(channel.to_owned()),
        }
    }
    channels.sort();
    channels
}

#[tokio::test]
async fn a_cancel_rings_for_the_worker_and_for_whoever_waits() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let running = f.submit(&job().build()).await;
    f.lease_one(worker).await;
    let queued = f.submit(&job().build()).await;
    let cancel = "SELECT sluice.cancel($1)";
    assert_eq!(rung(&f, cancel, running.as_uuid()).await, ["sluice_cancelled", "sluice_ended"]);
    assert_eq!(rung(&f, cancel, queued.as_uuid()).await, ["sluice_ended"]);
    assert_eq!(rung(&f, cancel, queued.as_uuid()).await, [""; 0], "it was cancelled before");
    let many = "SELECT sluice.cancel(id) FROM sluice.submit_many(
                    '[{\"body\":{\"model\":\"m\"}},{\"body\":{\"model\":\"m\"}}]') AS id WHERE $1 IS NOT NULL";
    assert_eq!(rung(&f, many, queued.as_uuid()).await, ["sluice_ended"], "one ring for all of a transaction");
}

#[tokio::test]
async fn a_cancel_that_finds_the_job_nowhere_is_an_error_and_no_word() {
    let f = Fixture::new().await;
    let id = f.submit(&job().build()).await;
    // As if it moved each time.
    sqlx::query("DELETE FROM sluice.ready").execute(f.database.pool()).await.unwrap();
    let error = sqlx::query("SELECT sluice.cancel($1)")
        .bind(id.as_uuid())
        .execute(f.database.pool())
        .await
        .unwrap_err();
    assert_eq!(
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(),
        Some("40001"),
        "{error}"
    );
}

#[tokio::test]
async fn a_body_is_nested_as_deeply_as_over_rest_and_no_deeper() {
    let f = Fixture::new().await;
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(
            "{{\"model\":\"m\",\"x\":\"]\\\\\\\"[[[{{\",\"y\":[{{}},[1.5e-3,true,null]],\"a\":{open}{close}}}"
        )
    };
    for (levels, is_accepted) in [(2, true), (127, true), (128, false), (5_000, false)] {
        let submitted = sqlx::query("SELECT sluice.submit($1::text::json)")
            .bind(nested(levels))
            .execute(f.database.pool())
            .await;
        assert_eq!(submitted.is_ok(), is_accepted, "{levels}: {submitted:?}");
        if let Err(error) = submitted {
            let text = error.to_string();
            assert!(text.contains("body: is nested deeper than 127 levels"), "{text}");
        }
    }
    // Many brackets side by side, and many in a string, are not deep.
    for body in [
        format!("{{\"model\":\"m\",\"a\":[{}[]]}}", "[{}],".repeat(50_000)),
        format!("{{\"model\":\"m\",\"a\":\"{}\"}}", "[\\\"{\\\\".repeat(50_000)),
    ] {
        sqlx::query("SELECT sluice.submit($1::text::json)")
            .bind(body)
            .execute(f.database.pool())
            .await
            .unwrap();
    }
}
