//! What each call does where nothing is broken.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use sluice_client::{Client, Code, Error, JobFilter, JobState, ReplayManyRequest, Submission, SubmitRequest};
use sluice_domain::{ApiKey, ApiKeyId, KeyName, KeyRights, Scope, TenantName};
use sluice_store::{NewApiKey, Store};

use crate::world::{PATIENCE, World, chat};

const NOBODY: &str = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

#[tokio::test]
async fn a_job_is_submitted_read_cancelled_waited_for_and_replayed() {
    let world = World::new().await;
    let client = world.client().await;
    let submitted = client.submit(SubmitRequest { priority: Some(5), ..chat() }).await.unwrap();
    assert!(submitted.is_new);
    assert_eq!((submitted.job.state(), submitted.job.priority), (JobState::Queued, 5));
    assert!(submitted.job.idempotency_key.is_some(), "a key was made up");
    let id = submitted.job.id.as_str();
    assert_eq!(client.get(id).await.unwrap(), submitted.job);
    let begun = Instant::now();
    assert_eq!(client.wait_for(id, Duration::from_millis(200)).await.unwrap().state(), JobState::Queued);
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let waiting = tokio::spawn({
        let (client, id) = (client.clone(), id.to_owned());
        async move { client.wait(&id).await }
    });
    assert_eq!(client.cancel(id).await.unwrap().state(), JobState::Cancelled);
    assert_eq!(client.cancel(id).await.unwrap().state(), JobState::Cancelled);
    assert_eq!(waiting.await.unwrap().unwrap().state(), JobState::Cancelled);
    assert_eq!(client.replay(id).await.unwrap().generation, 2);
    client.cancel(id).await.unwrap();
    let filter = Some(JobFilter { state: JobState::Cancelled.into(), ..JobFilter::default() });
    let many = ReplayManyRequest { filter, ..ReplayManyRequest::default() };
    assert_eq!(client.replay_many(many, PATIENCE).await.unwrap().changed, 1);
    assert_eq!(client.get(id).await.unwrap().generation, 3);
}

#[tokio::test]
async fn a_refusal_has_its_code_and_names_the_field() {
    let world = World::new().await;
    let client = world.client().await;
    let wrong = client.submit(SubmitRequest { priority: Some(6), ..chat() }).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.field()), (Some("invalid_value"), Some("/priority")));
    let unknown = client.get(NOBODY).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.is_not_found()), (Some("job_not_found"), true));
    let unknown = client.watch(NOBODY).next().await.unwrap().unwrap_err();
    assert_eq!(unknown.code(), Some("job_not_found"));

    let keyed = |model: &str| SubmitRequest {
        idempotency_key: Some("order-17".to_owned()),
        model: Some(model.to_owned()),
        ..chat()
    };
    let first = client.submit(keyed("deepseek-flash")).await.unwrap();
    let second = client.submit(keyed("deepseek-flash")).await.unwrap();
    assert_eq!((first.is_new, second.is_new, &first.job.id), (true, false, &second.job.id));
    let refused = client.submit(keyed("another")).await.unwrap_err();
    assert_eq!(refused.code(), Some("idempotency_key_reused"));
    let refused = client.replay(&first.job.id).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_possible_in_state"));
}

#[tokio::test]
async fn many_jobs_are_answered_in_their_order() {
    let world = World::new().await;
    let client = world.client().await;
    let jobs = (0..2_300).map(|at| match at % 100 {
        7 => SubmitRequest { priority: Some(9), ..chat() },
        // The key of the one before.
        9 => SubmitRequest { idempotency_key: Some(format!("k{}", at - 1)), ..chat() },
        _ => SubmitRequest { idempotency_key: Some(format!("k{at}")), ..chat() },
    });
    let told: Vec<Submission> = client.submit_many(stream::iter(jobs)).try_collect().await.unwrap();
    assert!(told.iter().map(|answer| answer.index).eq(0..2_300));
    for answer in &told {
        match (answer.index % 100, &answer.outcome) {
            (7, Err(refused)) => assert_eq!(refused.field(), Some("/priority")),
            (7, Ok(_)) => panic!("priority 9 was taken"),
            (9, outcome) => assert!(!outcome.as_ref().unwrap().is_new),
            (_, outcome) => assert!(outcome.as_ref().unwrap().is_new),
        }
    }
    assert_eq!(world.stored().await, 2_300 - 2 * 23);
    assert_eq!(client.submit_many(stream::empty()).count().await, 0);
}

