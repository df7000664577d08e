//! Plants a mutant where every test finds it, and asks the tests.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use super::edit::{Edit, edits};

/// A mutant that lets tests hang is one that they notice.
const PATIENCE: Duration = Duration::from_mins(5);

/// What tests said to a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A test failed, or hung.
    Caught,
    /// No test noticed.
    Survived,
    /// The database refused the change: it is none.
    Invalid,
}

/// A server of its own, whose template all tests copy, and the programs that test.
pub struct Trial {
    url: String,
    server: PgConnectOptions,
    template: String,
    programs: Vec<String>,
}

impl Trial {
    /// Tries on the server `url` (a role that may create databases). `programs`: test programs, each with its arguments
    /// behind it, separated by blanks; they must be green without a mutant.
    pub async fn new(url: &str, programs: Vec<String>) -> Result<Self> {
        let server: PgConnectOptions = url.parse().context("read the server's URL")?;
        let trial = Self { url: url.to_owned(), server, template: String::new(), programs };
        ensure!(!trial.is_caught().await?, "the tests fail without a mutant");
        let mut admin = PgConnection::connect_with(&trial.server).await?;
        // The tests that just ran have made it.
        let template = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database WHERE datname LIKE 'sluice\\_template\\_%' ORDER BY oid DESC LIMIT 1",
        )
        .fetch_one(&mut admin)
        .await
        .context("find the database that tests copy")?;
        Ok(Self { template, ..trial })
    }

    /// The functions of the schema as all migrations left them: name and definition.
    pub async fn functions(&self) -> Result<Vec<(String, String)>> {
        self.in_template("SELECT 1").await?;
        let mut connection = self.open().await?;
        let functions = sqlx::query_as(
            "SELECT p.proname::text, pg_get_functiondef(p.oid) FROM pg_proc p
             JOIN pg_language l ON l.oid = p.prolang
             WHERE p.pronamespace = 'sluice'::regnamespace AND l.lanname IN ('plpgsql', 'sql')
             ORDER BY p.proname, p.pronargs",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        self.close().await?;
        Ok(functions)
    }

    /// Tries one change of a function.
    pub async fn verdict(&self, definition: &str, edit: &Edit) -> Result<Verdict> {
        if self.in_template(&edit.applied(definition)).await.is_err() {
            return Ok(Verdict::Invalid);
        }
        let is_caught = self.is_caught().await;
        self.in_template(definition).await.context("take a mutant back")?;
        Ok(if is_caught? { Verdict::Caught } else { Verdict::Survived })
    }

    /// What can be changed in a function.
    pub fn edits(definition: &str) -> Vec<Edit> {
        edits(definition)
    }

    async fn is_caught(&self) -> Result<bool> {
        for program in &self.programs {
            let mut words = program.split(' ');
            let mut command = Command::new(words.next().context("a test program is missing")?);
            command.args(words).env("DATABASE_URL", &self.url);
            let mut child =
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("run the tests")?;
            let waiting = async {
                loop {
                    if let Some(status) = child.try_wait()? {
                        return Ok::<_, std::io::Error>(status);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let done = timeout(PATIENCE, waiting).await;
            if let Ok(status) = done {
                if !status?.success() {
                    return Ok(true);
                }
            } else {
                child.kill()?;
                child.wait()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs a statement in the database that tests copy. Nobody else may be connected while it is copied.
    async fn in_template(&self, statement: &str) -> Result<()> {
        let mut connection = self.open().await?;
        let done = connection.execute(AssertSqlSafe(statement.to_owned())).await.map(|_| ());
        connection.close().await?;
        self.close().await?;
        Ok(done?)
    }

    async fn open(&self) -> Result<PgConnection> {
        self.admin(format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true", self.template)).await?;
        let options = self.server.clone().database(&self.template);
        Ok(PgConnection::connect_with(&options).await?)
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
