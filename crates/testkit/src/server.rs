//! The server that this process' test databases lie in. Three ways to one, in this order:
//!
//! 1. `DATABASE_URL`: that server; the role must be allowed to create databases;
//! 2. server programs on this machine: a private cluster without `fsync`, shared by all test processes of a checkout.
//!    It is made once; it stops a few seconds after its last user ended, so that a runner with a process per test
//!    (cargo-nextest) does not start it anew for each;
//! 3. a Docker engine: a container for each test process.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sluice_cluster::{
    ClusterError, ClusterOptions, Durability, PrivatePostgres, ServerSource, find_programs,
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use crate::{
    containers::{self, ContainerPostgres},
    watchdog::Watchdog,
};

/// The server of this process. Never dropped: the watchdog cleans up.
pub struct TestServer {
    admin: PgConnectOptions,
    kind: ServerKind,
}

/// Who else may use the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerKind {
    /// Whoever gave us its URL.
    Given,
    /// Test processes of this checkout on this machine, so that what the dead left behind can be told and removed.
    Ours,
}

struct KeptAlive {
    _postgres: Option<PrivatePostgres>,
    _container: Option<ContainerPostgres>,
    _watchdog: Option<Watchdog>,
}

static SERVER: OnceCell<(TestServer, KeptAlive)> = OnceCell::const_new();

impl TestServer {
    /// The server of this process, found or started the first time.
    pub async fn get() -> Result<&'static Self> {
        SERVER.get_or_try_init(find_server).await.map(|(server, _)| server)
    }

    /// Whose it is.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// A connection that may create and drop databases.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect_with(&self.admin).await.context("connect to the server of the test databases")
    }

    /// How to connect to one of its databases.
    pub fn options_of(&self, database: &str) -> PgConnectOptions {
        self.admin.clone().database(database)
    }
}

async fn find_server() -> Result<(TestServer, KeptAlive)> {
    if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        let admin = url.parse().context("read DATABASE_URL")?;
        let kept = KeptAlive { _postgres: None, _container: None, _watchdog: None };
        return Ok((TestServer { admin, kind: ServerKind::Given }, kept));
    }
    if !find_programs()?.is_empty() {
        let postgres = open_shared().await?;
        let watchdog = Watchdog::stop_shared(postgres.lock_folder(), &postgres.data_folder())?;
        let admin = postgres.url().parse().context("read the private server's URL")?;
        let kept = KeptAlive { _postgres: Some(postgres), _container: None, _watchdog: Some(watchdog) };
        return Ok((TestServer { admin, kind: ServerKind::Ours }, kept));
    }
    let container = containers::postgres_image("18").await.context(
        "find a Postgres for the tests: set DATABASE_URL, install Postgres 15 or newer, or start Docker",
    )?;
    let admin = container.url().parse().context("read the container's URL")?;
    let kept = KeptAlive { _postgres: None, _container: Some(container), _watchdog: None };
    Ok((TestServer { admin, kind: ServerKind::Ours }, kept))
}

/// Without `fsync` a crash of the machine may leave a cluster that does not start: it holds nothing, so it is made anew.
async fn open_shared() -> Result<PrivatePostgres> {
    let folder = shared_folder()?;
    let options = shared_options(&folder);
    match PrivatePostgres::open(options.clone()).await {
        Err(ClusterError::Start { .. } | ClusterError::OtherVersion { .. }) => {
            remove_cluster(&folder)?;
            Ok(PrivatePostgres::open(options).await?)
        }
        opened => Ok(opened?),
    }
}

fn shared_options(folder: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(folder).setting("max_connections", "500");
    options.durability = Durability::CrashOnly;
    options.sources = vec![ServerSource::Programs];
    options
}

fn remove_cluster(folder: &Path) -> Result<()> {
    let data = folder.join("postgres").join("data");
    match fs::remove_dir_all(&data) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", data.display()))
        }
        _ => Ok(()),
    }
}

/// One for each user and checkout, in the system's folder for temporary files, which every account can pass through.
fn shared_folder() -> Result<PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    let folder = env::temp_dir().join(format!("sluice-testkit-{uid}"));
    match fs::DirBuilder::new().mode(0o755).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("create {}", folder.display()));
        }
        _ => {}
    }
    let owner = fs::symlink_metadata(&folder)?;
    ensure!(owner.is_dir() && owner.uid() == uid, "{} belongs to somebody else", folder.display());
    Ok(folder.join(crate::template::text_hash(env!("CARGO_MANIFEST_DIR").as_bytes())))
}
