//! When the loops run: periods with jitter, so that many schedulers do not ask at the same moment; and questions that
//! end in time.

use std::{fmt::Display, time::Duration};

use rand::RngExt;
use sluice_store::StoreError;

/// How long a statement of a loop may take before it is given up; the next round begins anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rests for a period, a tenth more or less.
pub(super) async fn rest(period: Duration) {
    let jitter = rand::rng().random_range(0.9..1.1);
    tokio::time::sleep(period.mul_f64(jitter)).await;
}

/// Asks the database; logs where it fails. What is left undone is done in a later round.
pub(super) async fn asked<T>(
    what: &'static str,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Option<T> {
    let failed = |reason: &dyn Display| {
        tracing::warn!(task = what, error = %reason, "a maintenance statement failed; it is tried again");
    };
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => failed(&error),
        Err(_) => failed(&"it took too long"),
    }
    None
}
