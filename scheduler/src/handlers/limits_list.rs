//! `GET /v1/limits`: what accounts, models and queues may use, and how much of it is used.

use axum::Json;
use serde::Serialize;
use sluice_domain::LimitSubject;
use sluice_store::LimitUse;

use super::answers::WholeList;
use crate::{
    job_json::rfc3339,
    server::{ApiError, ErrorBody, MayRead, SCAN_PATIENCE, asked},
};

/// A limit over all workers.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Limit)]
pub(crate) struct LimitObject {
    /// Always `limit`.
    object: &'static str,
    /// The account; `null`: it is a queue's.
    account: Option<String>,
    /// The model, by its name at the provider; `null`: all together.
    model: Option<String>,
    /// The queue; `null`: it is an account's.
    queue: Option<String>,
    /// `concurrency`, `requests` or `tokens`.
    #[schema(example = "tokens")]
    kind: &'static str,
    /// Seconds of its window; `null` for concurrency.
    window_s: Option<u32>,
    /// So much at most.
    limit: u64,
    /// Spent and reserved.
    used: u64,
    /// What is left of it now.
    remaining: u64,
    /// When the next of what is used falls out of the window.
    falls_at: Option<String>,
    /// How tokens are estimated before a call.
    estimate: Option<EstimateObject>,
    /// Where the provider does not tell how many calls it takes at once: why `limit` is what it is; else `null`.
    adaptive: Option<AdaptiveObject>,
}

/// What is believed of a limit that the provider does not tell.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AdaptiveLimit)]
pub(crate) struct AdaptiveObject {
    /// It is never less.
    floor: u64,
    /// Nor more.
    ceiling: u64,
    /// `begun`: nothing was tried yet. `raised`: all of it was in use, and nothing was refused. `refused`: the provider
    /// refused calls. `slow`: answers took much longer than usual.
    #[schema(example = "raised")]
    because: String,
    /// Since when.
    since: Option<String>,
    /// Of how many calls at once some were refused last, or slow.
    refused_at: Option<u64>,
}

/// How tokens are estimated: by what jobs used lately.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = TokenEstimate)]
pub(crate) struct EstimateObject {
    /// Tokens of a prompt for each byte of the job's body.
    prompt_tokens_per_byte: f32,
    /// Tokens of an answer, where a job does not say how many it wants at most.
    answer_tokens: f32,
}

/// List limits
///
/// Those of `limits` in the configuration, and `max_running` of queues, each with what is used of it by all workers
/// together.
#[utoipa::path(
    get,
    path = "/v1/limits",
    tag = "lines",
    security(("api_key" = ["read"])),
    responses(
        (status = 200, description = "The limits", body = WholeList<LimitObject>),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn list(MayRead(app): MayRead) -> Result<Json<WholeList<LimitObject>>, ApiError> {
    let limits = asked(SCAN_PATIENCE, app.store.limits()).await?;
    // A queue's limit is its tenant's matter.
    let is_shown = |known: &LimitUse| match &known.limit.subject {
        LimitSubject::Queue { tenant, .. } => *tenant == app.tenant,
        LimitSubject::Account { .. } => true,
    };
    Ok(Json(WholeList::of(limits.into_iter().filter(is_shown).map(shown).collect())))
}

fn shown(known: LimitUse) -> LimitObject {
    let LimitUse { limit, belief, used, falls_at, tokens_per_byte, output_tokens, .. } = known;
    let used = used.max(0) as u64;
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    LimitObject {
        object: "limit",
        account: named(limit.subject.account()),
        model: named(limit.subject.model()),
        queue: named(limit.subject.queue()),
        kind: limit.kind.as_str(),
        window_s: Some(limit.window_s).filter(|seconds| *seconds > 0),
        limit: limit.cap,
        used,
        remaining: limit.cap.saturating_sub(used),
        falls_at: falls_at.map(rfc3339),
        estimate: tokens_per_byte.zip(output_tokens).map(|(per_byte, of_answer)| EstimateObject {
            prompt_tokens_per_byte: per_byte,
            answer_tokens: of_answer,
        }),
        adaptive: limit.floor.zip(belief).map(|(floor, belief)| AdaptiveObject {
            floor,
            ceiling: belief.ceiling,
            because: belief.because,
            since: belief.since.map(rfc3339),
            refused_at: belief.refused_at,
        }),
    }
}
