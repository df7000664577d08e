//! A database, a simulator, and workers between them.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sluice_config::Configuration;
use sluice_domain::{AttemptRecord, IncarnationId, JobId, JobState, JobView, NewJob, Outcome, TenantName};
use sluice_simulator::{SimulatorConfig, SimulatorHandle};
use sluice_store::{Bodies, Store, StoreOptions};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{JobBuilder, TestDatabase, job, wait_for, wait_until};
use sluice_worker::{ConfigurationSource, Timing, WorkMode, Worker, WorkerHandle, WorkerOptions};

/// Longer than anything here takes, on a slow machine too.
pub const SOON: Duration = Duration::from_secs(30);

/// What a test has around its workers.
pub struct World {
    pub store: Store,
    pub simulator: SimulatorHandle,
    database: Option<TestDatabase>,
}

impl World {
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let url = database.url();
        Self { database: Some(database), ..Self::at(&url).await }
    }

    /// With an upstream of this kind.
    pub async fn with_simulator(config: SimulatorConfig) -> Self {
        let simulator = sluice_simulator::start(config).await.unwrap();
        Self { simulator, ..Self::new().await }
    }

    /// With a database that is there already.
    pub async fn at(url: &str) -> Self {
        let store = Store::connect(&StoreOptions::new(url)).await.unwrap();
        let simulator = sluice_simulator::start(SimulatorConfig::default()).await.unwrap();
        Self { store, simulator, database: None }
    }

    /// Routes for `deepseek-flash` alone; retries come soon.
    pub fn yaml(&self) -> String {
        let base_url = self.simulator.base_url();
        format!(
            "upstreams:
  - {{ name: sim, provider: deepseek, base_url: \"{base_url}\", api_key: \"${{KEY}}\", account: main }}
routes:
  - {{ model: deepseek-flash, targets: [ {{ upstream: sim }} ] }}
queues:
  - {{ name: default, retry: {{ max_attempts: 3, base_delay: 10ms, max_delay: 20ms }} }}
"
        )
    }

    pub fn options(&self) -> WorkerOptions {
        let configuration = Configuration::parse(&self.yaml()).unwrap();
        let metrics = MetricsRegistry::new().unwrap();
        let mut options =
            WorkerOptions::new(self.store.clone(), ConfigurationSource::Fixed(configuration), metrics);
        options.secrets = Arc::new(|name| (name == "KEY").then(|| "sk-test".to_owned()));
        options.concurrency = 10;
        options.timing = Timing {
            lease_ttl: Duration::from_secs(6),
            beat_interval: Duration::from_millis(200),
            poll_interval: Duration::from_millis(200),
            grace: Duration::from_secs(20),
        };
        options
    }

    pub async fn start(&self) -> WorkerHandle {
        Worker::start(self.options()).await.unwrap()
    }

    /// Works until nothing is left to do.
    pub async fn work_all(&self) {
        let handle =
            Worker::start(WorkerOptions { mode: WorkMode::UntilIdle, ..self.options() }).await.unwrap();
        tokio::time::timeout(SOON, handle.join()).await.expect("the worker ends when nothing is left to do");
    }

    pub async fn submit(&self, job: NewJob) -> JobId {
        let id = job.id;
        self.store.submit(&job).await.unwrap();
        id
    }

    pub async fn job(&self, id: JobId) -> JobView {
        self.store.job(&tenant(), id, Bodies::Included).await.unwrap().unwrap()
    }

    pub async fn attempts(&self, id: JobId) -> Vec<AttemptRecord> {
        self.store.attempts(&tenant(), id).await.unwrap().unwrap()
    }

    /// Has all waiting jobs two crashes behind them.
    pub async fn crash_twice(&self) {
        let pool = self.database.as_ref().unwrap().pool();
        sqlx::query("UPDATE sluice.ready SET crashes = 2").execute(pool).await.unwrap();
    }

    /// Connections of the test itself, to a database of its own.
    pub fn pool(&self) -> &sqlx::PgPool {
        self.database.as_ref().unwrap().pool()
    }

    /// What a question for a number is answered with.
    pub async fn count(&self, question: &'static str) -> i64 {
        let pool = self.database.as_ref().unwrap().pool();
        sqlx::query_scalar(question).fetch_one(pool).await.unwrap()
    }

    pub async fn outcomes(&self, id: JobId) -> Vec<Option<Outcome>> {
        self.attempts(id).await.into_iter().map(|attempt| attempt.outcome).collect()
    }

    pub async fn until_state(&self, id: JobId, state: JobState) -> JobView {
        wait_for(&format!("the job to be {state}"), SOON, async || {
            Some(self.job(id).await).filter(|job| job.state == state)
        })
        .await
    }

    /// Lets the database refuse to end jobs of which `condition` is true, as SQL.
    pub async fn refuse_ends(&self, condition: &str) {
        let pool = self.database.as_ref().expect("a database of its own").pool();
        for statement in [
            format!(
                "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF {condition} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$"
            ),
            "CREATE TRIGGER refuse BEFORE INSERT ON sluice.done FOR EACH ROW EXECUTE FUNCTION public.refuse()"
                .to_owned(),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
        }
    }

    /// Lets it take them again.
    pub async fn take_ends(&self) {
        let pool = self.database.as_ref().expect("a database of its own").pool();
        sqlx::query("DROP FUNCTION public.refuse() CASCADE").execute(pool).await.unwrap();
    }

    /// As if an older standby had taken over: the end of the job is gone, and its lease runs again.
    pub async fn take_end_back(&self, incarnation: IncarnationId) {
        let database = self.database.as_ref().expect("a database of its own");
        sqlx::query(
            "WITH gone AS (DELETE FROM sluice.done RETURNING *)
             INSERT INTO sluice.running
                 (job_id, lease_id, incarnation_id, lane_id, leased_at, generation, lease_no, priority, tries, crashes,
                  refusals, hold_on_unknown)
             SELECT g.job_id, g.lease_id, $1, j.lane_id, g.begun_at, g.generation, g.lease_no, j.priority, 0, 0, 0,
                    j.hold_on_unknown
             FROM gone g JOIN sluice.jobs j ON j.id = g.job_id",
        )
        .bind(incarnation.as_uuid())
        .execute(database.pool())
        .await
        .unwrap();
    }

    /// Waits until so many calls are under way at the simulator.
    pub async fn until_running(&self, calls: u64) {
        wait_until("the calls to be under way", SOON, async || self.simulator.stats().running == calls).await;
    }
}

pub fn tenant() -> TenantName {
    TenantName::default_tenant()
}

/// A job whose prompt orders a fault of the simulator, such as `http_500 times=1`.
pub fn job_with(fault: &str) -> JobBuilder {
    job().body(&prompt(&format!("hello [[sim:{fault}]]")))
}

pub fn prompt(text: &str) -> Value {
    json!({"model": "deepseek-flash", "messages": [{"role": "user", "content": text}]})
}
