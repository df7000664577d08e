//! `GET /metrics`: Prometheus.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use sluice_store::{QueueDepth, Store, StoreError};
use sluice_telemetry::{ClosedGate, GateStanding, LimitStanding, QueueDepth as Shown};
use tokio::time::{Instant, sleep};

use crate::server::{MayOperate, READ_PATIENCE, Shared, asked};

/// How old the depths of queues may be.
const AGE: Duration = Duration::from_secs(5);
/// How old they may be where they are sent to a collector, which gets them once a minute by default.
const PUSHED_AGE: Duration = Duration::from_secs(15);
/// Counting may take up to a tenth of the database's time.
const RELIEF: u32 = 10;

/// Metrics
///
/// In Prometheus' text format. The depths of queues are up to 5 s old, or as old as ten times as long as it takes to
/// count them.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    security(("api_key" = ["admin"])),
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4"))
)]
pub(crate) async fn metrics(MayOperate(app): MayOperate) -> Response {
    refresh_depths(app.shared()).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.registry.render_prometheus())
        .into_response()
}

/// Counts now and then, until the server stops: what is sent to a collector must be fresh though nobody scrapes.
pub(crate) async fn keep_depths_fresh(shared: Shared) {
    let counting = async {
        loop {
            refresh_depths(&shared).await;
            sleep(PUSHED_AGE).await;
        }
    };
    shared.stopping.run_until_cancelled(counting).await;
}

/// Counts again where it is time. A database that is away leaves the last counts standing.
async fn refresh_depths(shared: &Shared) {
    let Ok(mut next_count) = shared.next_count.try_lock() else { return };
    let begun = Instant::now();
    if next_count.is_some_and(|next| begun < next) {
        return;
    }
    // Of all tenants: a scrape is the operator's.
    if let Ok(queues) = asked(READ_PATIENCE, shared.store.queue_depths(None)).await {
        let shown: Vec<Shown> = queues.iter().flat_map(shown).collect();
        shared.metrics.set_depths(&shown);
    }
    if let Ok(standing) = asked(READ_PATIENCE, gate_standing(&shared.store)).await {
        shared.metrics.gates().set(&standing);
    }
    *next_count = Some(Instant::now() + AGE.max(begun.elapsed() * RELIEF));
}

/// What stands before calls: four short reads.
async fn gate_standing(store: &Store) -> Result<GateStanding, StoreError> {
    let limits = store.limits().await?.into_iter().map(|known| LimitStanding {
        account: known.limit.subject.account().to_owned(),
        model: known.limit.subject.model().to_owned(),
        tenant: known.limit.subject.tenant().to_owned(),
        queue: known.limit.subject.queue().to_owned(),
        kind: known.limit.kind.as_str(),
        window_s: known.limit.window_s,
        cap: known.limit.cap,
        used: known.used.max(0) as u64,
    });
    let closed = store.cooldowns().await?.into_iter().map(|known| ClosedGate {
        kind: known.gate.kind.as_str(),
        name: known.gate.name,
        model: known.gate.model,
        left: known.left,
    });
    let paused = store.pauses().await?.into_iter().map(|pause| (pause.kind.as_str(), pause.name));
    let failing = store.breakers_open().await?.into_iter().map(|open| open.upstream);
    Ok(GateStanding {
        limits: limits.collect(),
        closed: closed.collect(),
        paused: paused.collect(),
        failing: failing.collect(),
    })
}

fn shown(queue: &QueueDepth) -> [Shown; 3] {
    let of = |state, jobs, oldest_age| Shown { queue: queue.name.to_string(), state, jobs, oldest_age };
    [
        // Where nothing waits, the age is none: zero.
        of("queued", queue.ready + queue.scheduled, Some(queue.oldest_age.unwrap_or_default())),
        of("running", queue.running, None),
        of("held", queue.held, None),
    ]
}
