//! `sluice worker`: the role that leases jobs and calls upstreams.

use std::net::SocketAddr;

use sluice_worker::{ConfigurationSource, WorkMode, Worker, WorkerOptions};

use crate::{
    commands::Context,
    configuration_file,
    database::{Database, Schema},
    exit::{CliError, Exit},
    roles::{self, Bells, WorkerArgs},
    stop_signals::StopSignals,
};

/// Connections of a worker: leases, settles, hand-backs; the beat and LISTEN have their own.
const CONNECTIONS: u32 = 10;

/// Work jobs: lease them, call upstreams, store what comes back
///
/// Any number of workers share the queue. SIGTERM or Ctrl-C drains: calls under way end, the rest is handed back at
/// once; a second one stops at once.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice worker --concurrency 200
  sluice worker --until-idle                  end when nothing is left to do
  sluice worker --queue nightly --queue bulk
  SLUICE_METRICS_LISTEN=0.0.0.0:9090 sluice worker")]
pub struct WorkerCommandArgs {
    #[command(flatten)]
    worker: WorkerArgs,
    /// End when nothing is left to do: 0 if all is done, 3 if jobs wait for something that is paused or missing
    #[arg(long)]
    until_idle: bool,
    /// Its name, for people
    #[arg(long, value_name = "NAME", default_value = "worker")]
    name: String,
    /// Where /healthz, /readyz and /metrics are served; default nowhere
    #[arg(long, env = "SLUICE_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

/// Works until it is told to stop, or until nothing is left.
pub async fn run(args: WorkerCommandArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let stop = StopSignals::listen()?;
    let database = Database::open(&context.global, "sluice-worker", CONNECTIONS, Schema::Require).await?;
    let worked = work(args, &database, stop, context).await;
    let closed = database.close().await;
    let exit = worked?;
    closed.map(|()| exit)
}

async fn work(
    args: WorkerCommandArgs,
    database: &Database,
    mut stop: StopSignals,
    context: &Context<'_>,
) -> Result<Exit, CliError> {
    if configuration_file::current(&database.store).await?.is_none() {
        eprintln!("note: no configuration was applied yet; jobs wait until `sluice apply -f sluice.yaml`");
    }
    let metrics = context.telemetry.metrics().clone();
    let mut options = WorkerOptions::new(database.store.clone(), ConfigurationSource::Database, metrics);
    args.worker.fill(&mut options, database, &context.global);
    options.name = args.name;
    options.metrics_listen = args.metrics_listen;
    options.mode = if args.until_idle { WorkMode::UntilIdle } else { WorkMode::Forever };
    // A private database may have no scheduler that looks after it.
    let maintenance =
        database.is_private().then(|| roles::start_maintenance(database, context, Bells::default(), None));
    let worker = Worker::start(options).await?;
    roles::work_until_stopped(&worker, &mut stop).await;
    if let Some(maintenance) = maintenance {
        maintenance.stop().await;
    }
    roles::tell_end(&worker)?;
    let blocked = roles::blocked_said(&worker.blocked());
    if args.until_idle && !blocked.is_empty() {
        return Err(CliError::unreachable(format!("jobs are left that can't run: {}", blocked.join("; "))));
    }
    Ok(Exit::Done)
}
