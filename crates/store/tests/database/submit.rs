//! Submitting: keys, batches, races.

use std::collections::HashSet;

use chrono::TimeZone;
use sluice_domain::{Conflict, NewJob, OnUnknown, SubmitOutcome};
use sluice_store::{Bodies, Store, StoreOptions};
use sluice_testkit::job;
use sqlx::AssertSqlSafe;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_job_is_read_back_as_it_was_submitted() {
    let f = Fixture::new().await;
    let new = job().queue("q").priority(5).tag("k", "v").key("key").max_attempts(7).build();
    let id = f.submit(&new).await;
    let view = f.store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
    assert_eq!((view.queue, view.priority, view.tags), (new.queue, new.priority, new.tags));
    assert_eq!((view.idempotency_key, view.max_attempts), (new.idempotency_key, new.max_attempts));
    assert_eq!(f.store.job_request_body(&f.tenant, id).await.unwrap(), Some(new.body));
}

#[tokio::test]
async fn a_key_seen_before_answers_with_the_first_job_or_refuses_other_content() {
    let f = Fixture::new().await;
    let first = f.submit(&job().key("k").build()).await;
    let again = job().key("k").priority(5).tag("scheduling", "does not count").build();
    assert_eq!(f.store.submit(&again).await.unwrap(), SubmitOutcome::Existing(first));
    let other = job().key("k").body_bytes(r#"{"model":"deepseek-flash","messages":[]}"#).build();
    assert_eq!(f.store.submit(&other).await.unwrap(), SubmitOutcome::Conflict(Conflict::OtherContent(first)));
    assert_eq!(f.count("ready").await, 1);
}

#[tokio::test]
async fn keys_count_within_a_batch_too() {
    let f = Fixture::new().await;
    let one = job().key("k").build();
    let same = job().key("k").build();
    let other = job().key("k").body_bytes("{}").build();
    let plain = job().build();
    let outcomes = f.store.submit_many(&[one.clone(), same, other, plain.clone()]).await.unwrap();
    assert_eq!(
        outcomes,
        [
            SubmitOutcome::Created(one.id),
            SubmitOutcome::Existing(one.id),
            SubmitOutcome::Conflict(Conflict::OtherContent(one.id)),
            SubmitOutcome::Created(plain.id),
        ]
    );
}

#[tokio::test]
async fn sixty_four_submits_of_one_key_make_one_job() {
    let f = Fixture::new().await;
    let submits = (0..64).map(|_| {
        let store = f.store.clone();
        tokio::spawn(async move { store.submit(&job().key("race").build()).await.unwrap() })
    });
    let mut ids = HashSet::new();
    let mut created = 0;
    for submit in submits.collect::<Vec<_>>() {
        match submit.await.unwrap() {
            SubmitOutcome::Created(id) => {
                created += 1;
                ids.insert(id);
            }
            SubmitOutcome::Existing(id) => {
                ids.insert(id);
            }
            SubmitOutcome::Conflict(conflict) => panic!("{conflict:?}"),
        }
    }
    assert_eq!((created, ids.len(), f.count("jobs").await), (1, 1, 1));
}

#[tokio::test]
async fn an_uncommitted_key_refuses_its_own_submit_only() {
    let f = Fixture::new().await;
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"m\"}', idempotency_key => 'mine')")
        .execute(&mut *holder)
        .await
        .unwrap();
    let batch = [job().key("mine").build(), job().key("free").build(), job().build()];
    let outcomes = f.store.submit_many(&batch).await.unwrap();
    assert_eq!(
        outcomes,
        [
            SubmitOutcome::Conflict(Conflict::KeyInUse),
            SubmitOutcome::Created(batch[1].id),
            SubmitOutcome::Created(batch[2].id),
        ]
    );
    holder.rollback().await.unwrap();
    assert_eq!(f.store.submit(&batch[0]).await.unwrap(), SubmitOutcome::Created(batch[0].id));
}

