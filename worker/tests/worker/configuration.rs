//! Configurations that come from the database, and secrets that are not there.

use std::sync::Arc;

use sluice_domain::JobState;
use sluice_testkit::{job, wait_until};
use sluice_worker::{Blocked, BlockedBy, ConfigurationSource, Worker, WorkerOptions};

use crate::world::{SOON, World};

#[tokio::test]
async fn a_configuration_is_loaded_as_soon_as_the_beat_tells_of_it() {
    let world = World::new().await;
    let id = world.submit(job().build()).await;
    let options = WorkerOptions { configuration: ConfigurationSource::Database, ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    let blocked = vec![Blocked { model: "deepseek-flash".to_owned(), by: BlockedBy::NotConfigured }];
    wait_until("the job to be blocked", SOON, async || handle.blocked() == blocked).await;
    world.store.configuration_apply_if_newest(0, &world.yaml(), &[], "test").await.unwrap();
    world.until_state(id, JobState::Succeeded).await;
    handle.drain().await;
}

#[tokio::test]
async fn a_configuration_that_can_not_be_read_changes_nothing() {
    let world = World::new().await;
    world.store.configuration_apply_if_newest(0, &world.yaml(), &[], "test").await.unwrap();
    let options = WorkerOptions { configuration: ConfigurationSource::Database, ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    world.store.configuration_apply_if_newest(1, "from_the_future: true", &[], "test").await.unwrap();
    let first = world.submit(job().build()).await;
    world.until_state(first, JobState::Succeeded).await;
    handle.drain().await;
}

#[tokio::test]
async fn jobs_wait_where_the_secret_of_their_upstream_is_missing() {
    let world = World::new().await;
    let id = world.submit(job().build()).await;
    let mut options = world.options();
    options.secrets = Arc::new(|_| None);
    let handle = Worker::start(options).await.unwrap();
    wait_until("the job to be blocked", SOON, async || !handle.blocked().is_empty()).await;
    let BlockedBy::UpstreamUnusable { upstream, reason } = handle.blocked().remove(0).by else {
        panic!("{:?}", handle.blocked());
    };
    assert_eq!((upstream.as_str(), reason.as_str()), ("sim", "the environment variable KEY is not set"));
    handle.drain().await;
    let waiting = world.job(id).await;
    assert_eq!((waiting.state, waiting.tries), (JobState::Queued, 0));
    assert_eq!(world.attempts(id).await, []);
}
