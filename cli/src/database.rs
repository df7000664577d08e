//! The database that a command works on: the given one, or the private one of the data directory.
//!
//! A private database is migrated whenever it is opened: nobody else could do it. A given one is shared, so only the
//! commands whose purpose is to work (`run`, `up`, `migrate`) bring its schema up to date; the others say that it is
//! to be done.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_cluster::{ClusterOptions, PrivatePostgres, default_data_dir};
use sluice_store::{SchemaState, Store, StoreOptions};

use crate::{args::GlobalArgs, exit::CliError, private_server::PrivateServer};

/// How long a statement waits for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who may change the schema of a given database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// This command: it brings the schema up to date.
    Migrate,
    /// Another: this command refuses a schema that is absent or behind.
    Require,
    /// Nobody looks (for `migrate` and `doctor`, which look themselves).
    Ignore,
}

/// Whose database it is.
#[derive(Debug)]
pub enum DatabaseKind {
    /// The data directory's own; the server stops when its last user closes it.
    Private(PrivateServer),
    /// One that was given, and that others may use.
    Given,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    /// The statements.
    pub store: Store,
    /// Whose it is.
    pub kind: DatabaseKind,
    /// The product's data directory, for lock files and spools.
    pub data_dir: PathBuf,
    /// Where it is, without any password: for people.
    pub place: String,
}

impl Database {
    /// Opens the database: `--database-url`, else the private one. `role` names the process in `pg_stat_activity`.
    pub async fn open(
        global: &GlobalArgs,
        role: &str,
        max_connections: u32,
        schema: Schema,
    ) -> Result<Self, CliError> {
        let data_dir = data_dir(global)?;
        let (kind, url, place) = if let Some(url) = given_url(global) {
            (DatabaseKind::Given, url.to_owned(), place_of(url))
        } else {
            let private = PrivatePostgres::open(cluster_options(&data_dir)).await?;
            let url = private.url().to_owned();
            let place = format!("private, in {}", data_dir.display());
            (DatabaseKind::Private(PrivateServer::watched(private)), url, place)
        };
        let mut options = StoreOptions::new(url);
        options.max_connections = max_connections;
        // Whoever asks while the database is away is told so soon, and can try again.
        options.acquire_timeout = ACQUIRE_TIMEOUT;
        role.clone_into(&mut options.application_name);
        if matches!(kind, DatabaseKind::Given) {
            options.direct_url = global.database_direct_url.clone().filter(|url| !url.trim().is_empty());
        }
        let store = Store::connect(&options).await?;
        let database = Self { store, kind, data_dir, place };
        database.see_to_schema(schema).await?;
        Ok(database)
    }

    /// Whether it is the data directory's own.
    pub const fn is_private(&self) -> bool {
        matches!(self.kind, DatabaseKind::Private(_))
    }

    /// Closes all connections, and stops a private server that nobody else uses.
    pub async fn close(self) -> Result<(), CliError> {
        self.store.close().await;
        match self.kind {
            DatabaseKind::Private(server) => server.close().await,
            DatabaseKind::Given => Ok(()),
        }
    }

    async fn see_to_schema(&self, schema: Schema) -> Result<(), CliError> {
        let state = match schema {
            Schema::Ignore => return Ok(()),
            Schema::Migrate | Schema::Require => self.store.schema_state().await?,
        };
        if matches!(state, SchemaState::Current | SchemaState::Ahead) {
            return Ok(());
        }
        if schema == Schema::Migrate || self.is_private() {
            self.store.migrate().await?;
            return Ok(());
        }
        let what = match state {
            SchemaState::Behind(missing) => format!("its schema lacks {missing} migrations"),
            _ => "it has no schema of Sluice".to_owned(),
        };
        Err(CliError::unreachable(format!("failed to use the database: {what}; run `sluice migrate` first")))
    }
}

/// The given database's URL; an empty variable counts as none.
pub fn given_url(global: &GlobalArgs) -> Option<&str> {
    global.database_url.as_deref().map(str::trim).filter(|url| !url.is_empty())
}

/// The product's data directory.
pub fn data_dir(global: &GlobalArgs) -> Result<PathBuf, CliError> {
    let named = global.data_dir.clone().filter(|folder| !folder.as_os_str().is_empty());
    named.or_else(default_data_dir).ok_or_else(|| {
        CliError::usage("there is no home directory to keep data in; name a folder with --data-dir")
    })
}

fn cluster_options(data_dir: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(data_dir);
    if std::io::stderr().is_terminal() {
        options.progress = |line| eprintln!("{line}");
    }
    options
}

/// Host and name of a database, without user, password and parameters.
fn place_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    rest.rsplit_once('@').map_or(rest, |(_, place)| place).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_no_password() {
        assert_eq!(place_of("postgres://me:s3cret@db:5432/x?sslmode=require"), "db:5432/x");
        assert_eq!(place_of("postgres://me:p@ss@db/x"), "db/x");
        assert_eq!(place_of("postgres:///x?host=/tmp&password=y"), "/x");
    }
}
