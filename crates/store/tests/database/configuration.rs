//! Applying configurations.

use crate::fixture::Fixture;

#[tokio::test]
async fn of_two_that_saw_the_same_version_one_applies() {
    let f = Fixture::new().await;
    assert_eq!(f.store.configuration_apply_if_newest(0, "a", &[], "test").await.unwrap(), Some(1));
    assert_eq!(f.store.configuration_apply_if_newest(0, "b", &[], "test").await.unwrap(), None);
    let mut first = f.database.pool().begin().await.unwrap();
    sqlx::query("INSERT INTO sluice.configurations (version, applied_by, document) VALUES (2, 'first', 'c')")
        .execute(&mut *first)
        .await
        .unwrap();
    let store = f.store.clone();
    let second =
        tokio::spawn(
            async move { store.configuration_apply_if_newest(1, "d", &[], "second").await.unwrap() },
        );
    f.somebody_waits_for_a_lock().await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), None);
    assert_eq!(f.store.configuration().await.unwrap().unwrap().document, "c");
}
