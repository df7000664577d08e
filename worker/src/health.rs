//! `/healthz`, `/readyz` and `/metrics` of a worker that runs by itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use sluice_telemetry::MetricsRegistry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{WorkerError, core::Core};

/// More than any scraper and probe need; who holds connections open keeps others out, not us busy.
const MAX_CONNECTIONS: usize = 64;
/// A client must send its head within this time.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Shown {
    core: Arc<Core>,
    metrics: MetricsRegistry,
}

/// Takes the address, so that a wrong one is told at the start.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener, WorkerError> {
    TcpListener::bind(listen).await.map_err(|source| WorkerError::Listen { listen, source })
}

/// Answers until the worker is over.
pub(crate) async fn serve(core: Arc<Core>, metrics: MetricsRegistry, listener: TcpListener) {
    let ended = core.signals.ended.clone();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Shown { core, metrics });
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        answer(stream, router).await;
                        drop(permit);
                    });
                }
                // No file descriptors left, most likely: a rest, so that this doesn't spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = accepting => {}
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    // A connection that breaks is the client's affair.
    let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

/// Ready: a beat was acknowledged within the TTL.
async fn ready(State(shown): State<Shown>) -> Response {
    if shown.core.incarnation.is_within_ttl() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no beat was acknowledged within the lease's TTL\n").into_response()
    }
}

async fn metrics_text(State(shown): State<Shown>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shown.metrics.render_prometheus()).into_response()
}
