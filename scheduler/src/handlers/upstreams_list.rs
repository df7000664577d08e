//! `GET /v1/upstreams`: where calls go.

use axum::Json;
use serde::Serialize;
use sluice_config::Upstream;
use sluice_store::{OpenBreaker, Pause, PausedKind};

use super::answers::WholeList;
use crate::{
    Gates,
    job_json::rfc3339,
    server::{ApiError, ErrorBody, MayRead},
};

/// An upstream of the configuration.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Upstream)]
pub(crate) struct UpstreamObject {
    /// Its name.
    name: String,
    /// Always `upstream`.
    object: &'static str,
    /// Its dialect.
    #[schema(example = "deepseek")]
    provider: &'static str,
    /// Where it is.
    base_url: String,
    /// What the provider counts limits and money against.
    account: String,
    /// Lower ones are tried first.
    priority: u16,
    /// Its share among those of the same priority.
    weight: u16,
    /// Why it is not called; `null` where it is.
    paused: Option<PauseObject>,
    /// Models that are not called there, by their names there.
    paused_models: Vec<PausedModelObject>,
    /// Whether it fails, and what is done about that.
    breaker: BreakerObject,
}

/// A circuit breaker.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Breaker)]
pub(crate) struct BreakerObject {
    /// `closed`: it is called. `open`: it fails, and calls wait or go to the next target. `half_open`: one call tries
    /// whether it works again.
    #[schema(example = "closed")]
    state: &'static str,
    /// Since when it fails.
    since: Option<String>,
    /// The class of the last failure, or `silent`: calls waited and a probe got no answer.
    #[schema(example = "server_error")]
    reason: Option<String>,
    /// When a call tries it at the latest; sooner when a probe is answered.
    trial_at: Option<String>,
    /// Calls that have tried it since, and failed.
    failed_trials: u32,
}

impl BreakerObject {
    fn of(open: Option<&OpenBreaker>) -> Self {
        Self {
            state: open.map_or("closed", OpenBreaker::state),
            since: open.map(|open| rfc3339(open.opened_at)),
            reason: open.map(|open| open.reason.clone()),
            trial_at: open.map(|open| rfc3339(open.trial_at)),
            failed_trials: open.map_or(0, |open| open.failed_trials),
        }
    }
}

/// A pause.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Pause)]
pub(crate) struct PauseObject {
    /// `upstream` or `account`: what has to be resumed.
    #[schema(example = "account")]
    kind: &'static str,
    /// Since when.
    since: String,
    /// `operator`, or the class of error that a worker met.
    #[schema(example = "quota_exhausted")]
    reason: String,
}

impl PauseObject {
    fn of(pause: &Pause) -> Self {
        Self { kind: pause.kind.as_str(), since: rfc3339(pause.paused_at), reason: pause.reason.clone() }
    }
}

/// A model that is not called at an upstream.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PausedModel)]
pub(crate) struct PausedModelObject {
    /// Its name there.
    model: String,
    /// Since when.
    since: String,
    /// The class of error that a worker met.
    #[schema(example = "forbidden")]
    reason: String,
}

/// List upstreams
///
/// Those of the configuration, each with its pause or its account's, and its breaker.
#[utoipa::path(
    get,
    path = "/v1/upstreams",
    tag = "lines",
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The upstreams", body = WholeList<UpstreamObject>),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(MayRead(app): MayRead) -> Result<Json<WholeList<UpstreamObject>>, ApiError> {
    let gates = app.gates().await?;
    let configured = gates.configuration().map(|known| known.upstreams.as_slice()).unwrap_or_default();
    Ok(Json(WholeList::of(configured.iter().map(|upstream| shown(upstream, &gates)).collect())))
}

fn shown(upstream: &Upstream, gates: &Gates) -> UpstreamObject {
    let pause = gates
        .pause_of(PausedKind::Upstream, upstream.name.as_str())
        .or_else(|| gates.pause_of(PausedKind::Account, &upstream.account));
    UpstreamObject {
        name: upstream.name.to_string(),
        object: "upstream",
        provider: upstream.provider.as_str(),
        base_url: upstream.base_url.clone(),
        account: upstream.account.clone(),
        priority: upstream.priority,
        weight: upstream.weight,
        paused: pause.map(PauseObject::of),
        paused_models: gates
            .paused_models(upstream.name.as_str())
            .map(|(model, pause)| PausedModelObject {
                model: model.to_owned(),
                since: rfc3339(pause.paused_at),
                reason: pause.reason.clone(),
            })
            .collect(),
        breaker: BreakerObject::of(gates.breaker_of(upstream.name.as_str())),
    }
}
