//! Upstreams and accounts that are not called until somebody resumes them.

use chrono::{DateTime, Utc};

use crate::{Store, StoreError};

/// What is paused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PausedKind {
    /// One base URL with its credential.
    Upstream,
    /// What the provider counts limits and money against.
    Account,
    /// One model of an upstream, which is named by both ([`paused_model`]).
    Model,
}

/// The name of a model of an upstream, as pauses have it.
pub fn paused_model(upstream: &str, model: &str) -> String {
    format!("{upstream} {model}")
}

impl PausedKind {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Account => "account",
            Self::Model => "model",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Upstream, Self::Account, Self::Model].into_iter().find(|known| known.as_str() == word)
    }

    /// Takes apart the `kind name` that a beat answers with.
    pub(crate) fn split(text: &str) -> Option<(Self, String)> {
        let (kind, name) = text.split_once(' ')?;
        Some((Self::of_word(kind)?, name.to_owned()))
    }
}

/// A pause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pause {
    /// What is paused.
    pub kind: PausedKind,
    /// Its name in the configuration.
    pub name: String,
    /// Since when, by the database clock.
    pub paused_at: DateTime<Utc>,
    /// Why: `operator`, or the error class that a worker met.
    pub reason: String,
}

impl Store {
    /// All pauses, by kind and name.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query!(
            "-- pause_list
            SELECT kind, name, paused_at, reason FROM sluice.pauses ORDER BY kind, name LIMIT 10000"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Pause {
                kind: PausedKind::of_word(&row.kind).unwrap_or(PausedKind::Upstream),
                name: row.name,
                paused_at: row.paused_at,
                reason: row.reason,
            })
            .collect())
    }

    /// Pauses an upstream or an account; a pause that is there keeps its reason. Says whether it is new.
    pub async fn pause(&self, kind: PausedKind, name: &str, reason: &str) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- pause_set
            INSERT INTO sluice.pauses (kind, name, paused_at, reason) VALUES ($1, $2, clock_timestamp(), $3)
            ON CONFLICT DO NOTHING",
            kind.as_str(),
            name,
            reason,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Resumes an upstream with its models, or an account. Says whether anything was paused.
    pub async fn resume(&self, kind: PausedKind, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "-- pause_clear
            DELETE FROM sluice.pauses
            WHERE (kind = $1 AND name = $2)
               OR ($1 = 'upstream' AND kind = 'model' AND split_part(name, ' ', 1) = $2)",
            kind.as_str(),
            name,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
