//! Starting a worker: wiring, nothing else.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use sluice_config::Configuration;
use sluice_store::{BreakerTold, Doorbell, Ringer, Store};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    ConfigurationSource, WorkerError, WorkerHandle, WorkerOptions,
    adaptive::Adaptive,
    adaptive_keeper, beat, breaker_keeper,
    breakers::Breakers,
    called::Called,
    cooldowns::Cooldowns,
    core::{Core, Phase, Signals},
    drain, hand_back, health,
    incarnation::{Identity, Incarnation, bounded},
    lane_limits::Rooms,
    lease::HeldLeases,
    lease_loop::{self, Work},
    listener,
    pauses::Pauses,
    retry_budget::RetryBudgets,
    routing::Routing,
    settle::{self, Settler},
    slots::Slots,
    spool::Spool,
    streams::Streams,
    suspect::Suspects,
    watchdog,
};

/// Between two rings of the same bell.
const RING_GAP: Duration = Duration::from_millis(20);

/// Starts workers.
pub struct Worker;

impl Worker {
    /// Starts a worker on the present tokio runtime. It works until its handle says otherwise.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(options: WorkerOptions) -> Result<WorkerHandle, WorkerError> {
        let WorkerOptions { store, timing, mode, .. } = options;
        let listener = match options.metrics_listen {
            Some(listen) => Some(health::bind(listen).await?),
            None => None,
        };
        let work = Work {
            tenant: options.tenant,
            queues: options.queues,
            mode,
            configuration: options.configuration,
            secrets: options.secrets,
        };
        let routing = load_routing(&store, &work, &Arc::default()).await?;
        let pauses = load_pauses(&store).await?;
        let breakers = load_breakers(&store, &routing).await?;
        let metrics = options.metrics.worker();
        let failed = |source| WorkerError::Store { doing: "read which database this is", source };
        let database = bounded(store.database_id()).await.map_err(failed)?;
        store.belongs_to(database);
        let spool = options.spool.map(|options| (options, database));
        let spool = Arc::new(Spool::new(spool, metrics.clone()));
        let suspects = Suspects::new(options.suspect_command, timing.stuck_after());
        let identity = Identity {
            worker: options.name,
            host: options.host,
            lock_dir: options.lock_dir,
            spool: spool.own_path(),
            isolates_suspects: suspects.are_isolated(),
        };
        let incarnation = Incarnation::begin(&store, identity, timing).await?;
        let (settler, unsettled) = Settler::new();
        let (returns, returned) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            timing,
            metrics,
            incarnation,
            held: HeldLeases::default(),
            called: Called::default(),
            slots: Slots::new(options.concurrency),
            streams: Streams::start(store.clone()),
            suspects,
            pauses,
            breakers,
            retry_budgets: RetryBudgets::new(),
            newest_configuration: AtomicI64::new(routing.version),
            routing: ArcSwap::from_pointee(routing),
            wants_secrets: AtomicBool::new(false),
            blocked: std::sync::Mutex::default(),
            rooms: Rooms::default(),
            adaptive: Adaptive::default(),
            cooldowns: Cooldowns::new(options.concurrency),
            signals: Arc::new(Signals::default()),
            phase: watch::Sender::new(Phase::Working),
            failure: OnceLock::new(),
            settler,
            spool,
            returns,
            ready: Ringer::start(store.clone(), Doorbell::Ready, RING_GAP),
            ended: Ringer::start(store.clone(), Doorbell::Ended, RING_GAP),
            runtime: Handle::current(),
            store,
        });
        beat::start(&core).map_err(WorkerError::Thread)?;
        settle::start(&core, unsettled, options.settled);
        tokio::spawn(settle::take_over_now_and_then(Arc::clone(&core)));
        if core.suspects.are_isolated() {
            watchdog::start(&core, timing.stuck_after()).map_err(WorkerError::Thread)?;
        }
        tokio::spawn(hand_back::run(Arc::clone(&core), returned));
        tokio::spawn(listener::run(Arc::clone(&core)));
        tokio::spawn(breaker_keeper::run(Arc::clone(&core)));
        tokio::spawn(adaptive_keeper::run(Arc::clone(&core)));
        if let Some(listener) = listener {
            tokio::spawn(health::serve(Arc::clone(&core), options.metrics, listener));
        }
        tokio::spawn(live(Arc::clone(&core), work));
        Ok(WorkerHandle::new(core))
    }
}

/// What is paused now: the first beat would come too late for the first lease.
async fn load_pauses(store: &Store) -> Result<Pauses, WorkerError> {
    let failed = |source| WorkerError::Store { doing: "read what is paused", source };
    let listed = bounded(store.pauses()).await.map_err(failed)?;
    let pauses = Pauses::default();
    pauses.told(listed.into_iter().map(|pause| (pause.kind, pause.name)).collect(), Duration::ZERO);
    Ok(pauses)
}

/// Which breakers are open now.
async fn load_breakers(store: &Store, routing: &Routing) -> Result<Arc<Breakers>, WorkerError> {
    let failed = |source| WorkerError::Store { doing: "read which upstreams fail", source };
    let listed = bounded(store.breakers_open()).await.map_err(failed)?;
    let breakers = Breakers::new();
    breakers.set_policy(routing.breaker());
    let told = listed.into_iter().map(|open| BreakerTold {
        upstream: open.upstream,
        // The database says whether it is time.
        trial_in: Duration::ZERO,
        failed_trials: open.failed_trials,
    });
    breakers.told(told.collect(), Duration::ZERO);
    Ok(breakers)
}

async fn live(core: Arc<Core>, work: Work) {
    tokio::select! {
        () = settle::take_over_first(&core) => {}
        () = core.reached(Phase::NotStarting) => {}
    }
    lease_loop::run(&core, &work).await;
    drain::finish(&core, work.mode).await;
}

/// The configuration that counts now, with its secrets looked up. Without any, nothing is routed.
pub(crate) async fn load_routing(
    store: &Store,
    work: &Work,
    before: &Arc<Routing>,
) -> Result<Routing, WorkerError> {
    let (version, configuration) = match &work.configuration {
        ConfigurationSource::Fixed(configuration) => (0, configuration.clone()),
        ConfigurationSource::Database => {
            let failed = |source| WorkerError::Store { doing: "read the configuration", source };
            let Some(applied) = bounded(store.configuration()).await.map_err(failed)? else {
                return Ok(Routing::default());
            };
            let parsed = Configuration::parse(&applied.document);
            let version = applied.version;
            (version, parsed.map_err(|source| WorkerError::Configuration { version, source })?)
        }
    };
    let (secrets, before) = (Arc::clone(&work.secrets), Arc::clone(before));
    // Certificates and secrets are read from files.
    let built =
        tokio::task::spawn_blocking(move || Routing::build(version, configuration, &before, &*secrets)).await;
    Ok(built.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
}
