//! Events of streamed answers on their way from a worker to whoever waits for them.

use std::time::Duration;

use sluice_domain::JobId;

use crate::{Store, StoreError};

/// One event of an attempt's stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamEvent {
    /// The job.
    pub job: JobId,
    /// The attempt: which lease of the job.
    pub lease_no: u32,
    /// Its place in the attempt's stream, from 0, without gaps.
    pub event_no: u32,
    /// Its data; `None`: the stream broke off here, and the answer is no result.
    pub data: Option<Vec<u8>>,
}

/// Up to where somebody has read a job's events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPosition {
    /// The job.
    pub job: JobId,
    /// The attempt that is read.
    pub lease_no: u32,
    /// The next event of it.
    pub event_no: u32,
    /// So many events are wanted at most.
    pub limit: u32,
}

impl Store {
    /// Somebody waits for the events of these jobs, from now for so long.
    pub async fn streams_wait(&self, jobs: &[JobId], window: Duration) -> Result<(), StoreError> {
        let jobs: Vec<_> = jobs.iter().map(|job| job.as_uuid()).collect();
        sqlx::query!(
            "-- stream_wait_many
            INSERT INTO sluice.stream_waits (job_id, until)
            SELECT DISTINCT w.job_id, clock_timestamp() + make_interval(secs => $2)
            FROM unnest($1::uuid[]) AS w(job_id)
            ON CONFLICT (job_id) DO UPDATE SET until = excluded.until",
            &jobs,
            window.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Writes the events of jobs that somebody waits for; those of others are thrown away. Says which of the jobs that
    /// were `asked` about somebody waits for.
    pub async fn stream_events_write(
        &self,
        asked: &[JobId],
        events: &[StreamEvent],
    ) -> Result<Vec<JobId>, StoreError> {
        let asked: Vec<_> = asked.iter().map(|job| job.as_uuid()).collect();
        let jobs: Vec<_> = events.iter().map(|event| event.job.as_uuid()).collect();
        let lease_nos: Vec<_> = events.iter().map(|event| event.lease_no as i32).collect();
        let event_nos: Vec<_> = events.iter().map(|event| event.event_no as i32).collect();
        let data: Vec<_> = events.iter().map(|event| event.data.as_deref()).collect();
        let waited = sqlx::query_scalar!(
            r#"-- stream_write_if_waited_for
            SELECT w AS "job_id!" FROM sluice.stream_write($1, $2, $3, $4, $5) AS w"#,
            &asked,
            &jobs,
            &lease_nos,
            &event_nos,
            &data as _,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(waited.into_iter().map(JobId::from_uuid).collect())
    }

    /// The events from each position on, as far as they are there, each with the index of its position, in their order.
    pub async fn stream_events_read(
        &self,
        positions: &[StreamPosition],
    ) -> Result<Vec<(usize, StreamEvent)>, StoreError> {
        let jobs: Vec<_> = positions.iter().map(|position| position.job.as_uuid()).collect();
        let lease_nos: Vec<_> = positions.iter().map(|position| position.lease_no as i32).collect();
        let event_nos: Vec<_> = positions.iter().map(|position| position.event_no as i32).collect();
        let limits: Vec<_> = positions.iter().map(|position| i64::from(position.limit)).collect();
        let rows = sqlx::query!(
            r#"-- stream_events_read
            SELECT p.ordinal AS "ordinal!", e.job_id AS "job_id!", e.lease_no AS "lease_no!",
                   e.event_no AS "event_no!", e.data
            FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[]) WITH ORDINALITY
                 AS p(job_id, lease_no, event_no, most, ordinal)
            CROSS JOIN LATERAL (
                SELECT s.job_id, s.lease_no, s.event_no, s.data FROM sluice.stream_events s
                WHERE s.job_id = p.job_id AND (s.lease_no, s.event_no) >= (p.lease_no, p.event_no)
                ORDER BY s.lease_no, s.event_no LIMIT p.most) e
            ORDER BY p.ordinal, e.lease_no, e.event_no"#,
            &jobs,
            &lease_nos,
            &event_nos,
            &limits,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let event = StreamEvent {
                    job: JobId::from_uuid(row.job_id),
                    lease_no: row.lease_no as u32,
                    event_no: row.event_no as u32,
                    data: row.data,
                };
                (row.ordinal as usize - 1, event)
            })
            .collect())
    }

    /// Forgets streams that nobody has waited for within `window`, `limit` at most; says how many.
    pub async fn streams_forget(&self, window: Duration, limit: u32) -> Result<u64, StoreError> {
        let forgotten = sqlx::query_scalar!(
            r#"-- stream_forget_many
            WITH over AS (
                DELETE FROM sluice.stream_waits WHERE job_id IN (
                    SELECT w.job_id FROM sluice.stream_waits w
                    WHERE w.until < clock_timestamp() - make_interval(secs => $1)
                    ORDER BY w.until LIMIT $2 FOR UPDATE SKIP LOCKED)
                RETURNING job_id
            ), gone AS (
                DELETE FROM sluice.stream_events e USING over o WHERE e.job_id = o.job_id
            )
            SELECT count(*) AS "count!" FROM over"#,
            window.as_secs_f64(),
            i64::from(limit),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(forgotten as u64)
    }
}
