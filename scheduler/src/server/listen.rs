//! Accepting connections. Built on hyper rather than `axum::serve`, which has no timeout for a request's head and lets
//! idle clients hold connections for ever.
//!
//! REST is HTTP/1.1 only and gRPC HTTP/2 only: the negotiation between them in clear text waits for a client's first
//! bytes without a timeout.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower_http::add_extension::AddExtension;

use super::{
    ServerLimits,
    admission::Peer,
    places::{Place, Places},
};

/// Streams of one HTTP/2 connection at once: clients wait for many jobs over few connections.
const STREAMS: u32 = 1_000;
/// How much a client may send ahead on a stream and on a connection of HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How often a client of HTTP/2 is asked whether it is still there: one that vanished frees what it waited for.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// What is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Rest,
    /// HTTP/2, from its first byte on.
    Grpc,
}

impl Protocol {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) protocol: Protocol,
    pub(super) router: Router,
    pub(super) limits: Arc<ServerLimits>,
    pub(super) stopping: CancellationToken,
}

impl Listening {
    /// Serves until told to stop, and by when; a sender that is dropped means at once.
    pub(super) async fn serve(self, mut stopped: oneshot::Receiver<Duration>) {
        let _stopping = self.stopping.clone().drop_guard();
        let graceful = GracefulShutdown::new();
        let places = Places::new(self.limits.connections);
        let mut connections = JoinSet::new();
        let grace = loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                grace = &mut stopped => break grace.unwrap_or_default(),
                accepted = places.accept(&self.listener) => {
                    if let Some((stream, peer, place)) = accepted {
                        // Answers are small and somebody waits for them.
                        let _ = stream.set_nodelay(true);
                        match self.protocol {
                            Protocol::Rest => connections.spawn(self.rest((stream, peer), place, &graceful)),
                            Protocol::Grpc => connections.spawn(self.grpc((stream, peer), place, graceful.watcher())),
                        };
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

    fn rest(
        &self,
        (stream, peer): (TcpStream, Peer),
        place: Place,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.head_bytes);
        let router = AddExtension::new(AddExtension::new(self.router.clone(), peer), place.used());
        let service = TowerToHyperService::new(router);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        async move {
            match place.until_given_up(connection).await {
                Some(Err(error)) => tracing::debug!(error = %error, "a connection broke"),
                Some(Ok(())) => {}
                None => tracing::debug!("a connection gave way on which nothing was asked"),
            }
            drop(place);
        }
    }

    fn grpc(
        &self,
        (stream, peer): (TcpStream, Peer),
        place: Place,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_PATIENCE)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(self.limits.head_bytes).unwrap_or(u32::MAX));
        let service = TowerToHyperService::new(AddExtension::new(self.router.clone(), peer));
        let (head_timeout, stopping) = (self.limits.head_timeout, self.stopping.clone());
        async move {
            // Pings begin only after the client's first bytes, for which hyper has no timeout.
            let mut first_byte = [0];
            let speaking = tokio::time::timeout(head_timeout, stream.peek(&mut first_byte));
            let speaking = stopping.run_until_cancelled(place.until_given_up(speaking));
            if matches!(speaking.await, Some(Some(Ok(Ok(1))))) {
                // Who goes silent from here on is found out by pings.
                place.used().begin();
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(error = %error, "a connection broke");
                }
            }
            drop(place);
        }
    }
}
