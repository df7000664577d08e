//! `GET /v1/upstreams`: where calls go.

use axum::{Json, extract::State};
use serde::Serialize;
use sluice_config::Upstream;
use sluice_store::{Pause, PausedKind};

use super::answers::WholeList;
use crate::{
    Gates,
    job_json::rfc3339,
    server::{ApiError, App, ErrorBody},
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

/// List upstreams
///
/// Those of the configuration, each with its pause or its account's.
#[utoipa::path(
    get,
    path = "/v1/upstreams",
    tag = "lines",
    responses(
        (status = 200, description = "The upstreams", body = WholeList<UpstreamObject>),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<WholeList<UpstreamObject>>, ApiError> {
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
    }
}
