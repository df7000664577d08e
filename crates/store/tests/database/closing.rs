//! A store that is closed while it is in use.

use std::time::Duration;

use sluice_store::{Store, StoreOptions};

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_hangs_does_not_hold_up_the_end() {
    let fixture = Fixture::new().await;
    let store = Store::connect(&StoreOptions::new(fixture.database.url())).await.unwrap();
    let mut holder = fixture.database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE sluice.pauses IN ACCESS EXCLUSIVE MODE").execute(&mut *holder).await.unwrap();
    let hanging = tokio::spawn({
        let store = store.clone();
        async move { store.pauses().await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sluice.pauses'::regclass";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *holder).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(30), store.close())
        .await
        .expect("it ends without the statement");
    assert!(!hanging.is_finished());
    holder.rollback().await.unwrap();
    hanging.await.unwrap().expect("the statement may still end");
}
