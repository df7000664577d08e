//! The beat: one row update for all of an incarnation's leases, over a connection of its own.

use sqlx::{Connection, PgConnection};

use sluice_domain::{IncarnationId, LeaseId};

use crate::{BreakerTold, PausedKind, Store, StoreError, identity::Identity};

/// What the database says to a beat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BeatReply {
    /// The incarnation lives.
    Alive {
        /// Leases whose job was cancelled: their calls are to be let go.
        cancelled: Vec<LeaseId>,
        /// The newest configuration, 0 where there is none.
        configuration_version: i64,
        /// When the latest gate was closed for a time, as a number that rises; 0: never.
        latest_cooldown: i64,
        /// Upstreams and accounts that must not be called.
        paused: Vec<(PausedKind, String)>,
        /// Breakers that are open.
        breakers: Vec<BreakerTold>,
        /// Incarnations that live, this one among them.
        workers_alive: u32,
    },
    /// The incarnation was found dead. The dead stay dead.
    Dead,
    /// This is another database than the one that the store belongs to.
    Elsewhere,
}

/// What a worker says of itself with a beat, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerLoad {
    /// Attempts under way.
    pub in_flight: u32,
    /// Whether it takes no more work.
    pub is_draining: bool,
}

/// The beat's own connection: the pool may be used up by others.
#[derive(Debug)]
pub struct BeatConnection {
    connection: PgConnection,
    identity: Identity,
}

impl Store {
    /// Opens a connection for beats, over the direct URL.
    pub async fn beat_connection(&self) -> Result<BeatConnection, StoreError> {
        let connection = PgConnection::connect_with(&self.direct).await?;
        Ok(BeatConnection { connection, identity: self.identity.clone() })
    }
}

impl BeatConnection {
    /// Beats for an incarnation.
    pub async fn beat(
        &mut self,
        incarnation: IncarnationId,
        load: WorkerLoad,
    ) -> Result<BeatReply, StoreError> {
        // The identity comes with each beat, since a pooler can change where a connection leads. Another database has no row
        // of this incarnation, which is no death.
        let row = sqlx::query!(
            r#"-- incarnation_beat_if_alive
            WITH beaten AS (
                UPDATE sluice.incarnations
                SET beat_at = clock_timestamp(), in_flight = $2, is_draining = $3
                WHERE id = $1 AND dead_at IS NULL
                RETURNING id
            )
            SELECT d.id AS database, b.id IS NOT NULL AS "is_alive!",
                   ARRAY(SELECT c.lease_id FROM sluice.cancelled_leases c WHERE c.incarnation_id = $1
                         ORDER BY c.lease_id LIMIT 10000) AS "cancelled!",
                   coalesce((SELECT max(version) FROM sluice.configurations), 0) AS "configuration_version!",
                   coalesce((SELECT (extract(epoch FROM max(c.closed_at)) * 1000000)::bigint
                             FROM sluice.cooldowns c), 0) AS "latest_cooldown!",
                   ARRAY(SELECT p.kind || ' ' || p.name FROM sluice.pauses p ORDER BY p.kind, p.name LIMIT 10000)
                       AS "paused!",
                   ARRAY(SELECT ceil(greatest(extract(epoch FROM k.trial_at - clock_timestamp()), 0) * 1000)::bigint
                                || ' ' || k.failed_trials || ' ' || k.upstream
                         FROM sluice.breakers k ORDER BY k.upstream LIMIT 10000) AS "breakers!",
                   (SELECT count(*) FROM sluice.incarnations i WHERE i.dead_at IS NULL) AS "workers_alive!"
            FROM sluice.identity d LEFT JOIN beaten b ON true"#,
            incarnation.as_uuid(),
            load.in_flight as i32,
            load.is_draining,
        )
        .fetch_optional(&mut self.connection)
        .await?;
        if self.identity.compare(row.as_ref().map(|row| row.database)).is_err() {
            return Ok(BeatReply::Elsewhere);
        }
        Ok(row.filter(|row| row.is_alive).map_or(BeatReply::Dead, |row| BeatReply::Alive {
            cancelled: row.cancelled.into_iter().map(LeaseId::from_uuid).collect(),
            configuration_version: row.configuration_version,
            latest_cooldown: row.latest_cooldown,
            paused: row.paused.iter().filter_map(|text| PausedKind::split(text)).collect(),
            breakers: row.breakers.iter().filter_map(|text| BreakerTold::split(text)).collect(),
            workers_alive: u32::try_from(row.workers_alive).unwrap_or(u32::MAX),
        }))
    }
}
