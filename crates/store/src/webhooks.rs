//! Deliveries of webhooks: leased by whichever scheduler sends them, ended under their lease, shown and sent anew.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use sluice_domain::{
    JobId, QueueName, TenantName, WebhookDelivery, WebhookId, WebhookState, WebhookUrl, WebhookView,
};

use crate::{Store, StoreError};

/// What a sender may lease.
#[derive(Clone, Copy, Debug)]
pub struct WebhookAsk<'a> {
    /// So many at most.
    pub most: u32,
    /// Of one target at most so many.
    pub most_of_target: u32,
    /// None of these targets, since enough is sent there already.
    pub busy: &'a [i64],
    /// Who does not end a delivery for so long leaves it to others.
    pub lease_for: Duration,
}

/// What became of a try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebhookEnd {
    /// The target took it.
    Delivered,
    /// To be tried again after a while.
    Again(Duration),
    /// Given up.
    Failed,
    /// The target wants no more.
    Disabled,
}

/// Which deliveries a list shows, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WebhookPage {
    /// In this state alone.
    pub state: Option<WebhookState>,
    /// Of this job alone.
    pub job: Option<JobId>,
    /// Of jobs in these queues alone.
    pub queues: Option<Vec<QueueName>>,
    /// After this one.
    pub after: Option<WebhookId>,
    /// So many at most.
    pub limit: u32,
}

