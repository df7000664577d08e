//! The commands, a file each: its options, and what it does with them.

pub mod apply;
pub mod cancel;
pub mod doctor;
pub mod explain;
pub mod get;
pub mod keys;
pub mod list;
pub mod migrate;
pub mod pause;
pub mod queues;
pub mod release;
pub mod replay;
pub mod results;
pub mod run;
pub mod scheduler;
mod selection;
pub mod sim;
pub mod submit;
pub mod up;
pub mod upstreams;
pub mod watch;
pub mod webhooks;
pub mod worker;

use sluice_store::Store;
use sluice_telemetry::TelemetryGuard;

use crate::{
    args::{Command, GlobalArgs, OverRemote},
    database::{Database, Schema},
    exit::{CliError, Exit},
    home::{Home, Server, not_offered},
    stop_signals::StopSignals,
};

/// Connections of a command that ends by itself; actions on many jobs use several at once.
const CONNECTIONS: u32 = 6;

/// What every command gets.
pub struct Context<'a> {
    /// The global options.
    pub global: GlobalArgs,
    /// The process's metrics.
    pub telemetry: &'a TelemetryGuard,
}

impl Context<'_> {
    /// Opens the database, works on it, and closes it. Ctrl-C and SIGTERM end the work at its next await; each statement
    /// counts by itself, so what was done is kept.
    pub async fn with_store(
        &self,
        role: &str,
        work: impl AsyncFnOnce(&Store) -> Result<Exit, CliError>,
    ) -> Result<Exit, CliError> {
        let mut stop = StopSignals::listen()?;
        let database = Database::open(&self.global, role, CONNECTIONS, Schema::Require).await?;
        let result = tokio::select! {
            result = work(&database.store) => result,
            () = stop.next() => Ok(Exit::Interrupted),
        };
        database.close().await?;
        result
    }

    /// As [`Self::with_store`], where the jobs are: in the database, or behind the server of `--remote`.
    pub async fn with_home(
        &self,
        role: &str,
        work: impl AsyncFnOnce(&Home) -> Result<Exit, CliError>,
    ) -> Result<Exit, CliError> {
        let Some(url) = self.global.remote() else {
            return self.with_store(role, async |store| work(&Home::Database(store.clone())).await).await;
        };
        let mut stop = StopSignals::listen()?;
        let asking = async {
            let home = Home::Server(Server::connect(url, &self.global).await?);
            work(&home).await
        };
        tokio::select! {
            result = asking => result,
            () = stop.next() => Ok(Exit::Interrupted),
        }
    }
}

/// Runs a command to its end.
pub async fn dispatch(command: Command, context: &Context<'_>) -> Result<Exit, CliError> {
    if context.global.remote().is_some() {
        let (offer, name) = command.over_remote();
        let what = format!("`sluice {name}`");
        match offer {
            OverRemote::Offered => {}
            OverRemote::AskRest(call) => return Err(not_offered(&what, Some(call))),
            OverRemote::NeedsDatabase => return Err(not_offered(&what, None)),
        }
    }
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::Up(args) => up::run(args, context).await,
        Command::Scheduler(args) => scheduler::run(args, context).await,
        Command::Worker(args) => worker::run(args, context).await,
        Command::Migrate(args) => migrate::run(args, context).await,
        Command::Apply(args) => apply::run(args, context).await,
        Command::Submit(args) => submit::run(*args, context).await,
        Command::Get(args) => get::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Watch(args) => watch::run(args, context).await,
        Command::Cancel(args) => cancel::run(args, context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Replay(args) => replay::run(args, context).await,
        Command::Release(args) => release::run(args, context).await,
        Command::Results(args) => results::run(args, context).await,
        Command::Queues(args) => queues::run(args, context).await,
        Command::Pause(args) => pause::pause(args, context).await,
        Command::Resume(args) => pause::resume(args, context).await,
        Command::Upstreams(args) => upstreams::run(args, context).await,
        Command::Webhooks(args) => webhooks::run(args, context).await,
        Command::Keys(args) => keys::run(args, context).await,
        Command::Sim(args) => sim::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
    }
}
