//! Where functions are dropped: a store with a single connection, so that one that leaks is missed at once, and what the
//! functions need, made by others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluice_domain::{
    ApiKey, ApiKeyId, Decision, ErrorClass, HoldReason, IncarnationId, JobFilter, JobId, JobState, KeyName,
    KeyRights, LeaseId, LeasedJob, NewJob, Outcome, Settlement, TenantName,
};
use sluice_store::{NewApiKey, NextApiKey, Store, StoreOptions};
use sluice_testkit::{TestDatabase, job};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use crate::lab::by_hand;

/// What a configuration is, to those who only store it.
pub const CONFIGURATION: &str = "
upstreams:
  - { name: up, provider: openai, base_url: 'http://127.0.0.1:9', account: acc }
";
/// The connections of the store under test, as the server names them.
const NAME: &str = "row-27";
/// Longer than any statement here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for a submit of many to go by COPY.
const MANY: usize = 120;

/// A database, and the store under test.
pub struct Stage {
    database: TestDatabase,
    hands: Store,
    /// The store under test.
    pub store: Store,
    options: StoreOptions,
    made: u64,
}

/// What the functions act upon, made anew for each call.
pub struct Props {
    /// The tenant of all jobs.
    pub tenant: TenantName,
    /// How to connect.
    pub options: StoreOptions,
    /// The failed jobs.
    pub filter: JobFilter,
    /// Any job.
    pub anything: JobFilter,
    /// A job to submit.
    pub fresh: NewJob,
    /// Jobs to submit at once.
    pub many: Vec<NewJob>,
    /// Jobs with keys.
    pub keyed: Vec<NewJob>,
    /// A worker's life.
    pub incarnation: IncarnationId,
    /// A job that waits.
    pub queued: JobId,
    /// A job that runs.
    pub leased: LeasedJob,
    /// Its lease.
    pub leases: Vec<(JobId, LeaseId)>,
    /// A job that was held.
    pub held: JobId,
    /// A job that failed.
    pub ended: JobId,
    /// A settlement that counts, and one that comes late.
    pub settlements: Vec<Settlement>,
    /// An API key that is there.
    pub key: ApiKeyId,
    /// One that is to be made.
    pub new_key: NewApiKey,
    /// One that is to replace another.
    pub next_key: NextApiKey,
}

impl Stage {
    /// Makes a database and connects once.
    pub async fn new() -> Result<Self> {
        let database = TestDatabase::new().await;
        let hands = Store::from_pool(database.pool().clone());
        let mut options = StoreOptions::new(database.url());
        options.max_connections = 1;
        options.acquire_timeout = PATIENCE;
        NAME.clone_into(&mut options.application_name);
        let store = Store::connect(&options).await?;
        Ok(Self { database, hands, store, options, made: 0 })
    }

    /// Makes what the next call needs.
    pub async fn props(&mut self) -> Result<Props> {
        let hands = &self.hands;
        self.made += 1;
        hands.queue_resume(&TenantName::default_tenant(), &sluice_domain::QueueName::default()).await?;
        let incarnation = by_hand::begin_incarnation(hands).await?;
        let key = |place: usize| format!("key-{}-{place}", self.made);
        let jobs = job().times(5);
        hands.submit_many(&jobs).await?;
        let mut leased = by_hand::lease(hands, incarnation, 4).await?;
        ensure!(leased.len() == 4, "four jobs can be leased, and {} were", leased.len());
        let queued = jobs.iter().map(|job| job.id).find(|id| leased.iter().all(|lease| lease.job_id != *id));
        let take = |leased: &mut Vec<LeasedJob>| leased.pop().expect("four were leased");
        let (held, ended, late) = (take(&mut leased), take(&mut leased), take(&mut leased));
        let wait = Decision::Hold(HoldReason::UnknownOutcome);
        let fail = Decision::Fail { is_retryable: true };
        let settled = [
            by_hand::without_answer(incarnation, &held, Outcome::Unknown, wait),
            by_hand::without_answer(incarnation, &ended, Outcome::Failed, fail),
            by_hand::without_answer(
                incarnation,
                &late,
                Outcome::Failed,
                Decision::Fail { is_retryable: true },
            ),
        ];
        hands.settle_many(&settled).await?;
        let leased = take(&mut leased);
        let mut late = by_hand::success(incarnation, &late, b"{}");
        // A lease that the database has never heard of: its answer is kept.
        late.lease_id = LeaseId::generate();
        let filter = JobFilter {
            state: Some(JobState::Failed),
            error_class: Some(ErrorClass::ServerError),
            ..JobFilter::default()
        };
        Ok(Props {
            tenant: TenantName::default_tenant(),
            options: self.options.clone(),
            filter,
            anything: JobFilter::default(),
            fresh: job().build(),
            many: job().times(MANY),
            keyed: (0..2).map(|place| job().key(&key(place)).build()).collect(),
            incarnation,
            queued: queued.context("find the job that was not leased")?,
            leases: vec![(leased.job_id, leased.lease_id)],
            held: held.job_id,
            ended: ended.job_id,
            settlements: vec![by_hand::success(incarnation, &leased, b"{}"), late],
            leased,
            key: hands.api_key_create(&new_key()).await?.id,
            new_key: new_key(),
            next_key: next_key(),
        })
    }

    /// Empties the queue, so that whatever the last call left takes no part in the next.
    pub async fn clear(&self) -> Result<()> {
        for table in ["ready", "running", "held", "cancelled_leases", "incarnations"] {
            let statement = format!("TRUNCATE sluice.{table}");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(self.pool()).await?;
        }
        Ok(())
    }

    /// That the one connection is there, in no transaction, and nobody else's is left.
    pub async fn is_quiet(&self) -> Result<()> {
        // The one connection can be had, so it was given back.
        tokio::time::timeout(PATIENCE, self.store.ping()).await??;
        let begun = Instant::now();
        loop {
            let (open, in_transaction) = self.connections().await?;
            if open <= 1 && in_transaction == 0 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{open} connections are open where there should be one, {in_transaction} in a transaction"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Connections of the store under test, and how many of them are in a transaction.
    async fn connections(&self) -> Result<(i64, i64)> {
        Ok(sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = $1",
        )
        .bind(NAME)
        .fetch_one(self.pool())
        .await?)
    }

    fn pool(&self) -> &PgPool {
        self.database.pool()
    }
}

/// A key that nobody has seen.
fn key() -> ApiKey {
    let (a, b) = (ApiKeyId::generate().as_uuid().into_bytes(), LeaseId::generate().as_uuid().into_bytes());
    ApiKey::of_random(std::array::from_fn(|at| if at < 16 { b[at] } else { a[at - 10] }))
}

fn new_key() -> NewApiKey {
    let key = key();
    NewApiKey {
        id: ApiKeyId::generate(),
        tenant: TenantName::default_tenant(),
        name: KeyName::from_stored("row 27".to_owned()),
        hash: key.hash(),
        hint: key.hint(),
        rights: KeyRights::all(),
        lifetime: None,
    }
}

fn next_key() -> NextApiKey {
    let NewApiKey { id, hash, hint, .. } = new_key();
    NextApiKey { id, hash, hint, lifetime: None, overlap: Duration::ZERO }
}
