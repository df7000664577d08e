//! What becomes of calls when the database, the server or the way to it is away: what is safe is made again, and nothing is
//! stored or paid for twice.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use sluice_client::{Client, Code, Error, JobState, MissingKey, Submission, SubmitRequest};
use sluice_testkit::wait_until;
use sluice_tests::lab::proxy::Direction;

use crate::world::{PATIENCE, World, chat};

/// Jobs, each with a body of its own.
fn numbered(count: u64) -> impl Stream<Item = SubmitRequest> + Send + 'static {
    stream::iter((0..count).map(|number| SubmitRequest {
        body: format!(r#"{{"model":"deepseek-flash","seed":{number},"messages":[]}}"#).into(),
        ..SubmitRequest::default()
    }))
}

/// Says that each of `count` jobs was answered as new and stands in the database once.
async fn each_is_stored_once(world: &World, told: Vec<Submission>, count: u64) {
    let mut ids = Vec::new();
    for (index, answer) in (0..).zip(told) {
        let submitted = answer.outcome.unwrap();
        assert_eq!((answer.index, submitted.is_new), (index, true));
        ids.push(submitted.id.parse::<uuid::Uuid>().unwrap());
    }
    assert_eq!(ids.len() as u64, count);
    let (rows, bodies): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT body) FROM sluice.jobs WHERE id = ANY($1)")
            .bind(&ids)
            .fetch_one(world.database.pool())
            .await
            .unwrap();
    assert_eq!((rows as u64, bodies as u64), (count, count));
    assert_eq!(world.stored().await as u64, count);
}

fn submit_in_background(
    client: Client,
    count: u64,
) -> tokio::task::JoinHandle<Result<Vec<Submission>, Error>> {
    tokio::spawn(async move { client.submit_many(numbered(count)).try_collect().await })
}

#[tokio::test]
async fn a_database_that_is_away_is_waited_for() {
    let world = World::new().await;
    let client = world.client().await;
    world.to_database.refuse().await;
    world.to_database.reset();
    let hasty = world.builder().retry_for(Duration::ZERO).connect().await.unwrap();
    let refused = hasty.submit(chat()).await.unwrap_err();
    assert_eq!((refused.code(), refused.retry_after().is_some()), (Some("database_unavailable"), true));

    let many = submit_in_background(client.clone(), 20);
    let one = tokio::spawn(async move { client.submit(chat()).await });
    // The first tries meet the outage.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!one.is_finished() && !many.is_finished());
    world.to_database.heal().await;
    assert!(one.await.unwrap().unwrap().is_new);
    assert_eq!(many.await.unwrap().unwrap().len(), 20);
    assert_eq!(world.stored().await, 21);
}

#[tokio::test]
async fn a_server_restarted_in_the_middle_of_many_jobs_loses_none_and_doubles_none() {
    const JOBS: u64 = 8_000;
    let mut world = World::new().await;
    let submitting = submit_in_background(world.client().await, JOBS);
    wait_until("some jobs to be stored", PATIENCE, async || world.stored().await > 0).await;
    world.restart_server().await;
    assert!((world.stored().await as u64) < JOBS, "the restart came too late to be one in the middle");
    let told = submitting.await.unwrap().unwrap();
    each_is_stored_once(&world, told, JOBS).await;
}

#[tokio::test]
async fn a_connection_that_keeps_breaking_loses_no_job_and_doubles_none() {
    const JOBS: u64 = 6_000;
    let world = World::new().await;
    let client = world.client().await;
    // Each connection ends within the first chunks.
    world.to_server.cut_after(Direction::ToServer, 150_000);
    let submitting = submit_in_background(client, JOBS);
    wait_until("three connections", PATIENCE, async || world.to_server.accepted() > 3).await;
    world.to_server.heal().await;
    let told = submitting.await.unwrap().unwrap();
    each_is_stored_once(&world, told, JOBS).await;
}

#[tokio::test]
async fn a_database_that_goes_away_in_the_middle_of_many_jobs_is_waited_for() {
    const JOBS: u64 = 8_000;
    let world = World::new().await;
    let submitting = submit_in_background(world.client().await, JOBS);
    wait_until("some jobs to be stored", PATIENCE, async || world.stored().await > 0).await;
    world.to_database.refuse().await;
    world.to_database.reset();
    assert!((world.stored().await as u64) < JOBS);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.to_database.heal().await;
    let told = submitting.await.unwrap().unwrap();
    each_is_stored_once(&world, told, JOBS).await;
}