#[tokio::test]
async fn a_list_goes_over_all_pages() {
    let world = World::new().await;
    let client = world.client().await;
    let jobs = (0..450).map(|_| SubmitRequest { queue: Some("listed".to_owned()), ..chat() });
    let told: Vec<Submission> = client.submit_many(stream::iter(jobs)).try_collect().await.unwrap();
    client.submit(chat()).await.unwrap();
    let mut ids: Vec<String> = told.into_iter().map(|answer| answer.outcome.unwrap().id).collect();
    ids.sort();
    ids.reverse();
    let filter = JobFilter { queue: Some("listed".to_owned()), ..JobFilter::default() };
    let listed: Vec<String> = client.list(filter).map_ok(|job| job.id).try_collect().await.unwrap();
    assert_eq!(listed, ids);
}

#[tokio::test]
async fn a_slow_source_of_jobs_is_not_waited_for() {
    let world = World::new().await;
    let client = world.client().await;
    // One job, and then nothing for as long as anybody looks.
    let mut answers = client.submit_many(stream::iter([chat()]).chain(stream::pending()));
    let first = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
    assert!(first.outcome.unwrap().is_new);
}

async fn make_key(store: &Store, rights: KeyRights) -> ApiKey {
    let random = uuid::Uuid::new_v4().into_bytes();
    let key = ApiKey::of_random(std::array::from_fn(|at| random[at % 16]));
    let new = NewApiKey {
        id: ApiKeyId::generate(),
        tenant: TenantName::default_tenant(),
        name: KeyName::new("test").unwrap(),
        hash: key.hash(),
        hint: key.hint(),
        rights,
        lifetime: None,
    };
    store.api_key_create(&new).await.unwrap();
    key
}

#[tokio::test]
async fn a_key_that_is_refused_ends_every_call_at_once() {
    let world = World::new().await;
    let good = make_key(&world.store, KeyRights::all()).await;
    let reader = make_key(&world.store, KeyRights::of_scopes([Scope::Read].into_iter().collect())).await;
    let with = async |key: &str| world.builder().api_key(key).connect().await.unwrap();

    let submitted = with(good.expose()).await.submit(chat()).await.unwrap();
    let begun = Instant::now();
    let refused = |error: &Error| (error.refusal().unwrap().status, error.code().unwrap().to_owned());
    let missing = world.client().await.get(&submitted.job.id).await.unwrap_err();
    assert_eq!(refused(&missing), (Code::Unauthenticated, "missing_api_key".to_owned()));

    let wrong: Client = with("sluice_canary0123456789").await;
    let invalid = (Code::Unauthenticated, "invalid_api_key".to_owned());
    for error in [
        wrong.get(&submitted.job.id).await.unwrap_err(),
        wrong.submit(chat()).await.unwrap_err(),
        wrong.list(JobFilter::default()).next().await.unwrap().unwrap_err(),
        wrong.watch(submitted.job.id.clone()).next().await.unwrap().unwrap_err(),
        wrong.submit_many(stream::iter(vec![chat(); 3])).next().await.unwrap().unwrap_err(),
    ] {
        assert_eq!(refused(&error), invalid);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    // After an error nothing more is sent.
    let answers: Vec<_> = wrong.submit_many(stream::iter(vec![chat(); 9_000])).collect().await;
    assert_eq!(answers.len(), 1);

    let reader = with(reader.expose()).await;
    assert_eq!(reader.get(&submitted.job.id).await.unwrap().id, submitted.job.id);
    let forbidden = reader.cancel(&submitted.job.id).await.unwrap_err();
    assert_eq!(refused(&forbidden), (Code::PermissionDenied, "insufficient_scope".to_owned()));
    assert!(begun.elapsed() < PATIENCE / 2, "nothing was tried again");
    assert_eq!(world.stored().await, 1);
}
