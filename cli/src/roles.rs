//! The roles that run for long, as `worker`, `scheduler` and `up` start and stop them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_config::Configuration;
use sluice_domain::QueueName;
use sluice_scheduler::{
    BatchBell, GrpcServer, Keyless, Maintenance, MaintenanceHandle, MaintenanceOptions, SchedulerError,
    Server, ServerHandle, ServerOptions, WebhookBell,
};
use sluice_worker::{
    Blocked, BlockedBy, SpoolOptions, Timing, Unwritten, WorkerError, WorkerHandle, WorkerOptions,
    host_and_boot,
};

use crate::{
    args::GlobalArgs,
    attempt,
    commands::Context,
    database::Database,
    exit::{CliError, causes},
    filter,
    stop_signals::StopSignals,
};

/// Where workers' lock files lie, below the data directory.
const LOCK_FOLDER: &str = "workers";
/// Where outcomes wait that the database did not take, below the data directory.
const SPOOL_FOLDER: &str = "spool";

/// Options of whatever runs a worker.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkerArgs {
    /// Calls under way at once
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = concurrency)]
    pub concurrency: usize,
    /// Work only this queue; may be given several times
    #[arg(long = "queue", value_name = "QUEUE", value_parser = filter::queue_name)]
    pub queues: Vec<QueueName>,
    /// How long calls under way may take to end after Ctrl-C or SIGTERM
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "30s")]
    pub grace: Duration,
}

impl WorkerArgs {
    /// Puts them into a worker's options.
    pub fn fill(&self, options: &mut WorkerOptions, database: &Database, global: &GlobalArgs) {
        options.concurrency = self.concurrency;
        options.queues = (!self.queues.is_empty()).then(|| self.queues.clone());
        options.timing = Timing { grace: self.grace, ..lease_timing(global) };
        options.suspect_command = attempt::command();
        use_data_dir(options, database);
    }
}

/// Puts a worker's lock file and its spool into the data directory.
pub fn use_data_dir(options: &mut WorkerOptions, database: &Database) {
    // Absolute, since reapers in other folders look for the lock file, too.
    let below = |name: &str| {
        let folder = database.data_dir.join(name);
        std::path::absolute(&folder).unwrap_or(folder)
    };
    options.lock_dir = Some(below(LOCK_FOLDER));
    options.spool = Some(SpoolOptions::new(below(SPOOL_FOLDER)));
}

/// The folder of the spools in a data directory.
pub fn spool_folder(data_dir: &Path) -> PathBuf {
    data_dir.join(SPOOL_FOLDER)
}

/// Tells how a worker ended: which outcomes it could not write. An error where some are lost, or where it ended though
/// nobody asked it to.
pub fn tell_end(worker: &WorkerHandle) -> Result<(), CliError> {
    tell_unwritten(&worker.unwritten())?;
    worker.failure().map_or(Ok(()), |failure| Err(failed(failure)))
}

fn tell_unwritten(unwritten: &Unwritten) -> Result<(), CliError> {
    let folder = unwritten.folder.as_deref().unwrap_or(Path::new("")).display();
    if unwritten.in_spool > 0 {
        eprintln!(
            "note: {} outcomes could not be written to the database and wait in {folder}; the next `sluice worker`, \
             `up` or `run` with this data directory and database writes them",
            unwritten.in_spool
        );
    }
    if unwritten.lost == 0 {
        return Ok(());
    }
    Err(CliError::unreachable(format!(
        "{} outcomes could be written neither to the database nor to the disk and are lost; their jobs run again when \
         their leases end: make room in the data directory before the next start",
        unwritten.lost
    )))
}

/// Options of whatever serves REST and gRPC.
#[derive(clap::Args, Clone, Debug)]
pub struct ListenArgs {
    /// Where REST is served; port 0 takes a free one
    #[arg(long, env = "SLUICE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where gRPC is served; port 0 takes a free one
    #[arg(long, env = "SLUICE_GRPC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub grpc_listen: SocketAddr,
    /// Serve other machines without API keys: something in front decides who may come in
    #[arg(long, env = "SLUICE_ALLOW_KEYLESS", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_keyless: bool,
}

impl ListenArgs {
    /// Who may reach the server.
    pub const fn keyless(&self) -> Keyless {
        if self.allow_keyless { Keyless::AnyAddress } else { Keyless::LoopbackOnly }
    }
}

/// A scheduler's two servers.
pub struct Servers {
    /// REST.
    pub rest: ServerHandle,
    /// gRPC.
    pub grpc: ServerHandle,
}

