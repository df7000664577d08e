//! The pool, with one thing that sqlx's own lacks: a statement that is given up after a while costs its connection.
//!
//! A future that is dropped leaves a statement under way. Its connection goes back to the pool once the server has
//! answered, and until then it counts against the bound of the pool. Where the connection was lost without a word (a
//! host that is gone, a router that forgot it) the answer never comes, and TCP gives up only after a quarter of an hour:
//! ten statements that were given up, and the pool has nothing left. So a connection whose statement took long when it
//! was given up is closed instead. One that is dropped sooner is most likely sound: a client went away.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use futures::{
    StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Connection as _, Describe, Either, Execute, Executor, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnection, PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres},
};

use crate::identity::Identity;

/// A statement that was given up sooner says nothing about its connection.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// The pool of a store. Statements run on it as on [`PgPool`].
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pool: PgPool,
    identity: Identity,
}

impl Connections {
    pub(crate) fn new(pool: PgPool, identity: Identity) -> Self {
        Self { pool, identity }
    }

    /// Takes a connection for a statement.
    pub(crate) async fn lend(&self) -> Result<Lent, sqlx::Error> {
        self.identity.test().map_err(|other| sqlx::Error::Configuration(Box::new(other)))?;
        Ok(Lent::of(self.pool.acquire().await?))
    }
}

impl Deref for Connections {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

/// A connection with a statement under way, until [`Lent::done`].
pub(crate) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    since: Instant,
}

impl Lent {
    /// A statement begins on this connection.
    pub(crate) fn of(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), since: Instant::now() }
    }

    /// The statement has ended, in whatever way.
    pub(crate) fn done(mut self) -> PoolConnection<Postgres> {
        self.connection.take().expect("it is taken only here and at the end")
    }

    /// The same for a statement that carried megabytes. A connection keeps the largest buffers that it ever needed, and a pool
    /// of twenty would keep them twenty times.
    pub(crate) fn done_with_much(mut self) {
        self.shrink_buffers();
        drop(self.done());
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is taken only at the end")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken only at the end")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection
            && self.since.elapsed() >= SUSPECT_AFTER
        {
            connection.close_on_drop();
        }
    }
}

impl<'p> Executor<'p> for &'_ Connections {
    type Database = Postgres;

    // Results are gathered before they are handed out. All callers gather them anyway, and so the connection is free
    // sooner.
    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        let gathering = async move {
            let mut lent = connections.lend().await?;
            let gathered: Result<Vec<_>, _> = lent.fetch_many(query).try_collect().await;
            drop(lent.done());
            gathered
        };
        gathering.map_ok(|gathered| stream::iter(gathered).map(Ok)).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let row = lent.fetch_optional(query).await;
            drop(lent.done());
            row
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let statement = lent.prepare_with(sql, parameters).await;
            drop(lent.done());
            statement
        })
    }

    // What the macros ask at compile time, and nobody else: part of the trait all the same.
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let described = lent.describe(sql).await;
            drop(lent.done());
            described
        })
    }
}
