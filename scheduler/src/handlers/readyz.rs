//! `GET /readyz`: readiness.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use sluice_store::SchemaState;

use crate::server::{ApiError, ErrorBody, Shared, asked};

/// A database that takes longer is not ready to be used.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether requests can be served
///
/// The database answers within a second and has the schema that this program needs.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    responses(
        (status = 200, description = "It is ready", body = String),
        (status = 503, description = "The database is away, or has to be migrated", body = ErrorBody),
    )
)]
pub(crate) async fn readyz(State(shared): State<Shared>) -> Result<&'static str, ApiError> {
    readiness(&shared).await.map(|()| "ready\n")
}

/// Whether the database can be used, or why not.
pub(crate) async fn readiness(shared: &Shared) -> Result<(), ApiError> {
    let not_ready =
        |message| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "schema_not_ready", message));
    match asked(PATIENCE, shared.store.schema_state()).await? {
        SchemaState::Current | SchemaState::Ahead => Ok(()),
        SchemaState::Absent => not_ready("the database has no schema; run: sluice migrate"),
        SchemaState::Behind(_) => {
            not_ready("the database's schema is older than this program; run: sluice migrate")
        }
    }
}