impl Servers {
    /// Starts both; `options` are REST's, and but for the address gRPC's.
    pub async fn start(options: ServerOptions, grpc_listen: SocketAddr) -> Result<Self, SchedulerError> {
        let grpc = ServerOptions { listen: grpc_listen, ..options.clone() };
        // REST last: it says whether the scheduler is ready.
        let grpc = GrpcServer::start(grpc).await?;
        Ok(Self { rest: Server::start(options).await?, grpc })
    }

    /// Where REST is served.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.rest.addr())
    }

    /// Where gRPC is served.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc.addr())
    }

    /// Stops both; what is under way may end within `grace`.
    pub async fn shutdown(self, grace: Duration) {
        tokio::join!(self.rest.shutdown(grace), self.grpc.shutdown(grace));
    }
}

/// The default, or what a test shortened: the beat in proportion.
pub fn lease_timing(global: &GlobalArgs) -> Timing {
    let usual = Timing::default();
    let Some(lease_ttl) = global.lease_ttl else { return usual };
    let share = lease_ttl.div_duration_f64(usual.lease_ttl);
    Timing { lease_ttl, beat_interval: usual.beat_interval.mul_f64(share), ..usual }
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=100_000) => Ok(count),
        _ => Err("must be 1 to 100000".to_owned()),
    }
}

/// What the servers of a process ring and its loops hear.
#[derive(Clone, Default)]
pub struct Bells {
    /// For batches.
    pub batches: BatchBell,
    /// For webhooks.
    pub webhooks: WebhookBell,
}

impl Bells {
    /// Those that servers with these options ring.
    pub fn of(options: &ServerOptions) -> Self {
        Self { batches: options.batch_bell.clone(), webhooks: options.webhook_bell.clone() }
    }
}

/// Starts the loops that expire leases, end deadlines, move batches on and tell of ends; `bells` are those of the server
/// beside them.
pub fn start_maintenance(
    database: &Database,
    context: &Context<'_>,
    bells: Bells,
    fixed_configuration: Option<Configuration>,
) -> MaintenanceHandle {
    let metrics = context.telemetry.metrics().scheduler();
    let mut options = MaintenanceOptions::new(host_and_boot(), metrics);
    options.batch_bell = bells.batches;
    options.webhook_bell = bells.webhooks;
    options.fixed_configuration = fixed_configuration;
    if let Some(lease_ttl) = context.global.lease_ttl {
        options.scan = options.scan.mul_f64(lease_ttl.div_duration_f64(options.lease_ttl));
        options.lease_ttl = lease_ttl;
    }
    Maintenance::start(database.store.clone(), options)
}

impl From<WorkerError> for CliError {
    fn from(error: WorkerError) -> Self {
        failed(&error)
    }
}

fn failed(error: &WorkerError) -> CliError {
    CliError::unreachable(format!("failed to {}", causes(error)))
}

/// Works until the worker ends by itself or is told to. The first signal drains: nothing more is started, calls under
/// way end within the grace, the rest is handed back at once. The second lets go of everything.
pub async fn work_until_stopped(worker: &WorkerHandle, stop: &mut StopSignals) {
    tokio::select! {
        () = worker.join() => return,
        () = stop.next() => {}
    }
    drain(worker, stop).await;
}

/// Drains a worker; one more signal stops it at once.
pub async fn drain(worker: &WorkerHandle, stop: &mut StopSignals) {
    let calls = worker.in_flight();
    tracing::info!(
        in_flight = calls,
        "draining: calls under way may end, nothing more is started; Ctrl-C stops at once"
    );
    tokio::select! {
        () = worker.drain() => return,
        () = stop.next() => {}
    }
    tracing::warn!("stopping at once: the answers of calls under way are lost");
    worker.stop_now().await;
}

/// What keeps jobs from running and what to do about it, a sentence each.
pub fn blocked_said(blocked: &[Blocked]) -> Vec<String> {
    let mut said: Vec<String> = blocked
        .iter()
        .map(|blocked| match &blocked.by {
            BlockedBy::UpstreamPaused(name) => {
                format!("upstream {name} is paused; resume it with `sluice resume --upstream {name}`")
            }
            BlockedBy::AccountPaused(name) => {
                format!("account {name} is paused; resume it with `sluice resume --account {name}`")
            }
            BlockedBy::ModelPaused { upstream, model } => format!(
                "upstream {upstream} forbids calls of model {model}, which is paused there; resume it with `sluice resume \
                 --upstream {upstream}`"
            ),
            BlockedBy::UpstreamFailing(name) => {
                format!("upstream {name} fails; it is called again when it works again")
            }
            BlockedBy::UpstreamUnusable { upstream, reason } => {
                format!("upstream {upstream} can't be called: {reason}")
            }
            BlockedBy::NotConfigured => {
                "no configuration was applied; apply one with `sluice apply -f sluice.yaml`".to_owned()
            }
        })
        .collect();
    said.sort();
    said.dedup();
    said
}
