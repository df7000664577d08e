//! `sluice up`: everything in one process.

use std::time::Duration;

use serde_json::json;
use sluice_config::{Configuration, difference};
use sluice_scheduler::ServerOptions;
use sluice_store::Store;
use sluice_worker::{ConfigurationSource, Worker, WorkerHandle, WorkerOptions};

use crate::{
    args::OutputFormat,
    commands::Context,
    configuration_file::{self, ApplyMode, GivenConfiguration},
    database::{Database, Schema},
    exit::{CliError, Exit},
    roles::{self, Bells, ListenArgs, Servers, WorkerArgs},
    run::SimulatorThread,
    stdout,
    stop_signals::StopSignals,
};

/// Connections of all roles together.
const CONNECTIONS: u32 = 30;
/// How long requests under way may take to end.
const SERVER_GRACE: Duration = Duration::from_secs(5);
/// How often it looks, while the simulator stands in, whether a configuration was applied.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Who applies, as the database shows it.
const APPLIED_BY: &str = "sluice up";

/// Run everything in one process: database, scheduler with REST and gRPC, a worker
///
/// Without --database-url a private Postgres is started. Upstreams come from the applied configuration; before the first
/// one from --config or ./sluice.yaml, else from DEEPSEEK_API_KEY, else the simulator stands in (private database only).
/// Ctrl-C drains; a second one stops at once.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice up
  DEEPSEEK_API_KEY=… sluice up --concurrency 100
  sluice up --config sluice.yaml --listen 127.0.0.1:9000")]
pub struct UpArgs {
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    worker: WorkerArgs,
}

/// Runs until it is told to stop.
pub async fn run(args: UpArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let mut stop = StopSignals::listen()?;
    let path = configuration_file::file_to_use(&context.global);
    let given = path.map(|path| GivenConfiguration::read(&path)).transpose()?;
    let database = Database::open(&context.global, "sluice-up", CONNECTIONS, Schema::Migrate).await?;
    let lived = live(&args, given.as_ref(), &database, &mut stop, context).await;
    let closed = database.close().await;
    lived?;
    closed.map(|()| Exit::Done)
}

/// Lives once with the simulator, where it stands in, and again when a configuration was applied.
async fn live(
    args: &UpArgs,
    given: Option<&GivenConfiguration>,
    database: &Database,
    stop: &mut StopSignals,
    context: &Context<'_>,
) -> Result<(), CliError> {
    let mut listen = args.listen.clone();
    loop {
        let upstreams = Upstreams::choose(given, database).await?;
        let roles = Roles::start(args, &listen, &upstreams, database, context).await?;
        // Free ports that were taken once are kept.
        (listen.listen, listen.grpc_listen) = (roles.servers.rest.addr(), roles.servers.grpc.addr());
        roles.announce(&upstreams, database, context)?;
        let end = tokio::select! {
            () = stop.next() => End::Stop,
            // By itself it ends only where it can't go on.
            () = roles.worker.join() => End::Stop,
            () = configuration_applied(&database.store), if upstreams.simulator.is_some() => End::Again,
        };
        roles.stop(stop).await?;
        if end == End::Stop {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Again,
}

/// Waits until there is a configuration.
async fn configuration_applied(store: &Store) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        // A database that is away is waited for, here as everywhere.
        if let Ok(Some(_)) = store.configuration().await {
            return;
        }
    }
}

/// Where calls go.
struct Upstreams {
    /// In words.
    said: String,
    /// Stands in while nothing is configured.
    simulator: Option<SimulatorThread>,
}

impl Upstreams {
    /// Finds them; applies what is given where that is for this command to do.
    async fn choose(given: Option<&GivenConfiguration>, database: &Database) -> Result<Self, CliError> {
        let store = &database.store;
        let current = configuration_file::current(store).await?;
        let said = match (given, current) {
            (Some(given), Some((applied, configuration))) if !database.is_private() => {
                tell_difference(given, &configuration, applied.version);
                format!("configuration {} of the database", applied.version)
            }
            (Some(given), _) => {
                let applied = configuration_file::apply(store, given, ApplyMode::Store, APPLIED_BY).await?;
                format!("{}, applied as version {}", given.name, applied.version)
            }
            (None, Some((applied, _))) => format!("configuration {} of the database", applied.version),
            (None, None) => return Self::without_configuration(database).await,
        };
        Ok(Self { said, simulator: None })
    }

