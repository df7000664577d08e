//! Which database this is.

use uuid::Uuid;

use crate::{Store, StoreError};

impl Store {
    /// The database's own id: the same after a dump and restore, and on a standby.
    pub async fn database_id(&self) -> Result<Uuid, StoreError> {
        let id = sqlx::query_scalar!(
            "-- database_identity
            SELECT id FROM sluice.identity LIMIT 1"
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(id)
    }
}
