//! Starting and ending workers, servers and maintenance loops: the public async functions of `worker` and `scheduler`
//! that are no single questions. Each is polled n times and dropped; what was begun must then end by itself or when it is
//! told again, and leave nothing behind.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use sluice_config::Configuration;
use sluice_scheduler::{GrpcServer, Maintenance, MaintenanceOptions, Server, ServerHandle, ServerOptions};
use sluice_store::Store;
use sluice_telemetry::MetricsRegistry;
use sluice_worker::{ConfigurationSource, WorkMode, Worker, WorkerHandle, WorkerOptions};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{polled, stage};

/// Longer than any of these takes on a slow machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// No request is under way.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the function ended by itself within so many polls.
type Run = for<'a> fn(&'a Store, usize) -> BoxFuture<'a, Result<bool>>;

/// One function, and how it is dropped.
pub struct HandleAct {
    /// Its crate and its name.
    pub name: (&'static str, &'static str),
    /// Polls it so many times and drops it; then everything that it began is over.
    pub run: Run,
}

/// All of them. Of the two servers, which have the same functions, both.
pub fn handles() -> Vec<HandleAct> {
    let act = |name, run| HandleAct { name, run };
    vec![
        act(("worker", "start"), |store, polls| Box::pin(start_worker(store, polls))),
        act(("worker", "drain"), |store, polls| Box::pin(drain(store, polls))),
        act(("worker", "stop_now"), |store, polls| Box::pin(stop_now(store, polls))),
        act(("worker", "join"), |store, polls| Box::pin(join(store, polls))),
        act(("scheduler", "start"), |store, polls| {
            Box::pin(async move { serve(Server::start(server_options(store)?), polls).await })
        }),
        act(("scheduler", "start"), |store, polls| {
            Box::pin(async move { serve(GrpcServer::start(server_options(store)?), polls).await })
        }),
        act(("scheduler", "shutdown"), |store, polls| {
            Box::pin(async move { shut_down(Server::start(server_options(store)?).await?, polls).await })
        }),
        act(("scheduler", "shutdown"), |store, polls| {
            Box::pin(async move { shut_down(GrpcServer::start(server_options(store)?).await?, polls).await })
        }),
        act(("scheduler", "stop"), |store, polls| Box::pin(stop_maintenance(store, polls))),
    ]
}

async fn start_worker(store: &Store, polls: usize) -> Result<bool> {
    match polled(Worker::start(worker_options(store, WorkMode::Forever)?), polls).await {
        Some(started) => ended(&started?).await.map(|()| true),
        None => Ok(false),
    }
}

async fn drain(store: &Store, polls: usize) -> Result<bool> {
    let handle = Worker::start(worker_options(store, WorkMode::Forever)?).await?;
    let drained = polled(handle.drain(), polls).await;
    ended(&handle).await?;
    Ok(drained.is_some())
}

async fn stop_now(store: &Store, polls: usize) -> Result<bool> {
    let handle = Worker::start(worker_options(store, WorkMode::Forever)?).await?;
    let stopped = polled(handle.stop_now(), polls).await;
    ended(&handle).await?;
    Ok(stopped.is_some())
}

async fn join(store: &Store, polls: usize) -> Result<bool> {
    let handle = Worker::start(worker_options(store, WorkMode::UntilIdle)?).await?;
    let joined = polled(handle.join(), polls).await;
    ended(&handle).await?;
    Ok(joined.is_some())
}

/// Drains a worker, whatever it was told before.
async fn ended(handle: &WorkerHandle) -> Result<()> {
    timeout(PATIENCE, handle.drain()).await.context("drain a worker")
}

async fn serve<E: std::error::Error + Send + Sync + 'static>(
    starting: impl Future<Output = Result<ServerHandle, E>>,
    polls: usize,
) -> Result<bool> {
    match polled(starting, polls).await {
        Some(started) => shut_down(started?, usize::MAX).await,
        None => Ok(false),
    }
}

async fn shut_down(server: ServerHandle, polls: usize) -> Result<bool> {
    let address = server.addr();
    let stopped = polled(server.shutdown(GRACE), polls).await;
    nobody_listens(address).await?;
    Ok(stopped.is_some())
}

async fn nobody_listens(address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        ensure!(begun.elapsed() < PATIENCE, "a server that was dropped still listens");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn stop_maintenance(store: &Store, polls: usize) -> Result<bool> {
    let metrics = MetricsRegistry::new()?;
    let handle = Maintenance::start(store.clone(), MaintenanceOptions::new("nowhere", metrics.scheduler()));
    Ok(polled(handle.stop(), polls).await.is_some())
}

fn worker_options(store: &Store, mode: WorkMode) -> Result<WorkerOptions> {
    let configuration = ConfigurationSource::Fixed(Configuration::parse(stage::CONFIGURATION)?);
    Ok(WorkerOptions { mode, ..WorkerOptions::new(store.clone(), configuration, MetricsRegistry::new()?) })
}

fn server_options(store: &Store) -> Result<ServerOptions> {
    Ok(ServerOptions::new(store.clone(), "127.0.0.1:0".parse()?, MetricsRegistry::new()?))
}
