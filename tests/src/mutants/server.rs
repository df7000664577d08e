//! A server of its own, whose template all tests copy: what is planted there, other tests must not meet.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use sluice_cluster::Durability;
use sluice_testkit::{TestCluster, template_name};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Duration, sleep};

/// Its functions' calls are counted; it keeps nothing, so it need not be large.
const SETTINGS: [(&str, &str); 3] =
    [("max_connections", "300"), ("track_functions", "all"), ("shared_buffers", "128MB")];
/// Sessions of a test that is over go away by themselves.
const SESSIONS_END_WITHIN: Duration = Duration::from_secs(20);

/// A function of the schema as all migrations left it.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name without the schema.
    pub name: String,
    /// The statement that makes it.
    pub definition: String,
    /// Whether the planner may put its body in place of a call, which no counter sees then.
    pub may_be_inlined: bool,
}

/// A private server with the database that tests copy.
pub struct MutantServer {
    cluster: TestCluster,
    server: PgConnectOptions,
    template: String,
}

impl MutantServer {
    /// Starts one; needs server programs on this machine.
    pub async fn start() -> Result<Self> {
        let cluster = TestCluster::start_with(Durability::CrashOnly, &SETTINGS).await;
        let server: PgConnectOptions = cluster.url().parse().context("read the server's URL")?;
        let trial = Self { cluster, server, template: template_name() };
        let migrated = trial.server.get_database().context("the server has no database")?.to_owned();
        let mut admin = PgConnection::connect_with(&trial.server.clone().database("postgres")).await?;
        let copy = format!("CREATE DATABASE {} TEMPLATE {migrated}", trial.template);
        admin.execute(AssertSqlSafe(copy)).await.context("copy the migrated database")?;
        admin.close().await?;
        trial.close().await?;
        Ok(trial)
    }

    /// What tests take as their `DATABASE_URL`.
    pub fn url(&self) -> &str {
        self.cluster.url()
    }

    /// The functions of the schema that have a text.
    pub async fn functions(&self) -> Result<Vec<Function>> {
        let mut connection = self.open().await?;
        let rows: Vec<(String, String, bool)> = sqlx::query_as(
            "SELECT p.proname::text, pg_get_functiondef(p.oid),
                    l.lanname = 'sql' AND p.proconfig IS NULL AND NOT p.prosecdef
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
             WHERE p.pronamespace = 'sluice'::regnamespace AND l.lanname IN ('plpgsql', 'sql') AND p.prokind <> 'a'
               -- What only older programs call stands beside what took its place, with fewer arguments.
               AND NOT EXISTS (SELECT FROM pg_proc newer
                               WHERE newer.pronamespace = p.pronamespace AND newer.proname = p.proname
                                 AND newer.pronargs > p.pronargs)
             ORDER BY p.proname, p.pronargs, p.oid",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        self.close().await?;
        let function = |(name, definition, may_be_inlined)| Function { name, definition, may_be_inlined };
        Ok(rows.into_iter().map(function).collect())
    }

    /// Runs a statement in the database that tests copy. Nobody else may be connected while it is copied.
    pub async fn plant(&self, statement: &str) -> Result<()> {
        let mut connection = self.open().await?;
        let done = connection.execute(AssertSqlSafe(statement.to_owned())).await.map(|_| ());
        connection.close().await?;
        self.close().await?;
        Ok(done?)
    }

    /// Which functions were called in the databases that tests left behind. A call that ends with an error is counted
    /// nowhere, but the server's log says where it was; `log_from` is how long the log was before.
    pub async fn called(&self, log_from: usize) -> Result<BTreeSet<String>> {
        let mut called = named_in(self.cluster.log().get(log_from..).unwrap_or_default());
        for database in self.left_behind().await? {
            self.wait_for_sessions(&database).await?;
            let mut connection = PgConnection::connect_with(&self.server.clone().database(&database)).await?;
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT funcname::text FROM pg_stat_user_functions WHERE schemaname = 'sluice' AND calls > 0",
            )
            .fetch_all(&mut connection)
            .await?;
            connection.close().await?;
            called.extend(names);
        }
        Ok(called)
    }

    /// How long the server's log is, in bytes.
    pub fn log_length(&self) -> usize {
        self.cluster.log().len()
    }

    /// Drops what tests left behind that were ended before their time.
    pub async fn clean(&self) -> Result<()> {
        for database in self.left_behind().await? {
            self.admin(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        }
        Ok(())
    }

    async fn left_behind(&self) -> Result<Vec<String>> {
        let mut admin = PgConnection::connect_with(&self.server).await?;
        let names = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database WHERE starts_with(datname, 'sluice_test_')",
        )
        .fetch_all(&mut admin)
        .await?;
        admin.close().await?;
        Ok(names)
    }

    /// A session's counts are there when it has ended.
    async fn wait_for_sessions(&self, database: &str) -> Result<()> {
        let mut admin = PgConnection::connect_with(&self.server).await?;
        let pause = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        loop {
            let sessions: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'",
            )
            .bind(database)
            .fetch_one(&mut admin)
            .await?;
            if sessions == 0 || waited > SESSIONS_END_WITHIN {
                return Ok(admin.close().await?);
            }
            sleep(pause).await;
            waited += pause;
        }
    }

    async fn open(&self) -> Result<PgConnection> {
        self.admin(format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", self.template)).await?;
        Ok(PgConnection::connect_with(&self.server.clone().database(&self.template)).await?)
    }

    async fn close(&self) -> Result<()> {
        self.admin(format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", self.template)).await
    }

    async fn admin(&self, statement: String) -> Result<()> {
        let mut admin = PgConnection::connect_with(&self.server).await?;
        admin.execute(AssertSqlSafe(statement)).await?;
        admin.close().await?;
        Ok(())
    }
}

/// The functions that a log names as the places of errors.
fn named_in(log: &str) -> BTreeSet<String> {
    let calls = log.split("PL/pgSQL function ").skip(1).filter_map(|rest| rest.split_once('('));
    let statements = log.split("SQL function \"").skip(1).filter_map(|rest| rest.split_once('"'));
    let name = |name: &str| name.trim_start_matches("sluice.").to_owned();
    calls.chain(statements).map(|(found, _)| name(found)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_failed_is_found_in_the_log() {
        let log = "CONTEXT:  PL/pgSQL function sluice.lease(uuid,bigint[]) line 76 at RAISE\n\
                   \tPL/pgSQL function submit_one(uuid) line 10 at SQL statement\n\
                   \tSQL function \"job\" statement 1";
        assert_eq!(named_in(log), ["job", "lease", "submit_one"].map(str::to_owned).into());
    }
}
