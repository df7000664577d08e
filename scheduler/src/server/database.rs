//! Asking the database on behalf of a client who must not hang when it is away or stands still.

use std::time::Duration;

use super::ApiError;

/// How long a statement about a few rows may take. A submit waits up to 2 s for another's uncommitted key.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement that counts or lists many rows may take.
pub(crate) const SCAN_PATIENCE: Duration = Duration::from_secs(30);

/// The answer to a question, or 503 where there is none in time. Questions are single statements (or reads): one that is
/// dropped here happened wholly or not at all.
pub(crate) async fn asked<T, E: Into<ApiError>>(
    patience: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, ApiError> {
    let Ok(answer) = tokio::time::timeout(patience, question).await else {
        tracing::warn!(patience_s = patience.as_secs(), "the database did not answer in time");
        return Err(ApiError::database_unavailable());
    };
    answer.map_err(Into::into)
}
