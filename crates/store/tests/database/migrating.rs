//! Migrations beside others who use the database.

use std::collections::BTreeSet;

use sluice_store::Store;
use sluice_testkit::TestDatabase;

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_gives_it_up_and_tries_again() {
    let database = TestDatabase::empty().await;
    let mut holder = database.pool().begin().await.unwrap();
    // What the migrator wants to make, too: it has to wait for whether this comes to be.
    sqlx::query("CREATE TABLE public._sqlx_migrations (version bigint)").execute(&mut *holder).await.unwrap();
    let store = Store::from_pool(database.pool().clone());
    let migrating = tokio::spawn(async move { store.migrate().await.unwrap() });
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.extend(sqlx::query_scalar::<_, i32>(waiting).fetch_all(database.pool()).await.unwrap());
    }
    holder.rollback().await.unwrap();
    assert!(migrating.await.unwrap().applied > 0);
}
