//! Cooldowns: gates that upstreams closed for a time, for all workers.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{PausedKind, Store, StoreError};

/// The gate of an account or an upstream, and a model by its name there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CooledGate {
    /// An account: it refused by its limits. An upstream: it asked for patience.
    pub kind: PausedKind,
    /// Its name in the configuration.
    pub name: String,
    /// The model.
    pub model: String,
}

/// A gate that was closed lately.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cooldown {
    /// Which.
    pub gate: CooledGate,
    /// When it was closed last, by the database clock.
    pub closed_at: DateTime<Utc>,
    /// No call before this time.
    pub until: DateTime<Utc>,
    /// How long that still is; nothing where it has passed.
    pub left: Duration,
    /// The error class that closed it.
    pub reason: String,
    /// Whether the upstream said how long.
    pub is_told: bool,
}

/// What a worker that asks for a gate is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateWord {
    /// Ask again after so long.
    Closed(Duration),
    /// Make one call; nobody else does for so long.
    Probe(Duration),
    /// It is open since so long, and all follow by and by.
    Ramp(Duration),
    /// It is open.
    Open,
}

impl Store {
    /// Closes a gate for so long, and the lanes of `lane_models`, which lead nowhere else; rings all workers.
    pub async fn cooldown_close(
        &self,
        gate: &CooledGate,
        wait: Duration,
        reason: &str,
        is_told: bool,
        lane_models: &[String],
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "-- cooldown_close
            SELECT sluice.cooldown_close($1, $2, $3, make_interval(secs => $4), $5, $6, $7)",
            gate.kind.as_str(),
            gate.name,
            gate.model,
            wait.as_secs_f64(),
            reason,
            is_told,
            lane_models,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Asks for a gate whose time seems to be over.
    pub async fn cooldown_ask(&self, gate: &CooledGate) -> Result<GateWord, StoreError> {
        let answer = sqlx::query!(
            r#"-- cooldown_ask
            SELECT word AS "word!", ms AS "ms!" FROM sluice.cooldown_ask($1, $2, $3)"#,
            gate.kind.as_str(),
            gate.name,
            gate.model,
        )
        .fetch_one(&self.pool)
        .await?;
        let time = Duration::from_millis(answer.ms.max(0) as u64);
        match answer.word.as_str() {
            "closed" => Ok(GateWord::Closed(time)),
            "probe" => Ok(GateWord::Probe(time)),
            "ramp" => Ok(GateWord::Ramp(time)),
            "open" => Ok(GateWord::Open),
            other => Err(StoreError::UnknownValue(format!("word of a gate {other}"))),
        }
    }

    /// The gates that are closed, or were until a moment ago; a thousand at most.
    pub async fn cooldowns(&self) -> Result<Vec<Cooldown>, StoreError> {
        let rows = sqlx::query!(
            r#"-- cooldown_list
            SELECT kind, name, model, closed_at, until, reason, is_told,
                   greatest(0, extract(epoch FROM until - clock_timestamp()) * 1000)::bigint AS "left_ms!"
            FROM sluice.cooldowns WHERE until > clock_timestamp() - interval '5 s'
            ORDER BY kind, name, model LIMIT 1000"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Cooldown {
                gate: CooledGate {
                    kind: if row.kind == "account" { PausedKind::Account } else { PausedKind::Upstream },
                    name: row.name,
                    model: row.model,
                },
                closed_at: row.closed_at,
                until: row.until,
                left: Duration::from_millis(row.left_ms as u64),
                reason: row.reason,
                is_told: row.is_told,
            })
            .collect())
    }
}
