//! Row 3: a scheduler is killed before, at and after the COMMIT of a submit. Where it stands is no matter of luck: before, a
//! proxy holds the statement; at, the server holds the COMMIT, which waits for a standby that never comes; after, a proxy
//! holds the scheduler's answer to the client. In a fourth kind nobody holds anything, and the kill comes at any moment.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{FutureExt, future::join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sluice_domain::JobId;
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{
        Lab, Told,
        proxy::{Direction, FaultProxy, Target},
        until,
    },
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 3,
    name: "SIGKILL a scheduler before, at and after COMMIT",
    done: "A scheduler is killed before its statement arrives, after it committed unheard, after it answered unheard, and at random.",
    must_hold: "Nothing acknowledged is lost; a retry with the key gives one job, the one that was stored.",
    run: |case| run(case).boxed_local(),
};

/// Submits that are under way together when the kill comes.
const TOGETHER: usize = 4;
/// Time for what is under way to reach the one who holds it.
const A_WHILE: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the submit is held when the kill comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    BeforeCommit,
    AtCommit,
    AfterCommit,
    Anywhere,
}

const MOMENTS: [Moment; 4] = [Moment::BeforeCommit, Moment::AtCommit, Moment::AfterCommit, Moment::Anywhere];

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut lab = Lab::start(&case.folder, case.plan("20ms")).await?;
    let (mut told, mut findings) = (Told::default(), Findings::default());
    let mut committed_unheard = 0;
    for round in 0..case.pick(4, 40) {
        let moment = MOMENTS[round % MOMENTS.len()];
        let keys: Vec<String> = (0..TOGETHER).map(|place| format!("job-{round}-{place}")).collect();
        let pause = Duration::from_micros(random.random_range(0..6_000));
        let killed = Killed::at(&mut lab, case.seed, moment, &keys, pause).await;
        let killed = killed.with_context(|| format!("round {round}, {moment:?}"))?;
        committed_unheard += killed
            .stored
            .iter()
            .zip(&killed.heard)
            .filter(|(stored, heard)| stored.len() == 1 && heard.is_none())
            .count();
        lab.start_scheduler().await?;
        let url = format!("{}/v1/jobs", lab.schedulers.last().context("it was started")?.url);
        for (place, key) in keys.iter().enumerate() {
            let again =
                submit(&lab_client(), &url, key).await.with_context(|| format!("submit {key} again"))?;
            findings.demand(killed.is_consistent_with(place, again.id), || {
                format!("{moment:?}: {key} was {killed:?}, and a retry gave {again:?}")
            });
            told.acknowledged.push(Acknowledged {
                key: key.clone(),
                job_id: again.id,
                when_unknown: WhenUnknown::Repeat,
            });
        }
        kill_scheduler(&mut lab).await?;
    }
    findings.demand(committed_unheard > 0, || {
        "no submit was committed unheard: the row shows nothing".to_owned()
    });
    findings.note(format!("{committed_unheard} submits were committed and their clients never told"));
    lab.start_worker(10).await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    findings.demand_no_repetition(&reckoning);
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.jobs").fetch_one(lab.pool()).await?;
    findings.demand(jobs as usize == told.acknowledged.len(), || {
        format!("{jobs} jobs are there for {} keys", told.acknowledged.len())
    });
    Ok(findings.report(case, &reckoning))
}

/// What stood where when the scheduler was dead.
#[derive(Debug)]
struct Killed {
    moment: Moment,
    /// What each client heard.
    heard: Vec<Option<JobId>>,
    /// The jobs that the database has for each key.
    stored: Vec<Vec<JobId>>,
}

impl Killed {
    /// Starts a scheduler between two proxies, submits, and kills it at that moment.
    async fn at(lab: &mut Lab, seed: u64, moment: Moment, keys: &[String], pause: Duration) -> Result<Self> {
        let database: PgConnectOptions = lab.cluster.url().parse()?;
        let inner = Arc::new(FaultProxy::before_database(seed, &database).await?);
        let direct = lab.variables.clone();
        lab.variables.push(("DATABASE_URL", inner.database_url(&database)));
        let started = lab.start_scheduler().await;
        lab.variables = direct;
        started?;
        let address =
            lab.schedulers.last().context("it was started")?.url.trim_start_matches("http://").to_owned();
        let outer = FaultProxy::start(seed, Target::Tcp(address.parse()?))?;
        let url = format!("http://{}/v1/jobs", outer.address());
        let client = lab_client();
        // The scheduler is connected on both sides.
        let warm = submit_without_key(&client, &url).await?;
        match moment {
            Moment::BeforeCommit => inner.black_hole(Direction::ToServer),
            Moment::AtCommit => hold_commits(lab, true).await?,
            Moment::AfterCommit => outer.black_hole(Direction::ToClient),
            Moment::Anywhere => {}
        }
        let submits: Vec<JoinHandle<Option<JobId>>> = keys
            .iter()
            .map(|key| {
                let (client, url, key) = (client.clone(), url.clone(), key.clone());
                tokio::spawn(async move { submit(&client, &url, &key).await.ok().map(|told| told.id) })
            })
            .collect();
        match moment {
            Moment::BeforeCommit => tokio::time::sleep(A_WHILE).await,
            Moment::AtCommit => {
                // The first of them is on its way alone; others may wait for its answer.
                until("a submit to be at its COMMIT", PATIENCE, async || Ok(commits_held(lab).await? > 0))
                    .await?;
            }
            Moment::AfterCommit => {
                until("all submits to commit", PATIENCE, async || {
                    Ok(jobs_of(lab, keys).await?.iter().all(|jobs| !jobs.is_empty()))
                })
                .await?;
                tokio::time::sleep(A_WHILE).await;
            }
            Moment::Anywhere => tokio::time::sleep(pause).await,
        }
        kill_scheduler(lab).await?;
        // What is held never arrives: it was in the memory of a host that is gone.
        inner.reset();
        outer.reset();
        if moment == Moment::AtCommit {
            hold_commits(lab, false).await?;
            until("held commits to end", PATIENCE, async || Ok(commits_held(lab).await? == 0)).await?;
        }
        let heard = join_all(submits).await.into_iter().collect::<Result<_, _>>()?;
        // What had reached the server may still be committing.
        tokio::time::sleep(A_WHILE).await;
        let stored = jobs_of(lab, keys).await?;
        forget(lab, warm).await?;
        Ok(Self { moment, heard, stored })
    }

