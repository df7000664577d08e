//! The applied configuration: the text of `sluice.yaml`, with secrets as references only.

use chrono::{DateTime, Utc};
use sluice_domain::DeclaredLimit;

use crate::{Store, StoreError, limits::LimitColumns};

/// A configuration as it was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppliedConfiguration {
    /// Rises with each apply.
    pub version: i64,
    /// When, by the database clock.
    pub applied_at: DateTime<Utc>,
    /// Who or what applied it.
    pub applied_by: String,
    /// The text.
    pub document: String,
}

impl Store {
    /// The configuration that counts; `None` before the first.
    pub async fn configuration(&self) -> Result<Option<AppliedConfiguration>, StoreError> {
        let newest = sqlx::query_as!(
            AppliedConfiguration,
            "-- configuration_newest
            SELECT version, applied_at, applied_by, document FROM sluice.configurations
            ORDER BY version DESC LIMIT 1"
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(newest)
    }

    /// The configurations that were applied, newest first.
    pub async fn configuration_history(&self, limit: u32) -> Result<Vec<AppliedConfiguration>, StoreError> {
        let history = sqlx::query_as!(
            AppliedConfiguration,
            "-- configuration_history
            SELECT version, applied_at, applied_by, document FROM sluice.configurations
            ORDER BY version DESC LIMIT $1",
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(history)
    }

    /// Applies a configuration that was checked, with the limits that it declares, if the newest version is still the one
    /// that the caller has seen (0: none). Says the new version, or `None` where somebody else was faster.
    pub async fn configuration_apply_if_newest(
        &self,
        seen_version: i64,
        document: &str,
        limits: &[DeclaredLimit],
        applied_by: &str,
    ) -> Result<Option<i64>, StoreError> {
        let columns = LimitColumns::of(limits);
        let version = sqlx::query_scalar!(
            "-- configuration_apply_if_newest
            SELECT sluice.configuration_apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            seen_version,
            applied_by,
            document,
            &columns.ids,
            &columns.kinds,
            &columns.windows_s,
            &columns.accounts,
            &columns.models,
            &columns.tenants,
            &columns.queues,
            &columns.caps,
            &columns.floors as _,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(version)
    }
}
