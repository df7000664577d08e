//! Leasing: order, schedules, pauses, the dead.

use std::{collections::HashSet, time::Duration};

use sluice_domain::{IncarnationId, JobState, PairFloors, QueueName};
use sluice_store::{LimitedGrant, StoreError};
use sluice_testkit::{job, wait_until};
use sqlx::Acquire;

use crate::fixture::{Fixture, grant};

#[tokio::test]
async fn urgent_jobs_are_leased_first_then_the_older() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let mut ids = Vec::new();
    for priority in [1, 3, 5, 3] {
        ids.push(f.submit(&job().priority(priority).build()).await);
    }
    let order: Vec<_> = f.lease(worker, 4).await.into_iter().map(|leased| leased.job_id).collect();
    assert_eq!(order, [ids[2], ids[1], ids[3], ids[0]]);
}

#[tokio::test]
async fn two_leases_at_once_never_share_a_job() {
    let f = Fixture::new().await;
    f.store.submit_many(&job().times(200)).await.unwrap();
    let (one, two) = (f.incarnation().await, f.incarnation().await);
    let (first, second) = tokio::join!(f.lease(one, 150), f.lease(two, 150));
    let ids: HashSet<_> = first.iter().chain(&second).map(|leased| leased.job_id).collect();
    assert_eq!(ids.len(), first.len() + second.len());
    let leases: HashSet<_> = first.iter().chain(&second).map(|leased| leased.lease_id).collect();
    assert_eq!(leases.len(), ids.len());
    assert_eq!(f.count("attempts_begun").await, ids.len() as i64);
}

#[tokio::test]
async fn a_job_for_later_is_not_leased_and_the_board_says_when() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let now: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(f.database.pool()).await.unwrap();
    f.submit(&job().run_at(now + Duration::from_hours(1)).build()).await;
    let board = f.store.board(None, None).await.unwrap();
    assert_eq!(board.len(), 1);
    assert_eq!(board[0].age, None);
    assert!(board[0].due_in.unwrap() > Duration::from_secs(3500));
    assert!(f.lease(worker, 1).await.is_empty());
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_until_it_is_resumed() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().queue("q").build()).await;
    let seen = f.store.board(None, None).await.unwrap();
    let queue = QueueName::new("q").unwrap();
    f.store.queue_pause(&f.tenant, &queue).await.unwrap();
    assert!(f.store.board(None, None).await.unwrap().is_empty());
    // Also for a worker that read the board before the pause.
    let grants: Vec<_> = seen.iter().map(|entry| grant(entry, 1)).collect();
    assert!(f.store.lease_many(worker, &grants, 1).await.unwrap().is_empty());
    assert!(f.store.queue_resume(&f.tenant, &queue).await.unwrap());
    assert_eq!(f.lease_one(worker).await.job_id, id);
}

#[tokio::test]
async fn the_dead_lease_nothing() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let board = f.store.board(None, None).await.unwrap();
    f.store.incarnation_end(worker).await.unwrap();
    let grants = [grant(&board[0], 1)];
    let refused = f.store.lease_many(worker, &grants, 1).await;
    assert!(matches!(refused, Err(StoreError::IncarnationDead)), "{refused:?}");
}

#[tokio::test]
async fn the_dead_lease_nothing_though_others_live() {
    let f = Fixture::new().await;
    let (dead, _alive) = (f.incarnation().await, f.incarnation().await);
    f.submit(&job().build()).await;
    f.store.incarnation_end(dead).await.unwrap();
    let grants = [grant(&f.store.board(None, None).await.unwrap()[0], 1)];
    let refused = f.store.lease_many(dead, &grants, 1).await;
    assert!(matches!(refused, Err(StoreError::IncarnationDead)), "{refused:?}");
    let grants = grants.map(|grant| LimitedGrant { grant, limits: [].into() });
    let refused = f.store.lease_limited_many(dead, &grants, 1).await;
    assert!(matches!(refused, Err(StoreError::IncarnationDead)), "{refused:?}");
    assert_eq!((f.count("ready").await, f.count("running").await), (1, 0));
}

