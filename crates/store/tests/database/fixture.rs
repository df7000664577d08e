//! A store on a database of its own, and a worker's part played by hand.

use sluice_domain::{
    CallId, Decision, IncarnationId, JobId, JobState, LeasedJob, NanoUsd, NewJob, Outcome, PairFloors,
    Settlement, StoredAnswer, SubmitOutcome, TenantName, UpstreamUse, Usage,
};
use sluice_store::{BoardEntry, Bodies, Grant, NewIncarnation, Store};
use sluice_testkit::TestDatabase;

pub struct Fixture {
    pub database: TestDatabase,
    pub store: Store,
    pub tenant: TenantName,
}

impl Fixture {
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = Store::from_pool(database.pool().clone());
        Self { database, store, tenant: TenantName::default_tenant() }
    }

    pub async fn incarnation(&self) -> IncarnationId {
        self.start_incarnation(false).await
    }

    /// One that runs suspects in a process of their own.
    pub async fn isolating_incarnation(&self) -> IncarnationId {
        self.start_incarnation(true).await
    }

    async fn start_incarnation(&self, isolates_suspects: bool) -> IncarnationId {
        let id = IncarnationId::generate();
        let new = NewIncarnation {
            id,
            worker: "test".to_owned(),
            host: "host".to_owned(),
            lock_path: None,
            pid: 1,
            version: "0".to_owned(),
            isolates_suspects,
        };
        self.store.incarnation_start(&new).await.unwrap();
        id
    }

    pub async fn submit(&self, job: &NewJob) -> JobId {
        match self.store.submit(job).await.unwrap() {
            SubmitOutcome::Created(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Leases everything that the board shows.
    pub async fn lease(&self, incarnation: IncarnationId, limit: u32) -> Vec<LeasedJob> {
        let board = self.store.board(None, None).await.unwrap();
        let mut entries: Vec<_> = board.into_iter().filter(|entry| entry.age.is_some()).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.priority));
        let grants: Vec<Grant> = entries.iter().map(|entry| grant(entry, limit)).collect();
        self.store.lease_many(incarnation, &grants, limit).await.unwrap()
    }

    pub async fn lease_one(&self, incarnation: IncarnationId) -> LeasedJob {
        self.lease(incarnation, 1).await.pop().expect("a job to lease")
    }

    pub async fn state(&self, id: JobId) -> JobState {
        self.store.job(&self.tenant, id, Bodies::LeftOut).await.unwrap().expect("the job").state
    }

    /// Makes an incarnation's last beat look a minute old.
    pub async fn stop_beating(&self, incarnation: IncarnationId) {
        sqlx::query("UPDATE sluice.incarnations SET beat_at = beat_at - interval '1 minute' WHERE id = $1")
            .bind(incarnation.as_uuid())
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    /// Returns once a statement on this database waits for a lock.
    pub async fn somebody_waits_for_a_lock(&self) {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(self.database.pool()).await.unwrap() {
            tokio::task::yield_now().await;
        }
    }

    pub async fn count(&self, table: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM sluice.{table}")))
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }
}

/// The settlement of a leased job whose call was answered well.
pub fn success(incarnation: IncarnationId, leased: &LeasedJob, body: &[u8]) -> Settlement {
    Settlement {
        job_id: leased.job_id,
        lease_id: leased.lease_id,
        incarnation_id: incarnation,
        generation: leased.generation,
        lease_no: leased.lease_no,
        outcome: Outcome::Succeeded,
        decision: Decision::Succeed,
        error: None,
        answer: Some(StoredAnswer {
            status_code: 200,
            body: body.to_vec(),
            is_truncated: false,
            is_assembled: false,
        }),
        usage: Some(Usage { input_tokens: 7, cached_input_tokens: 2, output_tokens: 5, reasoning_tokens: 1 }),
        cost: NanoUsd(1_234),
        call: Some(UpstreamUse {
            call_id: CallId::generate(),
            upstream: "sim".to_owned(),
            model: leased.model.to_string(),
            answered_model: None,
            request_id: Some("r-1".to_owned()),
        }),
        call_duration: None,
        time_to_first_byte: None,
    }
}

/// A grant of so many jobs of a pair, from the beginning of its lines.
pub fn grant(entry: &BoardEntry, limit: u32) -> Grant {
    let (lane_id, priority) = (entry.lane_id, entry.priority);
    Grant { lane_id, priority, limit, floors: PairFloors::default() }
}
