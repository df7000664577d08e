//! The testkit keeps its own promises.

use std::time::Duration;

use sluice_cluster::Durability;
use sluice_testkit::{MIGRATIONS, TestCluster, TestDatabase, containers, wait_until};
use sqlx::{Connection, PgConnection};

async fn count(database: &TestDatabase, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(database.pool()).await.expect("a number")
}

#[tokio::test]
async fn each_test_gets_a_migrated_database_of_its_own() {
    let (one, other) = (TestDatabase::new().await, TestDatabase::new().await);
    sqlx::query("CREATE TABLE public.only_here (id int)").execute(one.pool()).await.unwrap();
    let found = "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'";
    assert_eq!((count(&one, found).await, count(&other, found).await), (1, 0));
    let applied = count(&one, "SELECT count(*) FROM _sqlx_migrations").await;
    assert_eq!(applied, MIGRATIONS.iter().count() as i64);
}

#[tokio::test]
async fn a_database_can_be_reached_by_its_url() {
    let database = TestDatabase::new().await;
    let mut connection = PgConnection::connect(&database.url()).await.unwrap();
    let name: String =
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut connection).await.unwrap();
    assert_eq!(name, database.name());
}

#[tokio::test]
async fn a_database_is_gone_soon_after_its_test() {
    let (database, watcher) = (TestDatabase::empty().await, TestDatabase::empty().await);
    let name = database.name().to_owned();
    drop(database);
    wait_until("the database to be dropped", Duration::from_secs(20), async || {
        let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(&name);
        found.fetch_optional(watcher.pool()).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_of_the_whole_server() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start_with(Durability::Full, &[("max_connections", "20")]).await;
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    sqlx::query("CREATE TABLE public.kept AS SELECT 1 AS id").execute(&mut connection).await.unwrap();
    cluster.kill().await;
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
    cluster.start_again().await;
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    let kept: i32 =
        sqlx::query_scalar("SELECT id FROM public.kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start_with(Durability::CrashOnly, &[]).await;
    let mut connection = PgConnection::connect(cluster.url()).await.unwrap();
    cluster.pause();
    let answer = sqlx::query("SELECT 1").execute(&mut connection);
    tokio::pin!(answer);
    tokio::time::timeout(Duration::from_millis(200), &mut answer)
        .await
        .expect_err("a paused server says nothing");
    cluster.resume();
    answer.await.unwrap();
}

#[tokio::test]
async fn migrations_apply_to_every_version_whose_image_is_here() {
    for tag in ["15", "17", "18"] {
        match containers::postgres_image(tag).await {
            Ok(server) => {
                let mut connection = PgConnection::connect(server.url()).await.unwrap();
                MIGRATIONS.run(&mut connection).await.unwrap();
            }
            Err(why) => eprintln!("skipped postgres:{tag}: {why:#}"),
        }
    }
}
