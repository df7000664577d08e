//! A server on a database of its own, a client, and a worker's part played by hand.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{
    CallId, Decision, ErrorClass, HoldReason, IncarnationId, JobId, LeasedJob, NanoUsd, NewJob, Outcome,
    PairFloors, Settlement, StoredAnswer, TenantName, UpstreamUse, Usage,
};
use sluice_scheduler::{Server, ServerHandle, ServerOptions};
use sluice_store::{Doorbell, Grant, NewIncarnation, Store};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::TestDatabase;

pub const CONFIGURATION: &str = "
upstreams:
  - { name: up, provider: openai, base_url: 'http://127.0.0.1:9', account: acc }
routes:
  - { model: deepseek-flash, targets: [ { upstream: up } ] }
queues:
  - { name: slow, retry: { max_attempts: 7 } }
";

pub struct Fixture {
    pub database: TestDatabase,
    pub store: Store,
    pub tenant: TenantName,
    pub server: ServerHandle,
    pub client: Client,
    pub base: String,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let database = TestDatabase::new().await;
        let store = Store::from_pool(database.pool().clone());
        store.configuration_apply_if_newest(0, CONFIGURATION, &[], "test").await.unwrap();
        let mut options = options(store.clone());
        change(&mut options);
        let server = Server::start(options).await.unwrap();
        let base = format!("http://{}", server.addr());
        Self { database, store, tenant: TenantName::default_tenant(), server, client: client(), base }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).body(body)
    }

    pub async fn get_json(&self, path: &str) -> (StatusCode, Value) {
        answer(self.get(path)).await
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.post(path, body.to_string())).await
    }

    /// Submits a job and returns its id.
    pub async fn submit(&self, body: &Value) -> String {
        let (status, job) = self.post_json("/v1/jobs", body).await;
        assert_eq!(status, StatusCode::CREATED, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    pub async fn store_job(&self, job: NewJob) -> JobId {
        self.store.submit(&job).await.unwrap();
        job.id
    }

    pub async fn incarnation(&self) -> IncarnationId {
        let new = NewIncarnation {
            id: IncarnationId::generate(),
            worker: "test".to_owned(),
            host: "host".to_owned(),
            lock_path: None,
            pid: 1,
            version: "0".to_owned(),
            isolates_suspects: false,
        };
        self.store.incarnation_start(&new).await.unwrap();
        new.id
    }

    /// Leases the most urgent job.
    pub async fn lease_one(&self, incarnation: IncarnationId) -> LeasedJob {
        let board = self.store.board(None, None).await.unwrap();
        let grants: Vec<Grant> = board
            .into_iter()
            .filter(|entry| entry.age.is_some())
            .map(|entry| Grant {
                lane_id: entry.lane_id,
                priority: entry.priority,
                limit: 1,
                floors: PairFloors::default(),
            })
            .collect();
        self.store.lease_many(incarnation, &grants, 1).await.unwrap().pop().expect("a job to lease")
    }

    /// Leases the next job and answers it with `answer`.
    pub async fn work_one(&self, answer: &[u8]) -> JobId {
        let incarnation = self.incarnation().await;
        let leased = self.lease_one(incarnation).await;
        self.settle(incarnation, &leased, Decision::Succeed, Some(answer)).await;
        leased.job_id
    }

    /// Leases the next job and fails it.
    pub async fn fail_one(&self) -> JobId {
        let incarnation = self.incarnation().await;
        let leased = self.lease_one(incarnation).await;
        self.settle(incarnation, &leased, Decision::Fail { is_retryable: true }, None).await;
        leased.job_id
    }

    /// Leases the next job and lets it be held.
    pub async fn hold_one(&self) -> JobId {
        let incarnation = self.incarnation().await;
        let leased = self.lease_one(incarnation).await;
        self.settle(incarnation, &leased, Decision::Hold(HoldReason::UnknownOutcome), None).await;
        leased.job_id
    }

    pub async fn settle(
        &self,
        incarnation: IncarnationId,
        leased: &LeasedJob,
        decision: Decision,
        answer: Option<&[u8]>,
    ) {
        let outcome = match decision {
            Decision::Succeed => Outcome::Succeeded,
            Decision::Fail { .. } => Outcome::Failed,
            Decision::Requeue { .. } => Outcome::Retry,
            Decision::Hold(_) => Outcome::Unknown,
        };
        let is_good = decision == Decision::Succeed;
        let settlement = Settlement {
            job_id: leased.job_id,
            lease_id: leased.lease_id,
            incarnation_id: incarnation,
            generation: leased.generation,
            lease_no: leased.lease_no,
            outcome,
            decision,
            error: (!is_good).then(|| (ErrorClass::ServerError, "the upstream answered 500".to_owned())),
            answer: answer.map(|body| StoredAnswer {
                status_code: 200,
                body: body.to_vec(),
                is_truncated: false,
                is_assembled: false,
            }),
            usage: is_good.then_some(Usage {
                input_tokens: 7,
                cached_input_tokens: 2,
                output_tokens: 5,
                reasoning_tokens: 1,
            }),
            cost: NanoUsd(1_500),
            call: Some(UpstreamUse {
                call_id: CallId::generate(),
                upstream: "up".to_owned(),
                model: leased.model.to_string(),
                answered_model: None,
                request_id: Some("req-1".to_owned()),
            }),
            call_duration: Some(Duration::from_millis(40)),
            time_to_first_byte: None,
        };
        self.store.settle_many(&[settlement]).await.unwrap();
        self.store.ring(Doorbell::Ended).await.unwrap();
    }
}

pub fn options(store: Store) -> ServerOptions {
    ServerOptions::new(store, "127.0.0.1:0".parse().unwrap(), MetricsRegistry::new().unwrap())
}

pub fn client() -> Client {
    sluice_tls();
    Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap()
}

/// The client wants a TLS provider, although it never speaks TLS here.
fn sluice_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sends a request; the answer must be JSON.
pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {status} {text}")))
}

/// A job that can be submitted.
pub fn chat() -> Value {
    json!({"body": {"model": "deepseek-flash", "messages": [{"role": "user", "content": "hello"}]}})
}

/// A time so many days from now, to the microsecond, as a job shows it.
pub fn in_days(days: i64) -> String {
    let later = sluice_scheduler::wall_clock() + chrono::TimeDelta::days(days);
    later.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// A job that can be submitted, with further fields.
pub fn chat_with(more: &Value) -> Value {
    let mut job = chat();
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}