#[tokio::test]
async fn a_long_transaction_in_a_new_lane_delays_nobody() {
    let f = Fixture::new().await;
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.submit('{\"model\":\"new\"}', queue => 'new')")
        .execute(&mut *holder)
        .await
        .unwrap();
    f.submit(&job().queue("new").model("new").build()).await;
    let worker = f.incarnation().await;
    assert_eq!(f.lease(worker, 10).await.len(), 1);
    holder.commit().await.unwrap();
    assert_eq!(f.lease(worker, 10).await.len(), 1);
}

#[tokio::test]
async fn many_keys_in_use_cost_one_wait() {
    let f = Fixture::new().await;
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query(
        "SELECT sluice.submit_many(json_agg(json_build_object('body', '{\"model\":\"m\"}'::json,
             'idempotency_key', 'k' || g))) FROM generate_series(1, 50) g",
    )
    .execute(&mut *holder)
    .await
    .unwrap();
    let batch: Vec<_> = (1..=51).map(|number| job().key(&format!("k{number}")).build()).collect();
    let submit = f.store.submit_many(&batch);
    let outcomes = tokio::time::timeout(std::time::Duration::from_secs(30), submit).await.unwrap().unwrap();
    assert_eq!(outcomes[..50], [SubmitOutcome::Conflict(Conflict::KeyInUse); 50]);
    assert_eq!(outcomes[50], SubmitOutcome::Created(batch[50].id));
    holder.rollback().await.unwrap();
}

/// What is stored of the jobs with one tag, but for ids and times of the submit.
async fn stored(f: &Fixture, way: &str) -> Vec<String> {
    let statement =
        "SELECT (to_jsonb(j) - 'id' - 'created_at' - 'tags')::text || (to_jsonb(r) - 'job_id' - 'key')::text
                || (j.tags - 'way')::text || (r.key = j.created_at)::text
                || CASE WHEN r.line = 0 THEN r.key::text ELSE '' END
         FROM sluice.jobs j JOIN sluice.ready r ON r.job_id = j.id
         WHERE j.tags ->> 'way' = $1 ORDER BY (j.tags ->> 'n')::integer";
    sqlx::query_scalar(statement).bind(way).fetch_all(f.database.pool()).await.unwrap()
}

#[tokio::test]
async fn many_jobs_are_stored_as_each_of_them_alone() {
    let f = Fixture::new().await;
    let now = chrono::Utc.with_ymd_and_hms(2020, 1, 1, 0, 0, 0).unwrap();
    let later = chrono::Utc.with_ymd_and_hms(2199, 1, 1, 0, 0, 0).unwrap();
    let jobs = |way: &str| -> Vec<NewJob> {
        (0..120)
            .map(|n| {
                let mut new = job().tag("way", way).tag("n", &n.to_string()).queue(&format!("q{}", n % 3));
                new = new.priority(n % 5 + 1).model(&format!("m{}", n % 2)).tag("quote", "\"\\ \u{e9}");
                if n % 7 == 0 {
                    new = new.run_at(if n % 2 == 0 { later } else { now }).deadline(later);
                }
                if n % 11 == 0 {
                    new = new.max_attempts(9).on_unknown(OnUnknown::Hold);
                }
                let mut new = new.build();
                new.traceparent =
                    (n % 13 == 0).then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
                new
            })
            .collect()
    };
    for new in jobs("alone") {
        f.submit(&new).await;
    }
    let many = jobs("together");
    let outcomes = f.store.submit_many(&many).await.unwrap();
    let created: Vec<_> = many.iter().map(|new| SubmitOutcome::Created(new.id)).collect();
    assert_eq!(outcomes, created);
    let (alone, together) = (stored(&f, "alone").await, stored(&f, "together").await);
    assert_eq!((alone.len(), &alone), (120, &together));
}

#[tokio::test]
async fn a_database_that_only_reads_is_away_for_whoever_writes() {
    let f = Fixture::new().await;
    let switch = format!("ALTER DATABASE {} SET default_transaction_read_only = on", f.database.name());
    sqlx::query(AssertSqlSafe(switch)).execute(f.database.pool()).await.unwrap();
    let store = Store::connect(&StoreOptions::new(f.database.url())).await.unwrap();
    let error = store.submit(&job().build()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert!(store.database_now().await.is_ok());
}
