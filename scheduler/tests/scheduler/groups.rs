//! Singles that come at the same time share statements, and none notices the others.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_scheduler::Server;
use sluice_store::{Store, StoreOptions};
use sluice_testkit::{TestCluster, wait_until};
use sqlx::{Connection, PgConnection, postgres::PgPoolOptions};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

use crate::fixture::{Fixture, answer, chat, chat_with, client, options};

const PATIENCE: Duration = Duration::from_secs(10);

/// Holds up all submits of a database, so that what comes meanwhile gathers.
struct Gate(PgConnection);

impl Gate {
    async fn close(fixture: &Fixture) -> Self {
        let mut connection = PgConnection::connect_with(&fixture.database.connect_options()).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE sluice.ready IN SHARE MODE").execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Has a submit under way in each of the two statements that there are at once. What comes then gathers.
    async fn occupy_writers(&mut self, fixture: &Fixture) -> [TcpStream; 2] {
        let first = submit_raw(fixture, "first").await;
        self.until_waiting(1).await;
        let second = submit_raw(fixture, "second").await;
        self.until_waiting(2).await;
        [first, second]
    }

    /// Waits until so many statements stand before it.
    async fn until_waiting(&mut self, statements: i64) {
        let count = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                     WHERE NOT l.granted AND d.datname = current_database()";
        let connection = &mut self.0;
        wait_until("statements to wait", PATIENCE, async || {
            let waiting: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await.unwrap();
            waiting >= statements
        })
        .await;
    }

    async fn open(mut self) {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await.unwrap();
    }
}

fn submit(fixture: &Fixture, job: &Value) -> JoinHandle<(StatusCode, Value)> {
    tokio::spawn(answer(fixture.post("/v1/jobs", job.to_string())))
}

/// Submits a job over a connection that can be cut.
async fn submit_raw(fixture: &Fixture, tag: &str) -> TcpStream {
    let body = chat_with(&json!({"tags": {"who": tag}})).to_string();
    let mut stream = TcpStream::connect(fixture.server.addr()).await.unwrap();
    let head = format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    stream
}

/// Nothing tells from outside that the server has read what was sent, or seen that a client has gone.
async fn until_taken() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn jobs_tagged(fixture: &Fixture, tag: &str) -> i64 {
    let count = "SELECT count(*) FROM sluice.jobs WHERE tags ->> 'who' = $1";
    sqlx::query_scalar(count).bind(tag).fetch_one(fixture.database.pool()).await.unwrap()
}

#[tokio::test]
async fn singles_at_once_share_statements_and_each_gets_its_own_job() {
    let fixture = Fixture::new().await;
    let mut gate = Gate::close(&fixture).await;
    let occupied = gate.occupy_writers(&fixture).await;
    let waiting: Vec<_> = (0..64)
        .map(|number| {
            submit(
                &fixture,
                &chat_with(&json!({"priority": number % 5 + 1, "tags": {"n": number.to_string()}})),
            )
        })
        .collect();
    until_taken().await;
    gate.open().await;
    let mut ids = BTreeSet::new();
    for (number, waiting) in waiting.into_iter().enumerate() {
        let (status, job) = waiting.await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{job}");
        assert_eq!(
            (&job["priority"], &job["tags"]["n"]),
            (&json!(number % 5 + 1), &json!(number.to_string()))
        );
        // What was answered is what a read says.
        let id = job["id"].as_str().unwrap().to_owned();
        assert_eq!(fixture.get_json(&format!("/v1/jobs/{id}")).await, (StatusCode::OK, job));
        ids.insert(id);
    }
    assert_eq!(ids.len(), 64);
    let statements: i64 = sqlx::query_scalar("SELECT count(DISTINCT created_at) FROM sluice.jobs")
        .fetch_one(fixture.database.pool())
        .await
        .unwrap();
    assert!(statements < 16, "{statements} statements for 66 jobs");
    drop(occupied);
}

#[tokio::test]
async fn sixty_four_singles_with_and_without_keys_are_all_stored() {
    let fixture = Fixture::new().await;
    let mut submits = JoinSet::new();
    for number in 0..64 {
        // Two of each key.
        let more =
            if number % 2 == 0 { json!({}) } else { json!({"idempotency_key": format!("k{}", number / 4)}) };
        submits.spawn(answer(fixture.post("/v1/jobs", chat_with(&more).to_string())));
    }
    let (mut ids, mut created) = (BTreeSet::new(), 0);
    for (status, job) in submits.join_all().await {
        assert!(status.is_success(), "{job}");
        created += usize::from(status == StatusCode::CREATED);
        ids.insert(job["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), created), (48, 48));
}

#[tokio::test]
async fn a_key_that_is_held_delays_nobody_else() {
    let fixture = Fixture::new().await;
    let mut holder = fixture.database.pool().begin().await.unwrap();
    for key in ["held", "freed"] {
        sqlx::query("SELECT sluice.submit('{\"model\":\"deepseek-flash\"}', idempotency_key => $1)")
            .bind(key)
            .execute(&mut *holder)
            .await
            .unwrap();
    }
    let begun = Instant::now();
    let keyed = |key: &str| chat_with(&json!({"idempotency_key": key}));
    let held: Vec<_> = (0..32).map(|_| submit(&fixture, &keyed("held"))).collect();
    let others: Vec<_> = (0..64)
        .map(|n| submit(&fixture, &if n % 2 == 0 { chat() } else { keyed(&format!("free{n}")) }))
        .collect();
    for other in others {
        assert_eq!(other.await.unwrap().0, StatusCode::CREATED);
    }
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    for held in held {
        let (status, error) = held.await.unwrap();
        assert_eq!(
            (status, &error["error"]["code"]),
            (StatusCode::CONFLICT, &json!("idempotency_key_in_use"))
        );
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
    // Who waits for a key gets it when it is free again.
    let freed = submit(&fixture, &keyed("freed"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    holder.rollback().await.unwrap();
    assert_eq!(freed.await.unwrap().0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_job_that_the_database_refuses_spoils_no_other() {
    let fixture = Fixture::new().await;
    let refuse =
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
                  CREATE TRIGGER refuse BEFORE INSERT ON sluice.jobs FOR EACH ROW
                  WHEN (NEW.model = 'bad') EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(refuse).execute(fixture.database.pool()).await.unwrap();
    let mut gate = Gate::close(&fixture).await;
    let occupied = gate.occupy_writers(&fixture).await;
    let submits: Vec<_> = (0..40)
        .map(|number| {
            let is_bad = number == 25;
            submit(&fixture, &if is_bad { json!({"body": {"model": "bad"}}) } else { chat() })
        })
        .collect();
    until_taken().await;
    gate.open().await;
    for (number, submit) in submits.into_iter().enumerate() {
        let wanted = if number == 25 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CREATED };
        let (status, job) = submit.await.unwrap();
        assert_eq!(status, wanted, "{job}");
    }
    drop(occupied);
}

#[tokio::test]
async fn a_client_that_goes_away_breaks_nothing_off() {
    let fixture = Fixture::new().await;
    let mut gate = Gate::close(&fixture).await;
    let [under_way, second] = gate.occupy_writers(&fixture).await;
    let gathered = submit_raw(&fixture, "gathered").await;
    let stays = submit(&fixture, &chat());
    until_taken().await;
    drop((under_way, gathered));
    until_taken().await;
    gate.open().await;
    assert_eq!(stays.await.unwrap().0, StatusCode::CREATED);
    wait_until("the statement under way to commit", PATIENCE, async || {
        jobs_tagged(&fixture, "first").await == 1 && jobs_tagged(&fixture, "second").await == 1
    })
    .await;
    assert_eq!(jobs_tagged(&fixture, "gathered").await, 0, "nobody waits for it");
    drop(second);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_taken() {
    let fixture = Fixture::new().await;
    let mut gate = Gate::close(&fixture).await;
    let occupied = gate.occupy_writers(&fixture).await;
    let submits: Vec<_> = (0..8).map(|_| submit(&fixture, &chat())).collect();
    until_taken().await;
    let stopping = tokio::spawn(fixture.server.shutdown(PATIENCE));
    until_taken().await;
    gate.open().await;
    for submit in submits {
        assert_eq!(submit.await.unwrap().0, StatusCode::CREATED);
    }
    drop(occupied);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_database_that_restarts_loses_nothing_that_was_acknowledged() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start().await;
    let mut store_options = StoreOptions::new(cluster.url());
    store_options.acquire_timeout = Duration::from_secs(2);
    let server = Server::start(options(Store::connect(&store_options).await.unwrap())).await.unwrap();
    let (client, url) = (client(), format!("http://{}/v1/jobs", server.addr()));
    let is_back = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..16 {
        let (client, url, is_back) = (client.clone(), url.clone(), Arc::clone(&is_back));
        clients.spawn(async move {
            let (mut acknowledged, begun) = (Vec::new(), Instant::now());
            loop {
                assert!(begun.elapsed() < Duration::from_mins(1), "nothing is accepted any more");
                let was_back = is_back.load(Ordering::Relaxed);
                let key = json!({"idempotency_key": format!("{number}-{}", acknowledged.len())});
                let body = if number % 2 == 0 { chat() } else { chat_with(&key) };
                let (status, job) = answer(client.post(&url).body(body.to_string())).await;
                if status.is_success() {
                    acknowledged.push(job["id"].as_str().unwrap().to_owned());
                    if was_back {
                        return acknowledged;
                    }
                } else {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{job}");
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill().await;
    cluster.start_again().await;
    is_back.store(true, Ordering::Relaxed);
    let acknowledged = clients.join_all().await.into_iter().flatten();
    let ids: Vec<uuid::Uuid> = acknowledged.map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() >= 16);
    let pool = PgPoolOptions::new().connect(cluster.url()).await.unwrap();
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.jobs WHERE id = ANY($1)")
        .bind(&ids)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(stored, ids.len() as i64);
    pool.close().await;
    server.shutdown(Duration::ZERO).await;
}