#[tokio::test]
async fn jobs_that_patience_did_not_suffice_for_are_told_by_an_error_at_the_end() {
    let world = World::new().await;
    let client = world.builder().retry_for(Duration::from_millis(500)).connect().await.unwrap();
    world.to_database.refuse().await;
    world.to_database.reset();
    let mut answers = client.submit_many(numbered(10));
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.refusal().map(|refusal| refusal.status), Some(Code::Unavailable));
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_made_again_and_stored_once() {
    let world = World::new().await;
    let client = world.client().await;
    client.get("warm").await.unwrap_err();
    world.to_server.black_hole(Direction::ToClient);
    let submitting = tokio::spawn(async move { client.submit(chat()).await });
    wait_until("the job to be stored", PATIENCE, async || world.stored().await == 1).await;
    world.break_connections().await;
    assert!(submitting.await.unwrap().unwrap().is_new, "it was our own first try");
    assert_eq!(world.stored().await, 1);
}

#[tokio::test]
async fn what_may_do_harm_a_second_time_is_not_made_again() {
    let world = World::new().await;
    let client = world.builder().missing_key(MissingKey::SendOnce).connect().await.unwrap();
    let ended = client.submit(chat()).await.unwrap().job;
    assert_eq!(ended.idempotency_key, None);
    client.cancel(&ended.id).await.unwrap();

    world.to_server.black_hole(Direction::ToClient);
    let submitting = tokio::spawn({
        let client = client.clone();
        async move { client.submit(chat()).await }
    });
    let replaying = tokio::spawn({
        let (client, id) = (client.clone(), ended.id.clone());
        async move { client.replay(&id).await }
    });
    let is_replayed = async || {
        let (job, replayed): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM sluice.jobs), (SELECT count(*) FROM sluice.ready WHERE generation = 2)",
        )
        .fetch_one(world.database.pool())
        .await
        .unwrap();
        (job, replayed) == (2, 1)
    };
    wait_until("both to have happened", PATIENCE, is_replayed).await;
    world.break_connections().await;
    assert!(matches!(submitting.await.unwrap(), Err(Error::Unreachable(_))));
    assert!(matches!(replaying.await.unwrap(), Err(Error::Unreachable(_))));
    assert_eq!(client.get(&ended.id).await.unwrap().generation, 2);
    assert_eq!(world.stored().await, 2);

    // Where there was no connection, nothing can have come of it.
    client.cancel(&ended.id).await.unwrap();
    world.to_server.refuse().await;
    let unconnected = world.builder().connect_lazily().unwrap();
    let replaying = tokio::spawn(async move { unconnected.replay(&ended.id).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.to_server.heal().await;
    assert_eq!(replaying.await.unwrap().unwrap().generation, 3);
}

#[tokio::test]
async fn a_watch_goes_on_through_a_restart() {
    let mut world = World::new().await;
    let client = world.client().await;
    let id = client.submit(chat()).await.unwrap().job.id;
    let mut states = client.watch(id.clone());
    assert_eq!(states.next().await.unwrap().unwrap().state(), JobState::Queued);
    let watching = tokio::spawn(async move {
        let states: Vec<_> = states.try_collect().await.unwrap();
        states.iter().map(sluice_client::Job::state).collect::<Vec<_>>()
    });
    world.restart_server().await;
    // It hears again: the new server has a watch, and then the end is told.
    wait_until("a new connection", PATIENCE, async || world.to_server.open() > 0).await;
    client.cancel(&id).await.unwrap();
    assert_eq!(watching.await.unwrap(), [JobState::Cancelled], "each state once");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once_by_connect_and_waited_for_by_calls() {
    let world = World::new().await;
    world.to_server.refuse().await;
    let refused = world.builder().connect().await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable(_)), "{refused}");
    let client = world.builder().connect_lazily().unwrap();
    let submitting = tokio::spawn(async move { client.submit(chat()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!submitting.is_finished());
    world.to_server.heal().await;
    assert!(submitting.await.unwrap().unwrap().is_new);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_the_timeout() {
    let world = World::new().await;
    let client = world.builder().timeout(Duration::from_millis(300)).connect().await.unwrap();
    world.to_server.black_hole_both();
    let id = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    assert!(matches!(client.get(id).await.unwrap_err(), Error::TimedOut));
    assert!(matches!(client.submit(chat()).await.unwrap_err(), Error::TimedOut));
    assert!(matches!(client.watch(id).next().await.unwrap().unwrap_err(), Error::TimedOut));
    assert!(matches!(client.submit_many(numbered(3)).next().await.unwrap().unwrap_err(), Error::TimedOut));
}
