//! Row 18: the same key from 64 clients at once, over REST and gRPC of two schedulers and over SQL. One job, the same id
//! for all who sent its content, and a refusal for all who sent another.
//!
//! Some SQL clients hold their transaction open for a while, and some roll it back: a key that was rolled back is free,
//! and the next one in line has it.

mod client;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{FutureExt, future::join_all};
use rand::{SeedableRng, rngs::StdRng};
use sluice_testkit::TestDatabase;
use sqlx::PgPool;
use uuid::Uuid;

use self::client::{Answer, Client, Doors, Protocol};
use super::{Case, Report, Row};
use crate::processes::{Process, free_port};

const CLIENTS: usize = 64;
const SCHEDULERS: usize = 2;

/// The contents that clients send: the first most of them, the others the rest.
const CONTENTS: [&str; 3] = [
    r#"{"model":"deepseek-flash",  "messages":[{"role":"user","content":"one"}]}"#,
    r#"{"model":"deepseek-flash",  "messages":[{"role":"user","content":"two"}]}"#,
    r#"{"model":"deepseek-flash", "messages":[{"role":"user","content":"one"}]}"#,
];

/// See the head of this file.
pub const ROW: Row = Row {
    number: 18,
    name: "same key from 64 clients over three protocols",
    done: "64 clients submit one key with three contents at once, over REST and gRPC of two schedulers and over SQL.",
    must_hold: "One job; the same id for all of its content; all others are refused.",
    run: |case| run(case).boxed_local(),
};

/// Runs all rounds.
pub async fn run(case: &Case) -> Result<Report> {
    // The clients want one, although none speaks TLS; an error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = TestDatabase::new().await;
    let mut schedulers = Vec::new();
    for place in 0..SCHEDULERS {
        schedulers.push(Scheduler::start(case, &database, place).await?);
    }
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut doors = Doors::open(&schedulers, database.pool().clone()).await?;
    doors.pool = wide_pool(&database).await?;
    let (mut created, mut refused, mut retried) = (0, 0, 0);
    for round in 0..case.pick(6, 60) {
        let key = format!("key-{round}");
        let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::some(&mut random)).collect();
        let answers = join_all(clients.iter().map(|client| client.submit(&doors, &key))).await;
        let answers: Vec<Answer> = answers.into_iter().collect::<Result<_>>()?;
        judge(&doors.pool, &key, &clients, &answers)
            .await
            .with_context(|| format!("seed {}, round {round}: {:?}", case.seed, told(&clients, &answers)))?;
        created += usize::from(answers.iter().any(|answer| matches!(answer, Answer::Job { .. })));
        refused += answers.iter().filter(|answer| matches!(answer, Answer::OtherContent)).count();
        retried += clients.iter().map(Client::retries).sum::<usize>();
    }
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.jobs").fetch_one(&doors.pool).await?;
    ensure!(jobs as usize == created, "{created} keys were used and {jobs} jobs are there");
    ensure!(refused > 0, "no client sent another content: the rounds prove too little");
    let detail =
        format!("{created} keys, {refused} other contents refused, {retried} submits were told to try again");
    Ok(Report { jobs: jobs as usize, detail, ..Report::sound(case) })
}

/// A scheduler's process.
struct Scheduler {
    _process: Process,
    rest: String,
    grpc: String,
}

impl Scheduler {
    async fn start(case: &Case, database: &TestDatabase, place: usize) -> Result<Self> {
        let (rest, grpc) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let variables = [
            ("DATABASE_URL", database.url()),
            ("SLUICE_LISTEN", rest.clone()),
            ("SLUICE_GRPC_LISTEN", grpc.clone()),
        ];
        let name = format!("scheduler-{place}");
        let mut process = Process::start(&name, &case.folder, &["scheduler"], &variables)?;
        process.wait_for_url(&format!("http://{rest}/readyz")).await;
        Ok(Self { _process: process, rest, grpc })
    }
}

/// Enough connections for all clients that hold a transaction, so that none waits for another's connection.
async fn wide_pool(database: &TestDatabase) -> Result<PgPool> {
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(CLIENTS as u32);
    Ok(options.acquire_timeout(Duration::from_secs(30)).connect_with(database.connect_options()).await?)
}

/// One job at most; its id for all who sent its content, a refusal for all others.
async fn judge(pool: &PgPool, key: &str, clients: &[Client], answers: &[Answer]) -> Result<()> {
    let jobs: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as("SELECT id, body FROM sluice.jobs WHERE idempotency_key = $1")
            .bind(key)
            .fetch_all(pool)
            .await?;
    ensure!(jobs.len() <= 1, "{} jobs have the key", jobs.len());
    let created =
        answers.iter().filter(|answer| matches!(answer, Answer::Job { is_new: Some(true), .. })).count();
    ensure!(created <= 1, "{created} clients were told that theirs is a new job");
    for (client, answer) in clients.iter().zip(answers) {
        match (answer, jobs.first()) {
            (Answer::RolledBack, _) => {}
            (Answer::Job { id, .. }, Some((job, body))) => {
                ensure!(id == job, "{client:?} was told of {id}, and the job is {job}");
                ensure!(
                    body == client.content().as_bytes(),
                    "{client:?} was told of a job of another content"
                );
            }
            (Answer::OtherContent, Some((_, body))) => {
                ensure!(body != client.content().as_bytes(), "{client:?} was refused for its own content");
            }
            (answer, None) => anyhow::bail!("{client:?} was told {answer:?} and there is no job"),
        }
    }
    let has_stayer = answers.iter().any(|answer| !matches!(answer, Answer::RolledBack));
    ensure!(jobs.len() == usize::from(has_stayer), "{} jobs are there", jobs.len());
    Ok(())
}

/// How often each protocol was told what, for the message of a failure.
fn told(clients: &[Client], answers: &[Answer]) -> BTreeMap<(Protocol, String), usize> {
    let mut told = BTreeMap::new();
    for (client, answer) in clients.iter().zip(answers) {
        *told.entry((client.protocol, format!("{answer:?}"))).or_default() += 1;
    }
    told
}
