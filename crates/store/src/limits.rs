//! Limits over all workers: how they are declared, and how much of them is used. What is taken of them is taken by a
//! lease (`lease_limited`).

use chrono::{DateTime, Utc};
use sluice_domain::{DeclaredLimit, LimitId, LimitKind, LimitSubject};

use crate::{Store, StoreError};

/// A limit and its use at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct LimitUse {
    /// Its id.
    pub id: LimitId,
    /// The limit with the cap that counts now: of one that is not told, what is believed.
    pub limit: DeclaredLimit,
    /// What is believed, where it is not told.
    pub belief: Option<LimitBelief>,
    /// Spent and reserved: what counts against the cap.
    pub used: i64,
    /// When the earliest of it falls out of the window; `None` where nothing does.
    pub falls_at: Option<DateTime<Utc>>,
    /// Tokens of a prompt for each byte of its body lately, by which tokens are estimated.
    pub tokens_per_byte: Option<f32>,
    /// Tokens of an answer lately, by which they are estimated where a job does not say.
    pub output_tokens: Option<f32>,
}

/// How many calls at once a provider is believed to take that does not tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitBelief {
    /// So many at most, as the configuration says.
    pub ceiling: u64,
    /// Why it is what it is: `begun`, `raised`, `refused` or `slow`.
    pub because: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Of how many at once calls were refused last, or slow.
    pub refused_at: Option<u64>,
}

/// Limits as the statements take them.
pub(crate) struct LimitColumns {
    pub(crate) ids: Vec<i64>,
    pub(crate) kinds: Vec<String>,
    pub(crate) windows_s: Vec<i32>,
    pub(crate) accounts: Vec<String>,
    pub(crate) models: Vec<String>,
    pub(crate) tenants: Vec<String>,
    pub(crate) queues: Vec<String>,
    pub(crate) caps: Vec<i64>,
    pub(crate) floors: Vec<Option<i64>>,
}

impl LimitColumns {
    pub(crate) fn of(limits: &[DeclaredLimit]) -> Self {
        let texts = |part: fn(&LimitSubject) -> &str| {
            limits.iter().map(|limit| part(&limit.subject).to_owned()).collect::<Vec<_>>()
        };
        Self {
            ids: limits.iter().map(|limit| limit.id().0).collect(),
            kinds: limits.iter().map(|limit| limit.kind.as_str().to_owned()).collect(),
            windows_s: limits.iter().map(|limit| limit.window_s as i32).collect(),
            accounts: texts(LimitSubject::account),
            models: texts(LimitSubject::model),
            tenants: texts(LimitSubject::tenant),
            queues: texts(LimitSubject::queue),
            caps: limits.iter().map(|limit| i64::try_from(limit.cap).unwrap_or(i64::MAX)).collect(),
            floors: limits
                .iter()
                .map(|limit| limit.floor.map(|floor| i64::try_from(floor).unwrap_or(i64::MAX)))
                .collect(),
        }
    }
}

impl Store {
    /// Writes down limits with their caps, whatever was there.
    pub async fn limits_declare(&self, limits: &[DeclaredLimit]) -> Result<(), StoreError> {
        let columns = LimitColumns::of(limits);
        sqlx::query!(
            "-- limit_declare_many
            SELECT sluice.limits_declare($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes down limits that are not there yet, where `version` is the newest configuration's: what an older one says
    /// counts for nothing.
    pub async fn limits_ensure_if_newest(
        &self,
        version: i64,
        limits: &[DeclaredLimit],
    ) -> Result<(), StoreError> {
        let columns = LimitColumns::of(limits);
        sqlx::query!(
            "-- limit_ensure_many_if_newest
            SELECT sluice.limits_ensure($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            version,
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
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All limits that are declared, and their use, ten thousand at most. What came back or fell out and was not counted
    /// in by a lease yet is counted here.
    pub async fn limits(&self) -> Result<Vec<LimitUse>, StoreError> {
        let rows = sqlx::query!(
            r#"-- limit_list
            SELECT l.id, l.kind, l.window_s, l.account, l.model, l.tenant, l.queue, l.cap AS "ceiling!", l.floor,
                   CASE WHEN l.floor IS NULL THEN l.cap
                        ELSE greatest(l.floor, least(l.cap, coalesce(b.cap, l.floor))) END AS "cap!",
                   b.because AS "because?", b.changed_at AS "since?", b.refused_at AS "refused_at?",
                   (coalesce(s.used, 0) + coalesce(c.amount, 0) - coalesce(f.amount, 0))::bigint AS "used!",
                   n.at + sluice.limit_horizon(l.window_s) AS falls_at, s.tokens_per_byte AS "tokens_per_byte?",
                   s.output_tokens AS "output_tokens?"
            FROM sluice.limits l
            LEFT JOIN LATERAL (
                SELECT * FROM sluice.limit_states s WHERE s.limit_id = l.id ORDER BY s.version DESC LIMIT 1) s ON true
            LEFT JOIN LATERAL (
                SELECT sum(c.amount) AS amount FROM sluice.limit_changes c
                WHERE c.limit_id = l.id AND c.xid >= s.counted_below
                  AND (c.leased_at IS NULL
                       OR c.leased_at >= clock_timestamp() - sluice.limit_horizon(l.window_s))) c ON true
            LEFT JOIN LATERAL (
                SELECT sum(f.amount) AS amount FROM sluice.limit_slices f
                WHERE f.limit_id = l.id AND f.at >= s.fallen_before
                  AND f.at < clock_timestamp() - sluice.limit_horizon(l.window_s)) f ON true
            LEFT JOIN LATERAL (
                SELECT n.at FROM sluice.limit_slices n
                WHERE n.limit_id = l.id AND n.at >= clock_timestamp() - sluice.limit_horizon(l.window_s)
                ORDER BY n.at LIMIT 1) n ON true
            LEFT JOIN LATERAL (
                SELECT * FROM sluice.limit_beliefs b WHERE l.floor IS NOT NULL AND b.limit_id = l.id
                ORDER BY b.version DESC LIMIT 1) b ON true
            -- What is said of all models of an account that are found out each by itself is no limit.
            WHERE l.cap IS NOT NULL AND (l.floor IS NULL OR l.model <> '')
            ORDER BY l.account, l.model, l.tenant, l.queue, l.kind, l.window_s LIMIT 10000"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let kind: LimitKind = row.kind.parse().map_err(|error: sluice_domain::UnknownWord| {
                    StoreError::UnknownValue(error.to_string())
                })?;
                let subject = LimitSubject::from_stored(row.account, row.model, row.tenant, row.queue);
                let window_s = row.window_s as u32;
                let floor = row.floor.map(|floor| floor as u64);
                Ok(LimitUse {
                    id: LimitId(row.id),
                    limit: DeclaredLimit { subject, kind, window_s, cap: row.cap as u64, floor },
                    belief: floor.map(|_| LimitBelief {
                        ceiling: row.ceiling as u64,
                        because: row.because.unwrap_or_else(|| "begun".to_owned()),
                        since: row.since,
                        refused_at: row.refused_at.map(|cap| cap as u64),
                    }),
                    used: row.used,
                    falls_at: row.falls_at,
                    tokens_per_byte: row.tokens_per_byte.filter(|_| kind == LimitKind::Tokens),
                    output_tokens: row.output_tokens.filter(|_| kind == LimitKind::Tokens),
                })
            })
            .collect()
    }
}