#[tokio::test]
async fn a_pause_of_one_queue_holds_up_no_other() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().queue("paused").build()).await;
    let others = [f.submit(&job().queue("a").build()).await, f.submit(&job().queue("b").build()).await];
    let seen = f.store.board(None, None).await.unwrap();
    f.store.queue_pause(&f.tenant, &QueueName::new("paused").unwrap()).await.unwrap();
    let open = f.store.board(None, None).await.unwrap();
    assert_eq!(open.len(), 2);
    let mut grants: Vec<_> = seen.iter().map(|entry| grant(entry, 5)).collect();
    let last = LimitedGrant { grant: grants.pop().unwrap(), limits: [].into() };
    let mut leased = f.store.lease_many(worker, &grants, 5).await.unwrap();
    leased.extend(f.store.lease_limited_many(worker, &[last], 5).await.unwrap().jobs);
    let mut ids: Vec<_> = leased.iter().map(|leased| leased.job_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, others);
}

#[tokio::test]
async fn a_grant_is_of_its_own_lane_and_priority_alone() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    for (model, priority) in [("a", 1), ("a", 2), ("b", 1), ("b", 2)] {
        f.submit(&job().model(model).priority(priority).build()).await;
    }
    let board = f.store.board(None, None).await.unwrap();
    let grants = [&board[1], &board[2]].map(|entry| grant(entry, 5));
    let leased = f.store.lease_many(worker, &grants[..1], 5).await.unwrap();
    let limited = LimitedGrant { grant: grants[1], limits: [].into() };
    let limited = f.store.lease_limited_many(worker, &[limited], 5).await.unwrap().jobs;
    for (leased, entry) in [(leased, &board[1]), (limited, &board[2])] {
        assert_eq!(leased.len(), 1);
        assert_eq!((leased[0].lane_id, leased[0].priority), (entry.lane_id, entry.priority));
    }
}

#[tokio::test]
async fn what_is_handed_back_can_run_at_once_and_spent_no_try() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    let handed = [(leased.job_id, leased.lease_id)];
    assert_eq!(f.store.lease_hand_back_many(worker, &handed).await.unwrap().moved, 1);
    assert_eq!(f.store.lease_hand_back_many(worker, &handed).await.unwrap().moved, 0);
    assert_eq!(f.state(id).await, JobState::Queued);
    let again = f.lease_one(worker).await;
    assert_eq!((again.tries, again.crashes, again.refusals, again.lease_no), (0, 0, 0, 2));
}

#[tokio::test]
async fn the_queue_of_a_run_is_worked_only_by_who_names_it() {
    let f = Fixture::new().await;
    f.submit(&job().queue("run:abc").build()).await;
    assert!(f.store.board(None, None).await.unwrap().is_empty());
    let named = [QueueName::new("run:abc").unwrap()];
    assert_eq!(f.store.board(None, Some(&named)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_that_comes_back_stands_before_fresh_ones_of_its_priority() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let old = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.submit_many(&job().times(5)).await.unwrap();
    f.store.lease_hand_back_many(worker, &[(leased.job_id, leased.lease_id)]).await.unwrap();
    assert_eq!(f.lease_one(worker).await.job_id, old);
}

#[tokio::test]
async fn the_slot_of_a_cancelled_lease_that_nobody_holds_is_given_back() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    let listed = f.store.leases_older_than(worker, Duration::ZERO).await.unwrap();
    assert_eq!(listed, [(id, leased.lease_id)]);
    assert_eq!(f.store.lease_hand_back_many(worker, &listed).await.unwrap().moved, 0, "the job has ended");
    assert_eq!((f.count("cancelled_leases").await, f.count("ready").await), (0, 0));
    let attempts = f.store.attempts(&f.tenant, id).await.unwrap().unwrap();
    assert_eq!(attempts[0].outcome, Some(sluice_domain::Outcome::NotSent));
}

#[tokio::test]
async fn a_plan_made_while_the_line_was_short_reads_no_more_of_a_long_one() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let mut session = f.database.pool().acquire().await.unwrap();
    f.submit(&job().build()).await;
    let lane = f.store.board(None, None).await.unwrap().remove(0);
    let lease = |most: i32| {
        sqlx::query(
            "SELECT FROM sluice.lease($1, ARRAY[$2::bigint], ARRAY[$3::smallint], ARRAY[$4::integer], $4)",
        )
        .bind(worker.as_uuid())
        .bind(lane.lane_id.0)
        .bind(i16::from(lane.priority.get()))
        .bind(most)
    };
    assert_eq!(lease(10).fetch_all(&mut *session).await.unwrap().len(), 1);
    f.store.submit_many(&job().times(1_000)).await.unwrap();
    let mut transaction = session.begin().await.unwrap();
    assert_eq!(lease(50).fetch_all(&mut *transaction).await.unwrap().len(), 50);
    let read: i64 = sqlx::query_scalar("SELECT pg_stat_get_xact_tuples_fetched('sluice.ready'::regclass)")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert!(read < 500, "{read} rows of ready were read for 50 leases");
    transaction.rollback().await.unwrap();
}

