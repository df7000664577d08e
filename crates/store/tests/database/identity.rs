//! A store that finds itself in another database than the one that it belongs to: nothing is done there.

use sluice_domain::IncarnationId;
use sluice_store::{BeatReply, NewIncarnation, Store, StoreError, StoreOptions, WorkerLoad};
use sluice_testkit::job;
use uuid::Uuid;

use crate::fixture::{Fixture, success};

/// A store that belongs to no database that there is. A connection is open before that is said: a pooler can change
/// where it leads while it is.
async fn lost_store(f: &Fixture) -> Store {
    let mut options = StoreOptions::new(f.database.url());
    // A connection comes back to the pool a moment after its statement; no second one may be made meanwhile.
    options.max_connections = 1;
    let store = Store::connect(&options).await.unwrap();
    store.belongs_to(Uuid::from_u128(1));
    store
}

#[tokio::test]
async fn the_late_word_of_another_database_is_not_written() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    let store = lost_store(&f).await;
    let settled = store.settle_many(&[success(worker, &leased, b"{}")]).await;
    assert!(matches!(settled, Err(StoreError::OtherDatabase)), "{settled:?}");
    assert_eq!((f.count("late_results").await, f.count("done").await), (0, 0));
    assert!(store.leads_elsewhere());
    let asked = store.database_id().await;
    assert!(matches!(asked, Err(StoreError::OtherDatabase)), "no statement is made any more: {asked:?}");
}

#[tokio::test]
async fn no_life_begins_in_another_database() {
    let f = Fixture::new().await;
    let store = lost_store(&f).await;
    let new = NewIncarnation {
        id: IncarnationId::generate(),
        worker: "lost".to_owned(),
        host: "host".to_owned(),
        lock_path: None,
        pid: 1,
        version: "0".to_owned(),
        isolates_suspects: false,
    };
    let begun = store.incarnation_start(&new).await;
    assert!(matches!(begun, Err(StoreError::OtherDatabase)), "{begun:?}");
    assert_eq!(f.count("incarnations").await, 0);
}

#[tokio::test]
async fn a_beat_in_another_database_is_no_death() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let store = lost_store(&f).await;
    let mut beats = store.beat_connection().await.unwrap();
    assert_eq!(beats.beat(worker, WorkerLoad::default()).await.unwrap(), BeatReply::Elsewhere);
    assert!(store.leads_elsewhere());
}

#[tokio::test]
async fn a_new_connection_to_another_database_is_not_used() {
    let f = Fixture::new().await;
    let mut options = StoreOptions::new(f.database.url());
    options.acquire_timeout = std::time::Duration::from_secs(1);
    let store = Store::connect_lazily(&options).unwrap();
    store.belongs_to(Uuid::from_u128(1));
    assert!(store.ping().await.is_err_and(|error| error.is_unavailable()));
    assert!(store.leads_elsewhere());
}