impl Store {
    /// Leases deliveries that are due, under `lease`.
    pub async fn webhook_deliveries_lease(
        &self,
        lease: Uuid,
        ask: WebhookAsk<'_>,
    ) -> Result<Vec<WebhookDelivery>, StoreError> {
        let rows = sqlx::query!(
            r#"-- webhook_deliveries_lease
            SELECT id AS "id!", job_id AS "job_id!", generation AS "generation!", tenant AS "tenant!", url AS "url!",
                   target AS "target!", job_state::text AS "job_state!", created_at AS "created_at!", tries AS "tries!"
            FROM sluice.webhook_deliveries_lease($1, $2, $3, $4, $5)"#,
            lease,
            ask.most as i32,
            ask.most_of_target as i32,
            ask.busy,
            i32::try_from(ask.lease_for.as_millis()).unwrap_or(i32::MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        let deliveries = rows.into_iter().map(|row| {
            Ok(WebhookDelivery {
                id: WebhookId::from_uuid(row.id),
                job_id: JobId::from_uuid(row.job_id),
                generation: row.generation as u32,
                tenant: TenantName::from_stored(row.tenant),
                url: WebhookUrl::from_stored(row.url),
                target: row.target,
                job_state: row.job_state.parse().map_err(|e| unknown(&e))?,
                ended_at: row.created_at,
                tries: row.tries as u32,
            })
        });
        deliveries.collect()
    }

    /// Writes what became of a try; says whether its lease still counted.
    pub async fn webhook_delivery_end_if_leased(
        &self,
        delivery: WebhookId,
        lease: Uuid,
        end: &WebhookEnd,
        status_code: Option<u16>,
        problem: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (state, delay) = match end {
            WebhookEnd::Delivered => (WebhookState::Delivered, None),
            WebhookEnd::Again(delay) => (WebhookState::Pending, Some(delay.as_secs_f64())),
            WebhookEnd::Failed => (WebhookState::Failed, None),
            WebhookEnd::Disabled => (WebhookState::Disabled, None),
        };
        let done = sqlx::query!(
            "-- webhook_delivery_end_if_leased
            UPDATE sluice.webhook_deliveries d
            SET state = $3, status_code = $4, problem = $5, lease_id = NULL,
                due_at = CASE WHEN $6::float8 IS NULL THEN d.due_at
                              ELSE clock_timestamp() + make_interval(secs => $6) END,
                ended_at = CASE WHEN $6::float8 IS NULL THEN clock_timestamp() END
            WHERE d.id = $1 AND d.lease_id = $2 AND d.state = 'pending'",
            delivery.as_uuid(),
            lease,
            state.as_str(),
            status_code.map(|code| code as i16),
            problem,
            delay,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that a target wants no more, and gives up what is still to be told there.
    pub async fn webhook_target_disable(
        &self,
        tenant: &TenantName,
        url: &WebhookUrl,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "-- webhook_target_disable
            SELECT sluice.webhook_target_disable($1, $2)",
            tenant.as_str(),
            url.as_str(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Tells a target again: what comes, and what was given up since then. Says how many those are.
    pub async fn webhook_target_resume(
        &self,
        tenant: &TenantName,
        url: &WebhookUrl,
        since: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let resumed = sqlx::query_scalar!(
            r#"-- webhook_target_resume
            SELECT sluice.webhook_target_resume($1, $2, $3) AS "resumed!""#,
            tenant.as_str(),
            url.as_str(),
            since,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(resumed as u64)
    }

    /// Has a delivery sent anew, whatever became of it; `None`: the tenant has none with this id, in these queues.
    pub async fn webhook_redeliver(
        &self,
        tenant: &TenantName,
        queues: Option<&[QueueName]>,
        delivery: WebhookId,
    ) -> Result<Option<WebhookView>, StoreError> {
        let queues = names(queues);
        let row = sqlx::query_as!(
            WebhookRow,
            r#"-- webhook_redeliver
            UPDATE sluice.webhook_deliveries d
            SET state = 'pending', due_at = clock_timestamp(), tries = 0, lease_id = NULL, ended_at = NULL
            WHERE d.id = $1 AND d.tenant = $2 AND ($3::text[] IS NULL OR d.queue = ANY ($3))
            RETURNING d.id, d.job_id, d.generation, d.url, d.job_state::text AS "job_state!", d.state, d.tries,
                      d.created_at, d.due_at, d.last_try_at, d.status_code, d.problem, d.ended_at"#,
            delivery.as_uuid(),
            tenant.as_str(),
            queues.as_deref(),
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(WebhookRow::into_view).transpose()
    }

    /// A page of a tenant's deliveries, the newest first.
    pub async fn webhooks(
        &self,
        tenant: &TenantName,
        page: &WebhookPage,
    ) -> Result<Vec<WebhookView>, StoreError> {
        let queues = names(page.queues.as_deref());
        let rows = sqlx::query_as!(
            WebhookRow,
            r#"-- webhook_deliveries_list
            SELECT d.id, d.job_id, d.generation, d.url, d.job_state::text AS "job_state!", d.state, d.tries,
                   d.created_at, d.due_at, d.last_try_at, d.status_code, d.problem, d.ended_at
            FROM sluice.webhook_deliveries d
            WHERE d.tenant = $1 AND ($2::text IS NULL OR d.state = $2) AND ($3::uuid IS NULL OR d.job_id = $3)
              AND ($4::uuid IS NULL OR d.id < $4) AND ($5::text[] IS NULL OR d.queue = ANY ($5))
            ORDER BY d.id DESC LIMIT $6"#,
            tenant.as_str(),
            page.state.map(WebhookState::as_str),
            page.job.map(JobId::as_uuid),
            page.after.map(WebhookId::as_uuid),
            queues.as_deref(),
            i64::from(page.limit),
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(WebhookRow::into_view).collect()
    }

    /// Removes deliveries that ended longer ago, and webhooks of jobs that are gone; some thousands at most. Says how
    /// many.
    pub async fn webhooks_forget(&self, keep: Duration) -> Result<u64, StoreError> {
        let forgotten = sqlx::query_scalar!(
            r#"-- webhooks_forget
            SELECT sluice.webhooks_forget(make_interval(secs => $1), 10000) AS "forgotten!""#,
            keep.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(forgotten as u64)
    }
}

struct WebhookRow {
    id: Uuid,
    job_id: Uuid,
    generation: i32,
    url: String,
    job_state: String,
    state: String,
    tries: i32,
    created_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    last_try_at: Option<DateTime<Utc>>,
    status_code: Option<i16>,
    problem: Option<String>,
    ended_at: Option<DateTime<Utc>>,
}

impl WebhookRow {
    fn into_view(self) -> Result<WebhookView, StoreError> {
        let state: WebhookState = self.state.parse().map_err(|e| unknown(&e))?;
        Ok(WebhookView {
            id: WebhookId::from_uuid(self.id),
            job_id: JobId::from_uuid(self.job_id),
            generation: self.generation as u32,
            url: WebhookUrl::from_stored(self.url),
            job_state: self.job_state.parse().map_err(|e| unknown(&e))?,
            state,
            tries: self.tries as u32,
            created_at: self.created_at,
            due_at: (state == WebhookState::Pending).then_some(self.due_at),
            last_try_at: self.last_try_at,
            status_code: self.status_code.map(|code| code as u16),
            problem: self.problem,
            ended_at: self.ended_at,
        })
    }
}

fn names(queues: Option<&[QueueName]>) -> Option<Vec<String>> {
    queues.map(|queues| queues.iter().map(ToString::to_string).collect())
}

fn unknown(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::UnknownValue(error.to_string())
}
