//! Nonces of signed requests, so that none is let in twice by any scheduler.

use std::time::Duration;

use crate::{Store, StoreError};

impl Store {
    /// Remembers a nonce for a while; says whether it is new. Forgets a few whose time is over.
    pub async fn nonce_note_if_new(
        &self,
        signer: &str,
        nonce: &str,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- nonce_note_if_new
            WITH old AS (
                SELECT n.signer, n.nonce FROM sluice.nonces n
                WHERE n.forget_at < clock_timestamp() AND (n.signer, n.nonce) <> ($1, $2)
                ORDER BY n.forget_at LIMIT 4
                FOR UPDATE SKIP LOCKED
            ), forgotten AS (
                DELETE FROM sluice.nonces n USING old WHERE n.signer = old.signer AND n.nonce = old.nonce
            )
            INSERT INTO sluice.nonces (signer, nonce, forget_at)
            VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
            ON CONFLICT ON CONSTRAINT nonces_pkey DO NOTHING",
            signer,
            nonce,
            keep.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
