//! Statements that are tried again while the database is away.

use std::time::{Duration, Instant};

use sluice_store::StoreError;

use crate::exit::{CliError, causes};

/// So long the database may be away.
const MAX_OUTAGE: Duration = Duration::from_mins(2);
const REST: Duration = Duration::from_millis(500);

/// Tries a statement until the database answers. It must be one that may be repeated.
pub async fn patiently<T, S>(statement: impl Fn() -> S) -> Result<T, CliError>
where
    S: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    loop {
        match statement().await {
            Err(error) if error.is_unavailable() && began.elapsed() < MAX_OUTAGE => {
                tracing::debug!(error = causes(&error), "the database is away; trying again");
                tokio::time::sleep(REST).await;
            }
            Err(error) if error.is_unavailable() => {
                let error = CliError::from(error);
                return Err(CliError::unreachable(format!(
                    "{error}; then run the same command again to go on"
                )));
            }
            result => return Ok(result?),
        }
    }
}
