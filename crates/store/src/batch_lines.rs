//! The lines of batches: which job each is, and which have ended.

use uuid::Uuid;

use sluice_domain::{BatchId, JobId};

use crate::{Store, StoreError};

/// One line of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchLine {
    /// Its number in the file.
    pub line_no: u32,
    /// The user's name for it.
    pub custom_id: String,
    /// Its job.
    pub job: JobId,
}

impl Store {
    /// Says which jobs lines are to be, unless they have been said before. Gives the jobs of those lines as they now
    /// stand, in their order.
    pub async fn batch_lines_name(
        &self,
        batch: BatchId,
        lines: &[BatchLine],
    ) -> Result<Vec<JobId>, StoreError> {
        let numbers: Vec<_> = lines.iter().map(|line| line.line_no as i32).collect();
        let custom_ids: Vec<_> = lines.iter().map(|line| line.custom_id.as_str()).collect();
        let jobs: Vec<_> = lines.iter().map(|line| line.job.as_uuid()).collect();
        let named = sqlx::query!(
            "-- batch_line_name_many
            INSERT INTO sluice.batch_lines (batch_id, line_no, custom_id, job_id)
            SELECT $1, l.line_no, l.custom_id, l.job_id
            FROM unnest($2::integer[], $3::text[], $4::uuid[]) AS l(line_no, custom_id, job_id)
            ON CONFLICT DO NOTHING",
            batch.as_uuid(),
            &numbers,
            &custom_ids as _,
            &jobs,
        )
        .execute(&self.pool)
        .await?;
        if named.rows_affected() == lines.len() as u64 {
            return Ok(lines.iter().map(|line| line.job).collect());
        }
        let known = sqlx::query_scalar!(
            r#"-- batch_line_jobs
            SELECT b.job_id AS "job_id!" FROM unnest($2::integer[]) WITH ORDINALITY AS l(line_no, ordinal)
            JOIN sluice.batch_lines b ON b.batch_id = $1 AND b.line_no = l.line_no
            ORDER BY l.ordinal LIMIT 100000"#,
            batch.as_uuid(),
            &numbers,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(known.into_iter().map(JobId::from_uuid).collect())
    }

    /// Which of these jobs there are.
    pub async fn jobs_stored_among(&self, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let jobs: Vec<_> = jobs.iter().map(|job| job.as_uuid()).collect();
        let stored = sqlx::query_scalar!(
            r#"-- job_stored_among
            SELECT i.id AS "id!" FROM unnest($1::uuid[]) AS i(id)
            WHERE EXISTS (SELECT FROM sluice.jobs j WHERE j.id = i.id)
            LIMIT 100000"#,
            &jobs,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(stored.into_iter().map(JobId::from_uuid).collect())
    }

    /// Counts the open lines after a line, `limit` at most. Gives how many it looked at, how many of them had ended, and
    /// the last of them; `None` where the claim is over.
    pub async fn batch_lines_count(
        &self,
        batch: BatchId,
        claim: Uuid,
        after: u32,
        limit: u32,
    ) -> Result<Option<(u32, u32, u32)>, StoreError> {
        let counted = sqlx::query!(
            r#"-- batch_count_if_claimed
            SELECT seen AS "seen!", ended AS "ended!", last_line FROM sluice.batch_count($1, $2, $3, $4)"#,
            batch.as_uuid(),
            claim,
            after as i32,
            limit as i32,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(counted.map(|row| (row.seen as u32, row.ended as u32, row.last_line.unwrap_or(0) as u32)))
    }

    /// A page of the lines of a batch, after a line.
    pub async fn batch_lines(
        &self,
        batch: BatchId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<BatchLine>, StoreError> {
        let rows = sqlx::query!(
            "-- batch_line_list
            SELECT line_no, custom_id, job_id FROM sluice.batch_lines
            WHERE batch_id = $1 AND line_no > $2
            ORDER BY line_no LIMIT $3",
            batch.as_uuid(),
            after as i32,
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        let line = |line_no: i32, custom_id, job_id| BatchLine {
            line_no: line_no as u32,
            custom_id,
            job: JobId::from_uuid(job_id),
        };
        Ok(rows.into_iter().map(|row| line(row.line_no, row.custom_id, row.job_id)).collect())
    }

    /// Forgets lines that never became jobs.
    pub async fn batch_lines_forget(&self, batch: BatchId, lines: &[u32]) -> Result<(), StoreError> {
        let lines: Vec<_> = lines.iter().map(|line| *line as i32).collect();
        sqlx::query!(
            "-- batch_line_forget_without_job
            DELETE FROM sluice.batch_lines l
            WHERE l.batch_id = $1 AND l.line_no = ANY ($2::integer[])
              AND NOT EXISTS (SELECT FROM sluice.jobs j WHERE j.id = l.job_id)",
            batch.as_uuid(),
            &lines,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The jobs of open lines after a line: those to cancel.
    pub async fn batch_lines_open(
        &self,
        batch: BatchId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<(u32, JobId)>, StoreError> {
        let rows = sqlx::query!(
            "-- batch_line_list_open
            SELECT line_no, job_id FROM sluice.batch_lines
            WHERE batch_id = $1 AND has_result IS NULL AND line_no > $2
            ORDER BY line_no LIMIT $3",
            batch.as_uuid(),
            after as i32,
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.line_no as u32, JobId::from_uuid(row.job_id))).collect())
    }
}