/// How many pages of `ready` a lease of one job touches.
async fn read_for_one_lease(f: &Fixture, worker: IncarnationId, floors: PairFloors) -> i64 {
    let entry = f.store.board(None, None).await.unwrap().remove(0);
    let mut session = f.database.pool().begin().await.unwrap();
    let hits = "SELECT pg_stat_get_xact_blocks_hit('sluice.ready'::regclass)";
    // What earlier transactions of the session touched may not have been counted off yet.
    let before: i64 = sqlx::query_scalar(hits).fetch_one(&mut *session).await.unwrap();
    let statement = "SELECT FROM sluice.lease($1, ARRAY[$2::bigint], ARRAY[$3::smallint], ARRAY[1], 1, ARRAY[$4::timestamptz],
                     ARRAY[$5::timestamptz])";
    let leased = sqlx::query(statement)
        .bind(worker.as_uuid())
        .bind(entry.lane_id.0)
        .bind(i16::from(entry.priority.get()))
        .bind(floors.returned)
        .bind(floors.fresh)
        .fetch_all(&mut *session)
        .await
        .unwrap();
    assert_eq!(leased.len(), 1);
    let after: i64 = sqlx::query_scalar(hits).fetch_one(&mut *session).await.unwrap();
    session.rollback().await.unwrap();
    after - before
}

#[tokio::test]
async fn a_lease_above_the_floor_walks_over_nothing_that_was_leased_before() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    for _ in 0..6 {
        f.store.submit_many(&job().times(1_000)).await.unwrap();
    }
    // Whatever is deleted from now on stays where it lies.
    let mut holder = f.database.pool().begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *holder).await.unwrap();
    sqlx::query("SELECT count(*) FROM sluice.ready").execute(&mut *holder).await.unwrap();
    for _ in 0..5 {
        assert_eq!(f.lease(worker, 1_000).await.len(), 1_000);
    }
    let (_, _, lowest) = f.store.board_above(None, None, &[]).await.unwrap().lowest.remove(0);
    let floors = PairFloors { returned: lowest.returned, fresh: lowest.fresh };
    let above = read_for_one_lease(&f, worker, floors).await;
    let from_the_beginning = read_for_one_lease(&f, worker, PairFloors::default()).await;
    assert!(above * 5 < from_the_beginning, "{above} pages above the floor, {from_the_beginning} without");
    holder.rollback().await.unwrap();
}