    /// DeepSeek, where its key is there; else the simulator.
    async fn without_configuration(database: &Database) -> Result<Self, CliError> {
        if let Some(made) = Configuration::from_environment_defaults(|name| std::env::var(name).ok()) {
            let made = GivenConfiguration::made("DEEPSEEK_API_KEY", made);
            configuration_file::apply(&database.store, &made, ApplyMode::Store, APPLIED_BY).await?;
            return Ok(Self { said: "DeepSeek, by DEEPSEEK_API_KEY".to_owned(), simulator: None });
        }
        if !database.is_private() {
            let said = "none yet: jobs wait until a configuration is applied (`sluice apply -f sluice.yaml`)";
            return Ok(Self { said: said.to_owned(), simulator: None });
        }
        let said = "the simulator (made-up answers, no cost), since none is configured; set DEEPSEEK_API_KEY or apply a \
                    sluice.yaml for real ones";
        Ok(Self { said: said.to_owned(), simulator: Some(SimulatorThread::start()?) })
    }

    /// What the worker is told instead of the database's configuration.
    fn fixed(&self) -> Option<Configuration> {
        self.simulator.as_ref().map(|simulator| Configuration::simulator(&simulator.base_url))
    }
}

/// A shared database is not changed by who happens to start last.
fn tell_difference(given: &GivenConfiguration, configuration: &Configuration, version: i64) {
    let changes = difference(configuration, &given.configuration);
    if changes.is_empty() {
        return;
    }
    tracing::warn!(
        file = given.name,
        version,
        changes = changes.len(),
        "the file differs from the applied configuration, which counts; `sluice apply` changes it"
    );
    for change in changes {
        tracing::warn!(path = change.path, change = %change, "a difference between the file and what counts");
    }
}

/// All roles, running.
struct Roles {
    servers: Servers,
    maintenance: sluice_scheduler::MaintenanceHandle,
    worker: WorkerHandle,
}

impl Roles {
    async fn start(
        args: &UpArgs,
        listen: &ListenArgs,
        upstreams: &Upstreams,
        database: &Database,
        context: &Context<'_>,
    ) -> Result<Self, CliError> {
        let metrics = context.telemetry.metrics().clone();
        let store = database.store.clone();
        let mut server = ServerOptions::new(store.clone(), listen.listen, metrics.clone());
        server.keyless = listen.keyless();
        server.fixed_configuration = upstreams.fixed();
        let source = upstreams.fixed().map_or(ConfigurationSource::Database, ConfigurationSource::Fixed);
        let mut worker = WorkerOptions::new(store, source, metrics);
        args.worker.fill(&mut worker, database, &context.global);
        "up".clone_into(&mut worker.name);
        let bells = Bells::of(&server);
        let servers = Servers::start(server, listen.grpc_listen).await?;
        let maintenance = roles::start_maintenance(database, context, bells, upstreams.fixed());
        Ok(Self { servers, maintenance, worker: Worker::start(worker).await? })
    }

    fn announce(
        &self,
        upstreams: &Upstreams,
        database: &Database,
        context: &Context<'_>,
    ) -> Result<(), CliError> {
        let (url, grpc_url) = (self.servers.rest_url(), self.servers.grpc_url());
        match context.global.output {
            OutputFormat::Json => stdout::json(&json!({
                "object": "up", "url": url, "grpc_url": grpc_url, "database": database.place, "upstreams": upstreams.said,
                "simulator": upstreams.simulator.as_ref().map(|simulator| &simulator.base_url),
            })),
            OutputFormat::Table => {
                let place = &database.place;
                stdout::line(&format!("Sluice is up: {url}, gRPC at {grpc_url} (database: {place})."))?;
                stdout::line(&format!("Upstreams: {}.", upstreams.said))
            }
        }
    }

    /// No new requests, then no new calls; what is under way may end.
    async fn stop(self, stop: &mut StopSignals) -> Result<(), CliError> {
        let serving = tokio::spawn(self.servers.shutdown(SERVER_GRACE));
        roles::drain(&self.worker, stop).await;
        self.maintenance.stop().await;
        tokio::select! {
            _ = serving => {}
            () = stop.next() => {}
        }
        roles::tell_end(&self.worker)
    }
}
