//! The HTTP server: listening, limits on what clients may do to it, and the routes. Each endpoint stands in a file of
//! its own under `handlers`.

mod admission;
mod api_error;
mod app;
mod database;
mod document;
mod examples;
mod extract;
mod listen;
mod measure;
mod places;
mod routes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use sluice_config::Configuration;
use sluice_domain::TenantName;
use sluice_store::Store;
use sluice_telemetry::MetricsRegistry;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::listen::Listening;
pub(crate) use self::listen::Protocol;
pub use self::routes::openapi_json;
pub(crate) use self::{
    admission::{MayAdminister, MayCancel, MayOperate, MayRead, MayReplay, MaySubmit, app_for, peer_of},
    api_error::{ApiError, ErrorBody, SHOULD_RETRY},
    app::{App, Shared},
    database::{READ_PATIENCE, SCAN_PATIENCE, asked},
    extract::{JobIdInPath, MAX_REQUEST_BYTES, NameInPath, QueryPairs, RequestBody},
};
use crate::{BatchBell, SchedulerError, WebhookBell, gates, handlers::metrics::keep_depths_fresh};

/// Whether a server may be reached from other machines while there are no API keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keyless {
    /// It listens on a loopback address, and answers only requests that name it so.
    #[default]
    LoopbackOnly,
    /// The operator has said so (`SLUICE_ALLOW_KEYLESS=1`): something before it decides who may come in.
    AnyAddress,
}

/// What a client may do to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Connections at once. Further ones take the place of those on which nothing is asked, or wait where there are none.
    pub connections: usize,
    /// How long a request's head may take, and how long a connection may rest between two requests.
    pub head_timeout: Duration,
    /// How long a request's body may take; of a bulk submit, each line.
    pub body_timeout: Duration,
    /// The largest head, in bytes.
    pub head_bytes: usize,
}

impl Default for ServerLimits {
    /// 4,096 connections, 30 s for a head, 60 s for a body, heads of 64 KiB.
    fn default() -> Self {
        Self {
            connections: 4096,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_mins(1),
            head_bytes: 64 * 1024,
        }
    }
}

/// How the server runs.
#[derive(Clone)]
pub struct ServerOptions {
    /// The database; its acquire timeout bounds how fast a request is refused when it is away (2 s is meant).
    pub store: Store,
    /// Where to listen; port 0 chooses one.
    pub listen: SocketAddr,
    /// The operator's tenant, and that of whoever comes while there are no keys.
    pub tenant: TenantName,
    /// Who may reach it.
    pub keyless: Keyless,
    /// The configuration of workers that do not follow the database's.
    pub fixed_configuration: Option<Configuration>,
    /// What `/metrics` shows.
    pub metrics: MetricsRegistry,
    /// What clients may do to it.
    pub limits: ServerLimits,
    /// Rung for batches; that of the maintenance in the same process.
    pub batch_bell: BatchBell,
    /// Rung for webhooks; that of the maintenance in the same process.
    pub webhook_bell: WebhookBell,
}

impl ServerOptions {
    /// The usual: the default tenant, loopback only, the database's configuration, default limits.
    pub fn new(store: Store, listen: SocketAddr, metrics: MetricsRegistry) -> Self {
        Self {
            store,
            listen,
            tenant: TenantName::default_tenant(),
            keyless: Keyless::default(),
            fixed_configuration: None,
            metrics,
            limits: ServerLimits::default(),
            batch_bell: BatchBell::default(),
            webhook_bell: WebhookBell::default(),
        }
    }
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping it ends the server at once.
#[derive(Debug)]
pub struct ServerHandle {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Duration>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds and starts to answer. The database need not be reachable yet.
    pub async fn start(options: ServerOptions) -> Result<ServerHandle, SchedulerError> {
        start(options, Protocol::Rest, routes::router).await
    }
}

/// Starts a server of either protocol.
pub(crate) async fn start(
    options: ServerOptions,
    protocol: Protocol,
    router: impl FnOnce(Shared) -> Router,
) -> Result<ServerHandle, SchedulerError> {
    let is_exposed = options.keyless == Keyless::LoopbackOnly && !options.listen.ip().is_loopback();
    if is_exposed && lacks_callers(&options).await {
        return Err(SchedulerError::KeylessElsewhere(options.listen));
    }
    let failed = |source| SchedulerError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stopping = CancellationToken::new();
    let limits = Arc::new(options.limits);
    // Of a process with both servers, one counts.
    let is_exported = protocol == Protocol::Rest && options.metrics.is_exported();
    let shared = Shared::start(options, address, protocol, stopping.clone());
    if is_exported {
        tokio::spawn(keep_depths_fresh(shared.clone()));
    }
    let (stop, stopped) = oneshot::channel();
    let listening = Listening { listener, protocol, router: router(shared), limits, stopping };
    let task = tokio::spawn(listening.serve(stopped));
    tracing::info!(%address, protocol = protocol.as_str(), "the server listens");
    Ok(ServerHandle { address, stop: Some(stop), task })
}

/// Whether nobody could come in. A database that is away says nothing: then requests are refused one by one.
async fn lacks_callers(options: &ServerOptions) -> bool {
    let looking = async {
        let is_any_made = options.store.api_keys_lookup(&[]).await?.is_any_made;
        let applied = gates::configuration(&options.store).await?;
        let configuration = options.fixed_configuration.clone().or(applied);
        Ok::<_, SchedulerError>(!is_any_made && configuration.is_none_or(|known| known.access.is_empty()))
    };
    matches!(tokio::time::timeout(READ_PATIENCE, looking).await, Ok(Ok(true)))
}

impl ServerHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops: accepts nothing more, answers those who wait for jobs at once, lets requests under way finish within
    /// `grace`, then cuts them.
    pub async fn shutdown(mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            // An error means that the task has ended already.
            let _ = stop.send(grace);
        }
        let _ = (&mut self.task).await;
    }
}