#[tokio::test]
async fn a_submit_under_way_is_told_from_one_that_has_ended() {
    let f = Fixture::new().await;
    f.submit(&job().build()).await;
    let mut slow = f.database.pool().begin().await.unwrap();
    // The newest transaction of all: what a snapshot calls its xmax is its id, or lower.
    sqlx::query(r#"SELECT sluice.submit('{"model":"m"}')"#).execute(&mut *slow).await.unwrap();
    let first = f.store.board_above(None, None, &[]).await.unwrap().bounds.unwrap();
    let second = f.store.board_above(None, None, &[]).await.unwrap().bounds.unwrap();
    assert!(second.oldest_xid < first.next_xid, "it runs: {first:?}, {second:?}");
    slow.commit().await.unwrap();
    // Transactions of other databases of the server count too, and end soon.
    wait_until("all that ran to have ended", Duration::from_secs(20), async || {
        let look = f.store.board_above(None, None, &[]).await.unwrap();
        look.bounds.is_some_and(|third| third.oldest_xid >= second.next_xid)
    })
    .await;
}

#[tokio::test]
async fn a_fresh_job_does_not_wait_for_a_clock_that_was_set_back() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    // As if the clock had been set back by an hour since.
    sqlx::query("UPDATE sluice.ready SET key = key + interval '1 hour'")
        .execute(f.database.pool())
        .await
        .unwrap();
    let board = f.store.board(None, None).await.unwrap();
    assert_eq!(
        board.iter().map(|entry| (entry.age, entry.due_in)).collect::<Vec<_>>(),
        [(Some(Duration::ZERO), None)]
    );
    let leased: Vec<_> = f.lease(worker, 1).await.into_iter().map(|leased| leased.job_id).collect();
    assert_eq!(leased, [id]);
}

#[tokio::test]
async fn nobody_waits_for_leases_that_somebody_holds() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.store.submit_many(&job().times(10)).await.unwrap();
    let leased = f.lease(worker, 10).await;
    let handed: Vec<_> = leased.iter().map(|leased| (leased.job_id, leased.lease_id)).collect();
    let mut cancelling = f.database.pool().begin().await.unwrap();
    sqlx::query("SELECT sluice.cancel($1)")
        .bind(leased[3].job_id.as_uuid())
        .execute(&mut *cancelling)
        .await
        .unwrap();
    let back = f.store.lease_hand_back_many(worker, &handed).await.unwrap();
    assert_eq!((back.moved, back.locked), (9, vec![leased[3].lease_id]));
    cancelling.rollback().await.unwrap();
    let back = f.store.lease_hand_back_many(worker, &handed).await.unwrap();
    assert_eq!((back.moved, back.locked), (1, vec![]));
    assert_eq!((f.count("running").await, f.count("ready").await), (0, 10));
}

#[tokio::test]
async fn a_lease_answers_with_small_bodies_and_the_others_are_read_after_it() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let body = |bytes: usize| serde_json::json!({"a": "x".repeat(bytes)});
    let sizes = [10, 3_000, 40, 500_000, 7_000, 80];
    let mut ids = Vec::new();
    for bytes in sizes {
        ids.push((f.submit(&job().body(&body(bytes)).build()).await, body(bytes)));
    }
    let answered: Vec<Option<i32>> = sqlx::query_scalar(
        "SELECT octet_length(body) FROM sluice.lease($1, ARRAY[$2], ARRAY[3::smallint], ARRAY[6], ARRAY[NULL::timestamptz],
             ARRAY[NULL::timestamptz], ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 6)), 12000)",
    )
    .bind(worker.as_uuid())
    .bind(f.store.board(None, None).await.unwrap()[0].lane_id.0)
    .fetch_all(f.database.pool())
    .await
    .unwrap();
    assert_eq!(answered.iter().flatten().count(), 3, "2,000 bytes are the share of each: {answered:?}");
    f.store.incarnation_end(worker).await.unwrap();
    let worker = f.incarnation().await;
    let leased = f.lease(worker, 6).await;
    for (id, body) in ids {
        let leased = leased.iter().find(|leased| leased.job_id == id).expect("all are leased");
        assert_eq!(leased.body, body.to_string().as_bytes());
    }
}
