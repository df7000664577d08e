//! NOTIFY switched off in one database: what notifies calls a function that does nothing, and whoever listens stays
//! connected and hears nothing.
//!
//! Postgres runs its own `pg_notify` whatever its catalogue says. So each function of the schema that calls it is made
//! anew with another one, and sessions that begin later find that one first.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use sqlx::{PgPool, postgres::PgListener};
use tokio::time::timeout;

use crate::lab::{Lab, until};

/// All that the product rings.
const BELLS: [&str; 3] = ["sluice_ready", "sluice_ended", "sluice_cancelled"];
/// What the lab rings itself, to hear that it hears.
const OWN_BELL: &str = "lab_hears";
/// Longer than a bell that was rung takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const SWITCH_OFF: [&str; 4] = [
    "CREATE SCHEMA quiet",
    "CREATE FUNCTION quiet.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''",
    "DO $$
     DECLARE v_function text;
     BEGIN
         FOR v_function IN
             SELECT pg_get_functiondef(p.oid) FROM pg_proc p
             WHERE p.pronamespace = 'sluice'::regnamespace AND p.prosrc LIKE '%pg_notify(%'
         LOOP
             EXECUTE replace(v_function, 'pg_notify(', 'quiet.pg_notify(');
         END LOOP;
     END $$",
    "ALTER DATABASE sluice SET search_path = quiet, pg_catalog, public",
];

/// A database in which nobody is notified, for sessions that begin after this was made.
pub struct Silence {
    pool: PgPool,
    listener: PgListener,
}

impl Silence {
    /// Switches NOTIFY off, and listens.
    pub async fn fall(lab: &Lab) -> Result<Self> {
        let pool = lab.pool().clone();
        for statement in SWITCH_OFF {
            sqlx::query(statement).execute(&pool).await.with_context(|| statement.to_owned())?;
        }
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen_all(BELLS.into_iter().chain([OWN_BELL])).await?;
        Ok(Self { pool, listener })
    }

    /// Waits for the worker that was started in silence to listen, and gives its session. What rang until then was rung by
    /// sessions that were older than the silence.
    pub async fn until_listened(&mut self) -> Result<BTreeSet<i32>> {
        until("the worker to listen", PATIENCE, async || Ok(!self.listeners().await?.is_empty())).await?;
        self.heard().await?;
        self.listeners().await
    }

    /// The sessions of workers that listen, and have not been asked yet whether they are still there.
    async fn listeners(&self) -> Result<BTreeSet<i32>> {
        let sessions: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
             WHERE datname = current_database() AND query ILIKE 'LISTEN %sluice_ready%'
               AND query NOT ILIKE '%lab_hears%'",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(sessions.into_iter().collect())
    }

    /// Which of these sessions still listen.
    pub async fn left_of(&self, listeners: &BTreeSet<i32>) -> Result<BTreeSet<i32>> {
        let sessions: Vec<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity
             WHERE pid = ANY($1) AND (query ILIKE 'LISTEN %sluice_ready%' OR query LIKE '-- doorbell_connection_check%')",
        )
        .bind(listeners.iter().copied().collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?;
        Ok(sessions.into_iter().collect())
    }

    /// How many bells rang since this was last asked.
    pub async fn heard(&mut self) -> Result<usize> {
        sqlx::query("SELECT pg_catalog.pg_notify($1, '')").bind(OWN_BELL).execute(&self.pool).await?;
        for heard in 0.. {
            let bell = timeout(PATIENCE, self.listener.recv()).await.context("hear the lab's own bell")??;
            if bell.channel() == OWN_BELL {
                return Ok(heard);
            }
        }
        Ok(0)
    }
}
