//! What makes all workers look dead, and must not: a clock that jumps, a database that stands still.

use std::time::Duration;

use sluice_domain::{IncarnationId, JobId, JobState, PairFloors, TenantName};
use sluice_scheduler::{Maintenance, MaintenanceHandle, MaintenanceOptions};
use sluice_store::{Bodies, Grant, NewIncarnation, Store, StoreOptions, WorkerLoad};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{TestCluster, TestDatabase, job, wait_until};
use tokio::task::JoinHandle;

/// Far longer than a beat is late on a busy machine.
const TTL: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_mins(1);

/// A reaper, and a worker that beats and holds the lease of one job.
struct Scene {
    store: Store,
    registry: MetricsRegistry,
    worker: IncarnationId,
    job: JobId,
    beats: JoinHandle<()>,
    maintenance: MaintenanceHandle,
}

impl Scene {
    async fn begin(url: &str) -> Self {
        let store = Store::connect(&StoreOptions::new(url)).await.unwrap();
        let new = NewIncarnation {
            id: IncarnationId::generate(),
            worker: "w".to_owned(),
            host: "elsewhere".to_owned(),
            lock_path: None,
            pid: 1,
            version: "0".to_owned(),
            isolates_suspects: false,
        };
        store.incarnation_start(&new).await.unwrap();
        let beats = tokio::spawn(beat(store.clone(), new.id));
        let waiting = job().build();
        store.submit(&waiting).await.unwrap();
        lease(&store, new.id).await;
        let registry = MetricsRegistry::new().unwrap();
        let mut options = MaintenanceOptions::new("host", registry.scheduler());
        options.lease_ttl = TTL;
        options.scan = Duration::from_millis(200);
        let maintenance = Maintenance::start(store.clone(), options);
        let scene = Self { store, registry, worker: new.id, job: waiting.id, beats, maintenance };
        scene.until_shown("sluice_brake_engaged 0").await;
        scene
    }

    async fn until_shown(&self, line: &str) {
        let is_shown = async || self.registry.render_prometheus().lines().any(|shown| shown == line);
        wait_until(line, SOON, is_shown).await;
    }

    fn engagements(&self, cause: &str) -> u64 {
        let name = format!("sluice_brake_engagements_total{{sluice_brake_cause=\"{cause}\"}} ");
        let page = self.registry.render_prometheus();
        page.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    /// The brake is engaged for `cause` by what `happens`, and let go again.
    async fn braked(&self, cause: &str, happens: impl AsyncFnOnce()) {
        let before = self.engagements(cause);
        happens().await;
        wait_until("the brake to be engaged", SOON, async || self.engagements(cause) > before).await;
        self.until_shown("sluice_brake_engaged 0").await;
    }

    async fn state(&self) -> JobState {
        let job = self.store.job(&TenantName::default_tenant(), self.job, Bodies::LeftOut).await;
        job.unwrap().unwrap().state
    }

    async fn has_its_lease(&self) -> bool {
        let workers = self.store.workers().await.unwrap();
        self.state().await == JobState::Running && workers.iter().any(|worker| worker.id == self.worker)
    }
}

/// Beats until it is aborted, as a worker does: in vain beats are given up.
async fn beat(store: Store, worker: IncarnationId) {
    loop {
        let beating = async {
            let mut connection = store.beat_connection().await?;
            loop {
                connection.beat(worker, WorkerLoad::default()).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let failed: Result<(), sluice_store::StoreError> = beating.await;
        assert!(failed.is_err(), "it beats until something fails");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn lease(store: &Store, worker: IncarnationId) {
    let entry = store.board(None, None).await.unwrap().remove(0);
    let floors = PairFloors::default();
    let grant = Grant { lane_id: entry.lane_id, priority: entry.priority, limit: 1, floors };
    assert_eq!(store.lease_many(worker, &[grant], 1).await.unwrap().len(), 1);
}

/// A database whose clock can be set: whatever asks for the time asks a function of its own.
async fn database_with_a_clock() -> TestDatabase {
    let database = TestDatabase::new().await;
    let statement = "
        CREATE SCHEMA skewed;
        CREATE TABLE skewed.clock (ahead interval NOT NULL);
        INSERT INTO skewed.clock VALUES ('0');
        CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
            AS 'SELECT pg_catalog.clock_timestamp() + (SELECT ahead FROM skewed.clock)';
        DO $$
        DECLARE v_function regprocedure;
        BEGIN
            FOR v_function IN SELECT oid FROM pg_proc WHERE pronamespace = 'sluice'::regnamespace LOOP
                EXECUTE format('ALTER FUNCTION %s SET search_path = skewed, pg_catalog, sluice, pg_temp', v_function);
            END LOOP;
            EXECUTE format('ALTER DATABASE %I SET search_path = skewed, pg_catalog, public', current_database());
        END $$";
    sqlx::raw_sql(statement).execute(database.pool()).await.unwrap();
    database
}

async fn set_clock(database: &TestDatabase, ahead: &str) {
    sqlx::query("UPDATE skewed.clock SET ahead = $1::text::interval")
        .bind(ahead)
        .execute(database.pool())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_takes_no_lease_from_a_beating_worker() {
    let database = database_with_a_clock().await;
    let scene = Scene::begin(&database.url()).await;
    for ahead in ["1 hour", "0", "-1 hour"] {
        scene.braked("clock", async || set_clock(&database, ahead).await).await;
        assert!(scene.has_its_lease().await, "{ahead}");
    }
    scene.until_shown("sluice_incarnations{sluice_beat=\"fresh\"} 1").await;
    // A worker that died before its clock was set back does not keep its leases until the clock has caught up.
    scene.beats.abort();
    set_clock(&database, "-2 hours").await;
    wait_until("the lease to end", SOON, async || scene.state().await == JobState::Queued).await;
    scene.maintenance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stands_still_takes_no_lease_from_a_beating_worker() {
    if !TestCluster::is_possible() {
        return;
    }
    let cluster = TestCluster::start().await;
    let scene = Scene::begin(cluster.url()).await;
    let stands_still = async || {
        cluster.pause();
        tokio::time::sleep(2 * TTL).await;
        cluster.resume();
    };
    scene.braked("outage", stands_still).await;
    assert!(scene.has_its_lease().await);
    scene.beats.abort();
    scene.maintenance.stop().await;
}