    /// Whether what a retry was told fits what was stored, and what was heard, before.
    fn is_consistent_with(&self, place: usize, again: JobId) -> bool {
        let (stored, heard) = (&self.stored[place], self.heard[place]);
        let is_held_as_it_should = match self.moment {
            Moment::BeforeCommit => stored.is_empty() && heard.is_none(),
            Moment::AtCommit => heard.is_none() && stored.len() <= 1,
            Moment::AfterCommit => stored.len() == 1 && heard.is_none(),
            Moment::Anywhere => true,
        };
        let is_the_same = stored.iter().chain(&heard).all(|job| *job == again);
        is_held_as_it_should && is_the_same && stored.len() <= 1 && (heard.is_none() || stored.len() == 1)
    }
}

/// What a submit was told.
#[derive(Debug)]
struct Answer {
    id: JobId,
}

fn lab_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client without TLS of its own")
}

async fn submit(client: &reqwest::Client, url: &str, key: &str) -> Result<Answer> {
    let body = json!({
        "body": {"model": "deepseek-flash", "user": key, "messages": [{"role": "user", "content": "hello"}]},
        "idempotency_key": key,
    });
    post(client, url, &body).await
}

/// One that goes before, and is taken away again.
async fn submit_without_key(client: &reqwest::Client, url: &str) -> Result<JobId> {
    let body = json!({"body": {"model": "deepseek-flash", "messages": []}});
    Ok(post(client, url, &body).await?.id)
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Result<Answer> {
    let answer = client.post(url).json(body).send().await?;
    let status = answer.status();
    let job: Value = answer.json().await?;
    ensure!(status.is_success(), "the scheduler answered {status}: {job}");
    Ok(Answer { id: job["id"].as_str().context("find an id")?.parse()? })
}

/// The jobs that are there for each key.
async fn jobs_of(lab: &Lab, keys: &[String]) -> Result<Vec<Vec<JobId>>> {
    let found: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT idempotency_key, id FROM sluice.jobs WHERE idempotency_key = ANY($1)")
            .bind(keys)
            .fetch_all(lab.pool())
            .await?;
    let of = |key: &String| {
        found.iter().filter(|(own, _)| own == key).map(|(_, id)| JobId::from_uuid(*id)).collect()
    };
    Ok(keys.iter().map(of).collect())
}

/// Has each COMMIT wait for a standby that does not exist, or no longer.
async fn hold_commits(lab: &Lab, holds: bool) -> Result<()> {
    let change = if holds {
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
    } else {
        "ALTER SYSTEM RESET synchronous_standby_names"
    };
    sqlx::query(change).execute(lab.pool()).await?;
    sqlx::query("SELECT pg_reload_conf()").execute(lab.pool()).await?;
    until("the server to read its settings", PATIENCE, async || {
        let names: String =
            sqlx::query_scalar("SHOW synchronous_standby_names").fetch_one(lab.pool()).await?;
        Ok(names.is_empty() != holds)
    })
    .await?;
    // Each session reads them by itself, between two statements.
    tokio::time::sleep(A_WHILE).await;
    Ok(())
}

/// Sessions that wait at their COMMIT.
async fn commits_held(lab: &Lab) -> Result<i64> {
    let held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    Ok(sqlx::query_scalar(held).fetch_one(lab.pool()).await?)
}

/// Takes a job out of the records, as if it had never been.
async fn forget(lab: &Lab, job: JobId) -> Result<()> {
    for statement in ["DELETE FROM sluice.ready WHERE job_id = $1", "DELETE FROM sluice.jobs WHERE id = $1"] {
        sqlx::query(statement).bind(job.as_uuid()).execute(lab.pool()).await?;
    }
    Ok(())
}

async fn kill_scheduler(lab: &mut Lab) -> Result<()> {
    let mut scheduler = lab.schedulers.pop().context("a scheduler runs")?;
    scheduler.process.kill().await
}
