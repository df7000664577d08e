//! The loops that keep the queue healthy. There is no leader: every scheduler runs every loop, each statement passes
//! over what another holds, and any scheduler can die at any time. A loop takes no input but time, and repeating it
//! changes nothing.
//!
//! Idle, all loops together ask 1.0 times a second at most: a scan each 2 s, dead processes each 6 s, deadlines
//! each 10 s, how leases stand each 15 s, batches each 30 s, what is kept for minutes only each minute, the rest hourly. Where
//! webhooks are configured, these are looked for each 10 s beside.

mod deadlines;
mod janitor;
mod known_dead;
mod lease_watch;
mod pace;
mod reaper;
mod sweeper;

use std::time::Duration;

use sluice_config::Configuration;
use sluice_store::Store;
use sluice_telemetry::SchedulerMetrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    deadlines::DeadlineEnder, janitor::Janitor, known_dead::KnownDeadEnder, lease_watch::LeaseWatch,
    reaper::LeaseReaper, sweeper::Sweeper,
};
use crate::{
    batches::{BatchBell, BatchMover},
    webhooks::{WebhookBell, WebhookSender},
};

/// Batches that are moved on at once: one that is being read holds up no other.
const BATCH_MOVERS: usize = 2;

/// How the loops run.
#[derive(Clone)]
pub struct MaintenanceOptions {
    /// How old a worker's beat may be.
    pub lease_ttl: Duration,
    /// Between two scans for dead workers.
    pub scan: Duration,
    /// Which host and boot this is, as workers write it into their rows: only lock files of the same host are judged.
    pub host: String,
    /// How long results are kept.
    pub keep_results: Duration,
    /// How long the ledger is kept.
    pub keep_ledger: Duration,
    /// Where expired leases and the brake are shown.
    pub metrics: SchedulerMetrics,
    /// Tells of batches; that of a server in the same process.
    pub batch_bell: BatchBell,
    /// Tells of webhooks; that of a server in the same process.
    pub webhook_bell: WebhookBell,
    /// The configuration of workers that do not follow the database's.
    pub fixed_configuration: Option<Configuration>,
}

impl MaintenanceOptions {
    /// The usual: TTL 15 s, a scan each 2 s, results for 90 days, the ledger for 400.
    pub fn new(host: impl Into<String>, metrics: SchedulerMetrics) -> Self {
        Self {
            lease_ttl: Duration::from_secs(15),
            scan: Duration::from_secs(2),
            host: host.into(),
            keep_results: Duration::from_hours(90 * 24),
            keep_ledger: Duration::from_hours(400 * 24),
            metrics,
            batch_bell: BatchBell::default(),
            webhook_bell: WebhookBell::default(),
            fixed_configuration: None,
        }
    }
}

/// Starts the loops.
#[derive(Debug)]
pub struct Maintenance;

/// The running loops; they end when this is dropped.
#[derive(Debug)]
pub struct MaintenanceHandle {
    stopping: CancellationToken,
    loops: JoinSet<()>,
}

impl Maintenance {
    /// Starts all loops. Needs a tokio runtime; returns at once. A database that is away is waited for.
    #[expect(clippy::needless_pass_by_value, reason = "the loops are all that the options are for")]
    pub fn start(store: Store, options: MaintenanceOptions) -> MaintenanceHandle {
        let stopping = CancellationToken::new();
        let mut loops = JoinSet::new();
        let janitor = Janitor::new(store.clone(), &options);
        let reaper = LeaseReaper::new(store.clone(), &options);
        let known_dead = KnownDeadEnder::new(store.clone(), &options);
        let watch = LeaseWatch::new(store.clone(), &options);
        let sweeper = Sweeper::new(store.clone());
        for _ in 0..BATCH_MOVERS {
            let mover = BatchMover::new(store.clone(), options.batch_bell.clone());
            spawn_until(&mut loops, &stopping, mover.run());
        }
        let webhooks = WebhookSender::new(
            store.clone(),
            options.webhook_bell.clone(),
            options.fixed_configuration.clone(),
            options.metrics.clone(),
        );
        let deadlines = DeadlineEnder::new(store);
        spawn_until(&mut loops, &stopping, reaper.run());
        spawn_until(&mut loops, &stopping, known_dead.run());
        spawn_until(&mut loops, &stopping, watch.run());
        spawn_until(&mut loops, &stopping, deadlines.run());
        spawn_until(&mut loops, &stopping, sweeper.run());
        spawn_until(&mut loops, &stopping, janitor.run());
        spawn_until(&mut loops, &stopping, webhooks.run());
        MaintenanceHandle { stopping, loops }
    }
}

impl MaintenanceHandle {
    /// Ends the loops. Statements under way are single ones: they happen wholly or not at all.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        while self.loops.join_next().await.is_some() {}
    }
}

impl Drop for MaintenanceHandle {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

fn spawn_until(
    loops: &mut JoinSet<()>,
    stopping: &CancellationToken,
    run: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = stopping.clone();
    loops.spawn(async move {
        stopping.run_until_cancelled(run).await;
    });
}
