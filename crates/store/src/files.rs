//! Files, in chunks. A file that is not complete is seen by nobody, and swept after a day.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use sluice_domain::{FileId, StoredFile, TenantName};

use crate::{Store, StoreError};

/// A file that is about to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewFile {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub tenant: TenantName,
    /// What it is for.
    pub purpose: String,
    /// Its name.
    pub filename: String,
    /// How long it is kept.
    pub expires_in: Option<Duration>,
}

/// Which files a list shows: after a file, the newest first unless `is_ascending`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilePage {
    /// For this purpose alone.
    pub purpose: Option<String>,
    /// After this one.
    pub after: Option<FileId>,
    /// The oldest first.
    pub is_ascending: bool,
    /// So many at most.
    pub limit: u32,
}

impl Store {
    /// Begins a file.
    pub async fn file_begin(&self, file: &NewFile) -> Result<(), StoreError> {
        sqlx::query!(
            "-- file_begin
            INSERT INTO sluice.files (id, tenant, purpose, filename, created_at, expires_at)
            VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $5))",
            file.id.as_uuid(),
            file.tenant.as_str(),
            file.purpose,
            file.filename,
            file.expires_in.map(|time| time.as_secs_f64()),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Adds a chunk.
    pub async fn file_chunk_write(&self, file: FileId, number: u32, body: &[u8]) -> Result<(), StoreError> {
        let mut lent = self.pool.lend().await?;
        let written = sqlx::query!(
            "-- file_chunk_write
            INSERT INTO sluice.file_chunks (file_id, number, body) VALUES ($1, $2, $3)",
            file.as_uuid(),
            number as i32,
            body,
        )
        .execute(&mut *lent)
        .await;
        lent.done_with_much();
        written?;
        Ok(())
    }

    /// All chunks of a file that a client sent are written, and all is known of it: from here on it is seen.
    pub async fn file_complete(
        &self,
        file: &NewFile,
        bytes: u64,
        chunks: u32,
    ) -> Result<StoredFile, StoreError> {
        let row = sqlx::query_as!(
            FileRow,
            r#"-- file_complete_if_begun
            UPDATE sluice.files
            SET bytes = $2, chunks = $3, purpose = $4, filename = $5,
                expires_at = created_at + make_interval(secs => $6)
            WHERE id = $1 AND bytes IS NULL
            RETURNING id, purpose, filename, bytes AS "bytes!", chunks AS "chunks!", created_at, expires_at"#,
            file.id.as_uuid(),
            bytes as i64,
            chunks as i32,
            file.purpose,
            file.filename,
            file.expires_in.map(|time| time.as_secs_f64()),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.into())
    }

    /// One complete file of a tenant.
    pub async fn file(&self, tenant: &TenantName, file: FileId) -> Result<Option<StoredFile>, StoreError> {
        let row = sqlx::query_as!(
            FileRow,
            r#"-- file_read
            SELECT id, purpose, filename, bytes AS "bytes!", chunks AS "chunks!", created_at, expires_at
            FROM sluice.files WHERE id = $1 AND tenant = $2 AND bytes IS NOT NULL"#,
            file.as_uuid(),
            tenant.as_str(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(StoredFile::from))
    }

    /// A page of the complete files of a tenant.
    pub async fn files(&self, tenant: &TenantName, page: &FilePage) -> Result<Vec<StoredFile>, StoreError> {
        let rows = sqlx::query_as!(
            FileRow,
            r#"-- file_list
            SELECT id, purpose, filename, bytes AS "bytes!", chunks AS "chunks!", created_at, expires_at
            FROM sluice.files
            WHERE tenant = $1 AND bytes IS NOT NULL AND ($2::text IS NULL OR purpose = $2)
              AND ($3::uuid IS NULL OR CASE WHEN $4 THEN id > $3 ELSE id < $3 END)
            ORDER BY CASE WHEN $4 THEN id END, CASE WHEN NOT $4 THEN id END DESC
            LIMIT $5"#,
            tenant.as_str(),
            page.purpose.as_deref(),
            page.after.map(FileId::as_uuid),
            page.is_ascending,
            i64::from(page.limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(StoredFile::from).collect())
    }

    /// One chunk of a file; the caller has seen that the file is its tenant's.
    pub async fn file_chunk(&self, file: FileId, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let mut lent = self.pool.lend().await?;
        let body = sqlx::query_scalar!(
            "-- file_chunk_read
            SELECT body FROM sluice.file_chunks WHERE file_id = $1 AND number = $2",
            file.as_uuid(),
            number as i32,
        )
        .fetch_optional(&mut *lent)
        .await;
        lent.done_with_much();
        Ok(body?)
    }

    /// Deletes a file of a tenant, also one that is not complete; says whether there was one.
    pub async fn file_delete(&self, tenant: &TenantName, file: FileId) -> Result<bool, StoreError> {
        let deleted = sqlx::query_scalar!(
            r#"-- file_delete
            WITH gone AS (DELETE FROM sluice.files WHERE id = $1 AND tenant = $2 RETURNING id),
                 chunks AS (DELETE FROM sluice.file_chunks c USING gone g WHERE c.file_id = g.id)
            SELECT count(*) AS "count!" FROM gone"#,
            file.as_uuid(),
            tenant.as_str(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(deleted > 0)
    }

    /// Deletes files that have expired, and those that were begun over a day ago and never completed, `limit` at most;
    /// says how many.
    pub async fn files_forget(&self, limit: u32) -> Result<u64, StoreError> {
        let deleted = sqlx::query_scalar!(
            r#"-- file_forget_expired
            WITH gone AS (
                DELETE FROM sluice.files WHERE id IN (
                    SELECT f.id FROM sluice.files f
                    WHERE f.expires_at < clock_timestamp()
                       OR (f.bytes IS NULL AND f.created_at < clock_timestamp() - interval '1 day')
                    LIMIT $1 FOR UPDATE SKIP LOCKED)
                RETURNING id
            ), chunks AS (
                DELETE FROM sluice.file_chunks c USING gone g WHERE c.file_id = g.id
            )
            SELECT count(*) AS "count!" FROM gone"#,
            i64::from(limit),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(deleted as u64)
    }
}

struct FileRow {
    id: Uuid,
    purpose: String,
    filename: String,
    bytes: i64,
    chunks: i32,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

impl From<FileRow> for StoredFile {
    fn from(row: FileRow) -> Self {
        Self {
            id: FileId::from_uuid(row.id),
            purpose: row.purpose,
            filename: row.filename,
            bytes: row.bytes as u64,
            chunks: row.chunks as u32,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}
