//! A connection of the pool that is kept between statements, for a task that submits again and again.
//!
//! Taking a connection from the pool and giving it back costs up to two round trips, nearly as much as a small submit.
//! A connection is kept only while its statements succeed, and its holder lets go of it when there is nothing to do.

use std::time::Duration;

use sqlx::{pool::PoolConnection, postgres::Postgres};

use sluice_domain::{NewJob, SubmitOutcome};

use crate::{
    Store, StoreError,
    pool::{Connections, Lent},
    submit::{Submitted, as_key_wait_ms, none_if_key_held, submit_batch, submit_one},
};

/// A connection for one task. A call that is dropped half way loses the connection, and the next one takes another.
#[derive(Debug)]
pub struct SubmitConnection {
    pool: Connections,
    kept: Option<PoolConnection<Postgres>>,
}

impl Store {
    /// A connection to submit over, which is taken at the first statement.
    pub fn submit_connection(&self) -> SubmitConnection {
        SubmitConnection { pool: self.pool.clone(), kept: None }
    }
}

impl SubmitConnection {
    /// As [`Store::submit_many_if_keys_free`], for at least one job.
    pub async fn submit_many_if_keys_free(
        &mut self,
        jobs: &[NewJob],
        key_wait: Duration,
    ) -> Result<Option<Submitted>, StoreError> {
        let mut lent = self.take().await?;
        let submitted = submit_batch(&mut lent, jobs, as_key_wait_ms(key_wait)).await;
        self.keep_unless_broken(lent.done(), submitted.as_ref().err());
        none_if_key_held(submitted)
    }

    /// Stores one job that has neither an idempotency key nor a webhook. With `wakes`, sleeping workers are
    /// rung by the same statement: they hear it with its commit. That takes a lock that is global to the server, so it
    /// is for whoever has not rung for a while; and since a worker that falls asleep meanwhile is missed, ring once more
    /// afterwards. `None`: somebody holds a whole table, and nothing was stored.
    pub async fn submit_keyless(
        &mut self,
        job: &NewJob,
        wakes: bool,
    ) -> Result<Option<Submitted>, StoreError> {
        let mut lent = self.take().await?;
        let created_at = submit_one(&mut lent, job, wakes).await;
        self.keep_unless_broken(lent.done(), created_at.as_ref().err());
        let created_at = none_if_key_held(created_at)?;
        Ok(created_at
            .map(|at| Submitted { outcomes: vec![SubmitOutcome::Created(job.id)], created_at: Some(at) }))
    }

    /// Gives the connection back to the pool.
    pub fn rest(&mut self) {
        self.kept = None;
    }

    async fn take(&mut self) -> Result<Lent, StoreError> {
        match self.kept.take() {
            Some(kept) => Ok(Lent::of(kept)),
            None => Ok(self.pool.lend().await?),
        }
    }

    /// What is not kept goes back to the pool, which tests it.
    fn keep_unless_broken(&mut self, connection: PoolConnection<Postgres>, error: Option<&StoreError>) {
        if !error.is_some_and(StoreError::is_unavailable) {
            self.kept = Some(connection);
        }
    }
}
