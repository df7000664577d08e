//! `sluice scheduler`: the role that accepts jobs, answers for them, and keeps the queue healthy.

use std::time::Duration;

use serde_json::json;
use sluice_scheduler::ServerOptions;

use crate::{
    args::OutputFormat,
    commands::Context,
    database::{Database, Schema},
    exit::{CliError, Exit},
    roles::{self, Bells, ListenArgs, Servers},
    stdout,
    stop_signals::StopSignals,
};

/// Connections of a scheduler: requests and loops.
const CONNECTIONS: u32 = 20;
/// How long requests under way may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Serve REST and gRPC and keep the queue healthy; any number of them
///
/// Makes no calls: that is what workers are for.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice scheduler
  SLUICE_LISTEN=127.0.0.1:9000 sluice scheduler
  curl -s localhost:8080/v1/jobs -d '{\"body\":{\"model\":\"deepseek-flash\",\"messages\":[…]}}'")]
pub struct SchedulerArgs {
    #[command(flatten)]
    listen: ListenArgs,
}

/// Serves until it is told to stop.
pub async fn run(args: SchedulerArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let mut stop = StopSignals::listen()?;
    let database = Database::open(&context.global, "sluice-scheduler", CONNECTIONS, Schema::Require).await?;
    let served = serve(&args, &database, &mut stop, context).await;
    database.close().await?;
    served
}

async fn serve(
    args: &SchedulerArgs,
    database: &Database,
    stop: &mut StopSignals,
    context: &Context<'_>,
) -> Result<Exit, CliError> {
    let metrics = context.telemetry.metrics().clone();
    let mut options = ServerOptions::new(database.store.clone(), args.listen.listen, metrics);
    options.keyless = args.listen.keyless();
    let bells = Bells::of(&options);
    let servers = Servers::start(options, args.listen.grpc_listen).await?;
    let maintenance = roles::start_maintenance(database, context, bells, None);
    let (url, grpc_url) = (servers.rest_url(), servers.grpc_url());
    match context.global.output {
        OutputFormat::Json => {
            stdout::json(&json!({ "object": "scheduler", "url": url, "grpc_url": grpc_url }))?;
        }
        OutputFormat::Table => {
            let place = &database.place;
            stdout::line(&format!(
                "The scheduler serves {url}, and gRPC at {grpc_url} (database: {place})."
            ))?;
        }
    }
    stop.next().await;
    tokio::select! {
        () = servers.shutdown(GRACE) => {}
        () = stop.next() => {}
    }
    maintenance.stop().await;
    Ok(Exit::Done)
}
