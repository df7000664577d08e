//! Breakers that are open, as all workers share them. What is written here rings a bell, so that all hear of it at once.

use std::time::Duration;

use chrono::{DateTime, Utc};

use sluice_domain::IncarnationId;

use crate::{Store, StoreError};

/// A breaker that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenBreaker {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// Since when, by the database clock.
    pub opened_at: DateTime<Utc>,
    /// The class of the last failure, or `silent`.
    pub reason: String,
    /// Trials that have failed since.
    pub failed_trials: u32,
    /// From when on a trial may be made without a probe.
    pub trial_at: DateTime<Utc>,
    /// Whether one is being made: the breaker is half open.
    pub is_on_trial: bool,
}

impl OpenBreaker {
    /// The word for its state.
    pub const fn state(&self) -> &'static str {
        if self.is_on_trial { "half_open" } else { "open" }
    }
}

/// What a beat tells of a breaker that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BreakerTold {
    /// The upstream's name in the configuration.
    pub upstream: String,
    /// How long until a trial may be claimed without a probe.
    pub trial_in: Duration,
    /// Trials that have failed since it opened.
    pub failed_trials: u32,
}

impl BreakerTold {
    /// Takes apart the `milliseconds failed name` that a beat answers with.
    pub(crate) fn split(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let trial_in = Duration::from_millis(parts.next()?.parse().ok()?);
        let failed_trials = parts.next()?.parse().ok()?;
        Some(Self { upstream: parts.next()?.to_owned(), trial_in, failed_trials })
    }
}

impl Store {
    /// All breakers that are open, by upstream.
    pub async fn breakers_open(&self) -> Result<Vec<OpenBreaker>, StoreError> {
        let rows = sqlx::query!(
            r#"-- breaker_list
            SELECT upstream, opened_at, reason, failed_trials, trial_at,
                   coalesce(trial_until > clock_timestamp(), false) AS "is_on_trial!"
            FROM sluice.breakers ORDER BY upstream LIMIT 10000"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| OpenBreaker {
                upstream: row.upstream,
                opened_at: row.opened_at,
                reason: row.reason,
                failed_trials: row.failed_trials as u32,
                trial_at: row.trial_at,
                is_on_trial: row.is_on_trial,
            })
            .collect())
    }

    /// Opens a breaker, unless it is open. Says whether it is news.
    pub async fn breaker_open(
        &self,
        upstream: &str,
        reason: &str,
        trial_in: Duration,
    ) -> Result<bool, StoreError> {
        let row = sqlx::query!(
            r#"-- breaker_open_if_closed
            WITH opened AS (
                INSERT INTO sluice.breakers (upstream, opened_at, reason, trial_at, probes_count_from, next_probe_at)
                SELECT $1::text, t.now, $2::text, t.now + make_interval(secs => $3), t.now, t.now
                FROM (SELECT clock_timestamp() AS now) t
                ON CONFLICT DO NOTHING
                RETURNING upstream
            )
            SELECT count(pg_notify('sluice_breakers', '')) AS "opened!" FROM opened"#,
            upstream,
            reason,
            trial_in.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.opened > 0)
    }

    /// Takes the next free probe upon oneself, if it is due. Says whether it was.
    pub async fn breaker_claim_probe(&self, upstream: &str, next_in: Duration) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- breaker_claim_probe_if_due
            UPDATE sluice.breakers SET next_probe_at = clock_timestamp() + make_interval(secs => $2)
            WHERE upstream = $1 AND next_probe_at <= clock_timestamp()
              AND coalesce(trial_until <= clock_timestamp(), true)",
            upstream,
            next_in.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Takes the trial upon oneself for `patience`, if it is due, or if a probe was good and good probes count, and if
    /// nobody else has it. Says whether one has it.
    pub async fn breaker_claim_trial(
        &self,
        upstream: &str,
        incarnation: IncarnationId,
        patience: Duration,
        is_probed: bool,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- breaker_claim_trial_if_due
            UPDATE sluice.breakers
            SET trial_by = $2, trial_until = clock_timestamp() + make_interval(secs => $3)
            WHERE upstream = $1
              AND (trial_at <= clock_timestamp() OR ($4 AND probes_count_from <= clock_timestamp()))
              AND coalesce(trial_until <= clock_timestamp(), true)",
            upstream,
            incarnation.as_uuid(),
            patience.as_secs_f64(),
            is_probed,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The trial of `incarnation` failed: the next is due after `trial_in`, or after `probes_in` if a probe is good.
    pub async fn breaker_trial_failed(
        &self,
        upstream: &str,
        incarnation: IncarnationId,
        trial_in: Duration,
        probes_in: Duration,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- breaker_trial_failed_if_held
            UPDATE sluice.breakers
            SET failed_trials = failed_trials + 1, trial_by = NULL, trial_until = NULL,
                trial_at = clock_timestamp() + make_interval(secs => $3),
                probes_count_from = clock_timestamp() + make_interval(secs => $4)
            WHERE upstream = $1 AND trial_by = $2",
            upstream,
            incarnation.as_uuid(),
            trial_in.as_secs_f64(),
            probes_in.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The trial of `incarnation` came to nothing: another may be made at once.
    pub async fn breaker_trial_given_back(
        &self,
        upstream: &str,
        incarnation: IncarnationId,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- breaker_trial_given_back_if_held
            UPDATE sluice.breakers SET trial_by = NULL, trial_until = NULL, trial_at = clock_timestamp()
            WHERE upstream = $1 AND trial_by = $2",
            upstream,
            incarnation.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Closes a breaker. Says whether it was open.
    pub async fn breaker_close(&self, upstream: &str) -> Result<bool, StoreError> {
        let row = sqlx::query!(
            r#"-- breaker_close_if_open
            WITH closed AS (DELETE FROM sluice.breakers WHERE upstream = $1 RETURNING upstream)
            SELECT count(pg_notify('sluice_breakers', '')) AS "closed!" FROM closed"#,
            upstream,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.closed > 0)
    }
}
