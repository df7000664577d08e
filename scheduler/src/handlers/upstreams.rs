//! Pausing and resuming what stands at the end of the lines: upstreams and accounts.

use axum::Json;
use http::StatusCode;
use sluice_domain::UpstreamName;
use sluice_store::PausedKind;

use super::queue_pause::PauseState;
use crate::server::{ApiError, App, NameInPath, READ_PATIENCE, asked};

/// Resumes an upstream or an account that is configured or paused.
pub(super) async fn resume(
    app: &App,
    kind: PausedKind,
    name: &NameInPath,
) -> Result<Json<PauseState>, ApiError> {
    let name = name.parse(UpstreamName::new)?;
    let was_paused = asked(READ_PATIENCE, app.store.resume(kind, name.as_str())).await?;
    if was_paused {
        app.ready_bell.ring();
        app.forget_gates();
    } else {
        require_configured(app, kind, name.as_str()).await?;
    }
    Ok(Json(PauseState { object: kind.as_str(), name: name.to_string(), paused: false }))
}

/// Refuses names that the configuration does not know, so that a slip of the pen is not taken for an upstream.
pub(super) async fn require_configured(app: &App, kind: PausedKind, name: &str) -> Result<(), ApiError> {
    let configuration = asked(READ_PATIENCE, app.configuration()).await?;
    let is_known = configuration.is_some_and(|known| {
        known.upstreams.iter().any(|upstream| match kind {
            PausedKind::Upstream | PausedKind::Model => upstream.name.as_str() == name,
            PausedKind::Account => upstream.account == name,
        })
    });
    if is_known {
        return Ok(());
    }
    let (code, message) = match kind {
        PausedKind::Upstream | PausedKind::Model => {
            ("upstream_not_found", "the configuration has no such upstream")
        }
        PausedKind::Account => ("account_not_found", "no upstream of the configuration has such an account"),
    };
    Err(ApiError::new(StatusCode::NOT_FOUND, code, message))
}
