//! The right to move one batch on.

use std::time::Duration;

use sluice_domain::{Batch, BatchId, BatchStatus};
use sluice_store::{Store, StoreError};
use thiserror::Error;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// For how long a batch is claimed, and how often that is renewed.
const WINDOW: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(5);
/// How long one statement may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a batch was not moved on.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// The claim is over: somebody else's turn.
    #[error("hold a claim")]
    Over,
    /// The batch was cancelled meanwhile.
    #[error("go on with a batch that was cancelled")]
    Changed,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A claimed batch.
pub(super) struct Claim {
    pub(super) store: Store,
    pub(super) batch: BatchId,
    pub(super) id: Uuid,
    renewed_at: Instant,
    status: BatchStatus,
}

impl Claim {
    /// Claims the batch that is due longest.
    pub(super) async fn next(store: &Store) -> Result<Option<Self>, StoreError> {
        let id = Uuid::new_v4();
        let claimed = within(store.batch_claim(id, WINDOW)).await?;
        Ok(claimed.map(|batch| Self {
            store: store.clone(),
            batch,
            id,
            renewed_at: Instant::now(),
            status: BatchStatus::Validating,
        }))
    }

    /// The batch as it stands.
    pub(super) async fn read(&mut self) -> Result<Option<Batch>, StoreError> {
        let batch = within(self.store.batches_by_id(&[self.batch])).await?.pop();
        if let Some(batch) = &batch {
            self.status = batch.status;
        }
        Ok(batch)
    }

    /// Renews the claim where that is due; says how the batch stood at the last look.
    pub(super) async fn hold(&mut self) -> Result<BatchStatus, Trouble> {
        if self.renewed_at.elapsed() >= RENEW {
            let began = Instant::now();
            let renewing = self.store.batch_renew_claim(self.batch, self.id, WINDOW);
            self.status = within(renewing).await?.ok_or(Trouble::Over)?;
            self.renewed_at = began;
        }
        Ok(self.status)
    }

    /// Lets go of it, for `rest`. Where that can't be written, the claim ends by itself.
    pub(super) async fn release(self, rest: Duration) {
        if let Err(error) = within(self.store.batch_release(self.batch, self.id, rest)).await {
            tracing::debug!(batch.id = %self.batch, error = %error, "a claim is left to end by itself");
        }
    }
}

/// A question that ends in time.
pub(super) async fn within<T>(
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(PATIENCE, question).await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}
