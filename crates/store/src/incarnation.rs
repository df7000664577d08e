//! The rows of worker incarnations: start, sleep, end, and the list that people see.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sluice_domain::IncarnationId;

use crate::{CrashPoint, Store, StoreError, crash_point};

/// A worker process that starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewIncarnation {
    /// Its id.
    pub id: IncarnationId,
    /// The worker's name, for people.
    pub worker: String,
    /// Which host and boot it runs on.
    pub host: String,
    /// The file that it holds locked while it lives.
    pub lock_path: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// Whether it runs suspects in a process of their own, so that its death is not their doing.
    pub isolates_suspects: bool,
}

/// An incarnation as people see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerRow {
    /// Its id.
    pub id: IncarnationId,
    /// The worker's name.
    pub worker: String,
    /// Which host and boot it runs on.
    pub host: String,
    /// The file that it holds locked while it lives.
    pub lock_path: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// The version of its program.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Its last beat.
    pub beat_at: DateTime<Utc>,
    /// Milliseconds since its last beat, by the database clock.
    pub beat_age_ms: i64,
    /// Whether it found nothing to do.
    pub is_asleep: bool,
    /// Whether it takes no more work.
    pub is_draining: bool,
    /// Attempts under way at its last beat.
    pub in_flight: u32,
}

/// An incarnation that can be known to be dead by its lock file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockedWorker {
    /// Its id.
    pub id: IncarnationId,
    /// The worker's name.
    pub worker: String,
    /// Its process id.
    pub pid: u32,
    /// The file that it holds locked while it lives.
    pub lock_path: String,
}

impl WorkerRow {
    /// The row as REST and the command line show it.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "id": self.id, "object": "worker", "worker": self.worker, "host": self.host, "pid": self.pid,
            "version": self.version, "started_at": self.started_at, "beat_at": self.beat_at,
            "beat_age_ms": self.beat_age_ms, "asleep": self.is_asleep, "draining": self.is_draining,
            "in_flight": self.in_flight,
        })
    }
}

impl Store {
    /// Writes the row of an incarnation that starts; its first beat is now. In another database than the one that the store
    /// belongs to, nothing is written: [`StoreError::OtherDatabase`].
    pub async fn incarnation_start(&self, new: &NewIncarnation) -> Result<(), StoreError> {
        let database = self.identity.database();
        let started = sqlx::query!(
            "-- incarnation_start_if_same_database
            INSERT INTO sluice.incarnations
                (id, worker, host, lock_path, pid, version, isolates_suspects, started_at, beat_at)
            SELECT $1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp()
            WHERE $8::uuid IS NULL OR EXISTS (SELECT FROM sluice.identity d WHERE d.id = $8)",
            new.id.as_uuid(),
            new.worker,
            new.host,
            new.lock_path,
            new.pid as i32,
            new.version,
            new.isolates_suspects,
            database,
        )
        .execute(&self.pool)
        .await?;
        if started.rows_affected() == 0 {
            // Nobody says here which one it is: not ours.
            self.identity.compare(None).map_err(|_| StoreError::OtherDatabase)?;
        }
        Ok(())
    }

    /// Says that an incarnation found nothing to do and wants to hear of new work. The caller looks once more after.
    pub async fn incarnation_sleep(&self, id: IncarnationId) -> Result<(), StoreError> {
        self.incarnation_set_asleep(id, Sleep::Asleep).await
    }

    /// Says that an incarnation has work again.
    pub async fn incarnation_wake(&self, id: IncarnationId) -> Result<(), StoreError> {
        self.incarnation_set_asleep(id, Sleep::Awake).await
    }

    async fn incarnation_set_asleep(&self, id: IncarnationId, sleep: Sleep) -> Result<(), StoreError> {
        sqlx::query!(
            "-- incarnation_set_asleep
            UPDATE sluice.incarnations SET is_asleep = $2 WHERE id = $1 AND dead_at IS NULL",
            id.as_uuid(),
            sleep == Sleep::Asleep,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends an incarnation, at its clean exit. Leases that it still has end at once; says how many.
    pub async fn incarnation_end(&self, id: IncarnationId) -> Result<u32, StoreError> {
        sqlx::query!(
            "-- incarnation_end
            UPDATE sluice.incarnations SET dead_at = clock_timestamp() WHERE id = $1 AND dead_at IS NULL",
            id.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        self.incarnation_expire_leases(id).await
    }

    /// Ends an incarnation that is known to be dead, and the leases that it still has; says how many. `None`: it had
    /// ended before, or somebody holds its row. Then it is the next look's, or a reaper's.
    pub async fn incarnation_end_if_unlocked(&self, id: IncarnationId) -> Result<Option<u32>, StoreError> {
        let done = sqlx::query!(
            "-- incarnation_end_if_unlocked
            UPDATE sluice.incarnations SET dead_at = clock_timestamp()
            WHERE id IN (SELECT i.id FROM sluice.incarnations i
                         WHERE i.id = $1 AND i.dead_at IS NULL FOR UPDATE SKIP LOCKED)",
            id.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        Ok(Some(self.incarnation_expire_leases(id).await?))
    }

    async fn incarnation_expire_leases(&self, id: IncarnationId) -> Result<u32, StoreError> {
        let mut ended = 0;
        crash_point(CrashPoint::IncarnationEnded);
        loop {
            let page = sqlx::query_scalar!(
                r#"-- incarnation_expire_leases
                SELECT sluice.expire_leases($1, 1000) AS "moved!""#,
                id.as_uuid(),
            )
            .fetch_one(&self.pool)
            .await?;
            crash_point(CrashPoint::LeasesExpired);
            ended += page as u32;
            if page < 1000 {
                return Ok(ended);
            }
        }
    }

    /// The incarnations of a host that are not known to be dead and hold a lock file, a hundred thousand at most.
    pub async fn workers_of_host(&self, host: &str) -> Result<Vec<LockedWorker>, StoreError> {
        let rows = sqlx::query!(
            r#"-- incarnation_list_alive_of_host
            SELECT id, worker, pid, lock_path AS "lock_path!" FROM sluice.incarnations
            WHERE dead_at IS NULL AND host = $1 AND lock_path IS NOT NULL ORDER BY id LIMIT 100000"#,
            host,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| LockedWorker {
                id: IncarnationId::from_uuid(row.id),
                worker: row.worker,
                pid: row.pid as u32,
                lock_path: row.lock_path,
            })
            .collect())
    }

    /// The incarnations that are not known to be dead, newest first.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let rows = sqlx::query!(
            r#"-- incarnation_list_alive
            SELECT id, worker, host, lock_path, pid, version, started_at, beat_at, is_asleep, is_draining, in_flight,
                   (extract(epoch FROM clock_timestamp() - beat_at) * 1000)::bigint AS "beat_age_ms!"
            FROM sluice.incarnations WHERE dead_at IS NULL ORDER BY id DESC LIMIT 1000"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| WorkerRow {
                id: IncarnationId::from_uuid(row.id),
                worker: row.worker,
                host: row.host,
                lock_path: row.lock_path,
                pid: row.pid as u32,
                version: row.version,
                started_at: row.started_at,
                beat_at: row.beat_at,
                beat_age_ms: row.beat_age_ms,
                is_asleep: row.is_asleep,
                is_draining: row.is_draining,
                in_flight: row.in_flight as u32,
            })
            .collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Asleep,
    Awake,
}
