//! `GET /healthz`: liveness.

/// Whether the process lives
///
/// Asks nothing of the database: a restart would not bring it back.
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, description = "It lives", body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}
