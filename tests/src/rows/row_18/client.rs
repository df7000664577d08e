//! One client: over which protocol, with which content, and what it is told.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rand::{RngExt, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::Value;
use sluice_proto::v1::{SubmitRequest, SubmitStatus, job_service_client::JobServiceClient};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use super::{CONTENTS, Scheduler};

/// A client that is told to try again does so for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a client submits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Rest,
    Grpc,
    /// In a statement of its own.
    Sql,
    /// In a transaction that is open for a while.
    SqlSlow,
    /// In a transaction that is rolled back after a while.
    SqlRollback,
}

/// What it was told in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// This is the job; whether it is new, where the protocol says so.
    Job { id: Uuid, is_new: Option<bool> },
    /// The key was used with another content.
    OtherContent,
    /// It took back what it did.
    RolledBack,
}

/// The ways in.
pub struct Doors {
    rest: Vec<String>,
    grpc: Vec<JobServiceClient<Channel>>,
    http: reqwest::Client,
    /// For SQL.
    pub pool: PgPool,
}

impl Doors {
    /// Connects.
    pub async fn open(schedulers: &[Scheduler], pool: PgPool) -> Result<Self> {
        let mut grpc = Vec::new();
        for scheduler in schedulers {
            let channel = Channel::from_shared(format!("http://{}", scheduler.grpc))?.connect().await?;
            grpc.push(JobServiceClient::new(channel));
        }
        let rest = schedulers.iter().map(|scheduler| format!("http://{}/v1/jobs", scheduler.rest)).collect();
        Ok(Self { rest, grpc, http: reqwest::Client::builder().no_proxy().build()?, pool })
    }
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// How it submits.
    pub protocol: Protocol,
    content: usize,
    scheduler: usize,
    start: Duration,
    hold: Duration,
    retries: AtomicUsize,
}

impl Client {
    /// One of the many.
    pub fn some(random: &mut StdRng) -> Self {
        let protocol = match random.random_range(0..16) {
            0..=5 => Protocol::Rest,
            6..=10 => Protocol::Grpc,
            11..=13 => Protocol::Sql,
            14 => Protocol::SqlSlow,
            _ => Protocol::SqlRollback,
        };
        let content = if random.random_bool(0.8) { 0 } else { random.random_range(1..CONTENTS.len()) };
        Self {
            protocol,
            content,
            scheduler: random.random_range(0..64),
            start: Duration::from_micros(random.random_range(0..3_000)),
            hold: Duration::from_millis(random.random_range(0..60)),
            retries: AtomicUsize::new(0),
        }
    }

    /// What it sends.
    pub fn content(&self) -> &'static str {
        CONTENTS[self.content]
    }

    /// How often it was told to try again.
    pub fn retries(&self) -> usize {
        self.retries.load(Ordering::Relaxed)
    }

    /// Submits until it is told something else than to try again.
    pub async fn submit(&self, doors: &Doors, key: &str) -> Result<Answer> {
        sleep(self.start).await;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let told = match self.protocol {
                Protocol::Rest => self.by_rest(doors, key).await,
                Protocol::Grpc => self.by_grpc(doors, key).await,
                Protocol::Sql | Protocol::SqlSlow | Protocol::SqlRollback => self.by_sql(doors, key).await,
            };
            if let Some(answer) = told.with_context(|| format!("submit by {self:?}"))? {
                return Ok(answer);
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
        }
        bail!("{self:?} was told to try again for {PATIENCE:?}")
    }

    async fn by_rest(&self, doors: &Doors, key: &str) -> Result<Option<Answer>> {
        let url = &doors.rest[self.scheduler % doors.rest.len()];
        let document = format!(r#"{{"idempotency_key":"{key}","body":{}}}"#, self.content());
        let answer = doors.http.post(url).body(document).send().await?;
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        Ok(match status {
            StatusCode::OK | StatusCode::CREATED => {
                let id = body["id"].as_str().context("find an id")?.parse()?;
                Some(Answer::Job { id, is_new: Some(status == StatusCode::CREATED) })
            }
            StatusCode::UNPROCESSABLE_ENTITY if body["error"]["code"] == "idempotency_key_reused" => {
                Some(Answer::OtherContent)
            }
            StatusCode::CONFLICT => None,
            other => bail!("REST answered {other}: {body}"),
        })
    }

    async fn by_grpc(&self, doors: &Doors, key: &str) -> Result<Option<Answer>> {
        let mut client = doors.grpc[self.scheduler % doors.grpc.len()].clone();
        let request = SubmitRequest {
            body: self.content().as_bytes().to_vec().into(),
            idempotency_key: Some(key.to_owned()),
            ..SubmitRequest::default()
        };
        match client.submit(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let is_new = Some(answer.status() == SubmitStatus::Created);
                let id = answer.job.context("find a job in the answer")?.id.parse()?;
                Ok(Some(Answer::Job { id, is_new }))
            }
            Err(status) if status.code() == Code::AlreadyExists => Ok(Some(Answer::OtherContent)),
            Err(status) if status.code() == Code::Aborted => Ok(None),
            Err(status) => bail!("gRPC answered {status:?}"),
        }
    }

    async fn by_sql(&self, doors: &Doors, key: &str) -> Result<Option<Answer>> {
        let mut transaction = doors.pool.begin().await?;
        let submitted = sqlx::query_scalar("SELECT sluice.submit($1::text::json, idempotency_key => $2)")
            .bind(self.content())
            .bind(key)
            .fetch_one(&mut *transaction)
            .await;
        let id: Uuid = match submitted {
            Ok(id) => id,
            Err(error) => {
                transaction.rollback().await?;
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                return match code.as_deref() {
                    Some("23505") => Ok(Some(Answer::OtherContent)),
                    // Another's transaction holds the key, or ended while we looked.
                    Some("55P03" | "40001") => Ok(None),
                    _ => Err(error.into()),
                };
            }
        };
        if self.protocol != Protocol::Sql {
            sleep(self.hold).await;
        }
        if self.protocol == Protocol::SqlRollback {
            transaction.rollback().await?;
            return Ok(Some(Answer::RolledBack));
        }
        transaction.commit().await?;
        Ok(Some(Answer::Job { id, is_new: None }))
    }
}
