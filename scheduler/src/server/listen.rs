//! Accepting connections. Built on hyper rather than `axum::serve`, which has no timeout for a request's head and lets
//! idle clients hold connections for ever.
//!
//! HTTP/1.1 only: the negotiation of HTTP/2 in clear text waits for a client's first bytes without a timeout.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::ServerLimits;

/// After a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) router: Router,
    pub(super) limits: Arc<ServerLimits>,
    pub(super) stopping: CancellationToken,
}

impl Listening {
    /// Serves until told to stop, and by when; a sender that is dropped means at once.
    pub(super) async fn serve(self, mut stopped: oneshot::Receiver<Duration>) {
        let _stopping = self.stopping.clone().drop_guard();
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let grace = loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                grace = &mut stopped => break grace.unwrap_or_default(),
                accepted = accept(&self.listener, &places) => {
                    if let Some((stream, place)) = accepted {
                        connections.spawn(self.converse(stream, place, &graceful));
                    }
                }
            }
        };
        drop(self.listener);
        self.stopping.cancel();
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "requests were cut at the end of the grace period"
            );
        }
        connections.shutdown().await;
    }

    fn converse(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Answers are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.head_bytes);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection broke");
            }
            drop(place);
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // Never closed, so there is always a permit to come.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(error = %error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}
