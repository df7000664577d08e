//! Beliefs: how many calls at once a provider takes that does not tell. Not here: how a belief changes (`policy::aimd`).

use std::time::Duration;

use sluice_domain::LimitId;

use crate::{Store, StoreError};

/// A belief to be written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewBelief<'a> {
    /// So many calls at once.
    pub cap: u64,
    /// The cap under which calls were refused last, or slow.
    pub refused_at: Option<u64>,
    /// Raises past that in a row.
    pub raises: u32,
    /// Falls in a row.
    pub falls: u32,
    /// `begun`, `raised`, `refused` or `slow`.
    pub because: &'a str,
}

/// A belief as the database has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredBelief {
    /// Rises with each change.
    pub version: i64,
    /// So many calls at once.
    pub cap: u64,
    /// The cap under which calls were refused last, or slow.
    pub refused_at: Option<u64>,
    /// Raises past that in a row.
    pub raises: u32,
    /// Falls in a row.
    pub falls: u32,
    /// Why.
    pub because: String,
    /// How long ago it was changed.
    pub changed: Duration,
    /// How long ago it was lowered last; `None`: never.
    pub lowered: Option<Duration>,
}

impl Store {
    /// Writes down a belief, if the newest is still the `seen` version (0: there is none). Says the newest, whoever wrote
    /// it; `None` where the limit is told or not declared.
    pub async fn limit_believe_if_newest(
        &self,
        limit: LimitId,
        seen: i64,
        belief: NewBelief<'_>,
    ) -> Result<Option<StoredBelief>, StoreError> {
        let row = sqlx::query!(
            r#"-- limit_believe_if_newest
            SELECT version AS "version!", cap AS "cap!", refused_at, raises AS "raises!", falls AS "falls!",
                   because AS "because!", changed_ms AS "changed_ms!", lowered_ms
            FROM sluice.limit_believe($1, $2, $3, $4, $5, $6, $7)"#,
            limit.0,
            seen,
            i64::try_from(belief.cap).unwrap_or(i64::MAX),
            belief.refused_at.map(|cap| i64::try_from(cap).unwrap_or(i64::MAX)),
            i32::try_from(belief.raises).unwrap_or(i32::MAX),
            i32::try_from(belief.falls).unwrap_or(i32::MAX),
            belief.because,
        )
        .fetch_optional(&self.pool)
        .await?;
        let ago = |ms: i64| Duration::from_millis(ms.max(0) as u64);
        Ok(row.map(|row| StoredBelief {
            version: row.version,
            cap: row.cap.max(0) as u64,
            refused_at: row.refused_at.map(|cap| cap.max(0) as u64),
            raises: row.raises.max(0) as u32,
            falls: row.falls.max(0) as u32,
            because: row.because,
            changed: ago(row.changed_ms),
            lowered: row.lowered_ms.map(ago),
        }))
    }
}
