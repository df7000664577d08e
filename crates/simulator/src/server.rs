//! Starts and stops the server: accepts connections, serves HTTP/1 and HTTP/2, ends in an orderly way.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use crate::{
    config::SimulatorConfig,
    control::{ConfigPatch, change_config},
    error::SimulatorError,
    ledger::CallRecord,
    service::serve,
    simulator::{Simulator, SimulatorStats},
    socket::{ResetSwitch, Socket},
};

/// A client must send its head within this time.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How long calls under way may take to end after a shutdown; those that hang on purpose never would.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Rest after a failed accept (no file descriptors left), so that it doesn't spin.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// A running simulator. Dropping it stops it at once, cutting what is under way.
pub struct SimulatorHandle {
    simulator: Arc<Simulator>,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    acceptor: JoinHandle<()>,
}

/// Starts a simulator on the current tokio runtime.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn start(config: SimulatorConfig) -> Result<SimulatorHandle, SimulatorError> {
    config.validate()?;
    let listen = config.listen;
    let failed = |source| SimulatorError::Listen { addr: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    let simulator = Arc::new(Simulator::new(config)?);
    let (stop, stopped) = oneshot::channel();
    let acceptor = tokio::spawn(accept(listener, simulator.clone(), stopped));
    Ok(SimulatorHandle { simulator, addr, stop: Some(stop), acceptor })
}

impl SimulatorHandle {
    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL for clients, without `/v1` and without a slash at its end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The calls that are kept in memory, in order of arrival.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.simulator.calls_since(0)
    }

    /// Counts since the start.
    pub fn stats(&self) -> SimulatorStats {
        self.simulator.stats()
    }

    /// The most admitted calls that were ever under way at once.
    pub fn max_concurrency_seen(&self) -> u64 {
        self.simulator.stats().max_concurrency_seen
    }

    /// The ledger's file, if there is one.
    pub fn ledger_path(&self) -> Option<PathBuf> {
        self.simulator.config.load().ledger.clone()
    }

    /// No token that was given is good any more.
    pub fn revoke_tokens(&self) {
        self.simulator.credentials.revoke_tokens();
    }

    /// Changes settings for calls that arrive later.
    pub fn change(&self, patch: &ConfigPatch) -> Result<(), SimulatorError> {
        change_config(&self.simulator, patch)
    }

    /// Stops: takes no more connections, gives calls under way a second to end, cuts the others. What is on the
    /// ledger is on disk when this comes back.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // The acceptor may be gone already.
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.acceptor).await {
            tracing::error!(%error, "the simulator's acceptor ended badly");
        }
    }
}

impl Drop for SimulatorHandle {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, simulator: Arc<Simulator>, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    // Dropping the set, at the end or by an abort of this task, ends every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(simulator.clone(), stream, graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the simulator could not accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("the simulator cuts calls that are still under way");
    }
    connections.shutdown().await;
}

async fn serve_connection(simulator: Arc<Simulator>, stream: TcpStream, watcher: Watcher) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let switch = ResetSwitch::default();
    let socket = TokioIo::new(Socket::new(stream, switch.clone()));
    let service =
        service_fn(move |request: Request<Incoming>| serve(simulator.clone(), request, switch.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(socket, service);
    if let Err(error) = watcher.watch(connection).await {
        // Clients that leave and faults that break connections both end here.
        tracing::debug!(%error, "a connection to the simulator broke");
    }
}
