//! All routes. They are registered together with their documentation, so that the OpenAPI document lists each.

use axum::{Router, middleware};
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, Shared, admission,
    document::{Document, complete},
    examples::add_examples,
    measure, places,
};
use crate::handlers as h;

fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(h::chat_completions::complete))
        .routes(routes!(h::completions::complete))
        .routes(routes!(h::embeddings::embed))
        .routes(routes!(h::images_generations::generate))
        .routes(routes!(h::models_list::list))
        .routes(routes!(h::model_get::get))
        .routes(routes!(h::files_create::create, h::files_list::list))
        .routes(routes!(h::file_get::get, h::file_delete::delete))
        .routes(routes!(h::file_content::content))
        .routes(routes!(h::batches_create::create, h::batches_list::list))
        .routes(routes!(h::batch_get::get))
        .routes(routes!(h::batch_cancel::cancel))
        .routes(routes!(h::jobs_submit::submit, h::jobs_list::list))
        .routes(routes!(h::jobs_bulk::submit_bulk))
        .routes(routes!(h::job_get::get))
        .routes(routes!(h::job_attempts::attempts))
        .routes(routes!(h::job_events::events))
        .routes(routes!(h::job_explain::explain))
        .routes(routes!(h::job_result::result))
        .routes(routes!(h::job_stream::stream))
        .routes(routes!(h::job_cancel::cancel))
        .routes(routes!(h::job_replay::replay))
        .routes(routes!(h::job_release::release))
        .routes(routes!(h::replays::replay_many))
        .routes(routes!(h::cancellations::cancel_many))
        .routes(routes!(h::releases::release_many))
        .routes(routes!(h::webhooks_list::list))
        .routes(routes!(h::webhooks_resume::resume))
        .routes(routes!(h::webhook_redeliver::redeliver))
        .routes(routes!(h::queues_list::list))
        .routes(routes!(h::queue_pause::pause))
        .routes(routes!(h::queue_resume::resume))
        .routes(routes!(h::upstreams_list::list))
        .routes(routes!(h::upstream_pause::pause))
        .routes(routes!(h::upstream_resume::resume))
        .routes(routes!(h::account_resume::resume))
        .routes(routes!(h::limits_list::list))
        .routes(routes!(h::budgets_list::list))
        .routes(routes!(h::workers_list::list))
        .routes(routes!(h::healthz::healthz))
        .routes(routes!(h::readyz::readyz))
        .routes(routes!(h::metrics::metrics))
        .routes(routes!(h::openapi::openapi))
        .routes(routes!(h::page::page))
}

pub(super) fn router(shared: Shared) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .fallback(async || {
            ApiError::new(StatusCode::NOT_FOUND, "unknown_path", "there is nothing at this path")
        })
        .method_not_allowed_fallback(async || {
            let message = "this path takes other methods; see /openapi.json";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(CatchPanicLayer::custom(measure::panicked))
        .layer(middleware::from_fn_with_state(shared.clone(), admission::admit))
        .layer(middleware::from_fn_with_state(shared.clone(), measure::measure))
        .layer(middleware::from_fn(places::mark))
        .with_state(shared)
}

/// The OpenAPI 3.1 document, made from the code.
pub fn openapi_json() -> String {
    let mut document = documented().into_openapi();
    complete(&mut document);
    // It is made of strings, numbers, maps and lists.
    let mut document = serde_json::to_value(&document).expect("the document is serialisable");
    add_examples(&mut document);
    format!("{document:#}")
}
