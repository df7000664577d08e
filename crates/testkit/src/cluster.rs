//! A whole server for one test, to be killed, paused and started again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use sluice_cluster::{
    ClusterError, ClusterOptions, Durability, PrivatePostgres, ServerSource, find_programs,
};
use sqlx::{Connection, PgConnection};

use crate::{processes, signals::wait_until, template::MIGRATIONS, watchdog::Watchdog};

/// A private server with the product's schema, killed and removed with the value, or with the process.
#[derive(Debug)]
pub struct TestCluster {
    postgres: Option<PrivatePostgres>,
    folder: PathBuf,
    watchdog: Watchdog,
}

impl TestCluster {
    /// Whether server programs are here, without which there are no signals to send; a test skips then, with a word.
    pub fn is_possible() -> bool {
        let possible = find_programs().is_ok_and(|found| !found.is_empty());
        if !possible {
            eprintln!("skipped: no Postgres server programs on this machine");
        }
        possible
    }

    /// A server that keeps every commit, as the product's does. Needs server programs on this machine.
    ///
    /// # Panics
    ///
    /// When it can't be started; the message says why.
    pub async fn start() -> Self {
        Self::start_with(Durability::Full, &[]).await
    }

    /// A server with other settings.
    ///
    /// # Panics
    ///
    /// When it can't be started; the message says why.
    pub async fn start_with(durability: Durability, settings: &[(&str, &str)]) -> Self {
        let started = Self::try_start(durability, settings).await;
        started.unwrap_or_else(|error| panic!("no server for the test: {error:#}"))
    }

    /// The `DATABASE_URL` of its migrated database.
    ///
    /// # Panics
    ///
    /// Never: the server is there until the value is dropped.
    pub fn url(&self) -> &str {
        self.postgres().url()
    }

    /// The server's main process, while it runs.
    pub fn postmaster_pid(&self) -> Option<i32> {
        self.postgres().postmaster_pid()
    }

    /// The folder with the data.
    pub fn data_folder(&self) -> PathBuf {
        self.postgres().data_folder()
    }

    /// Kills all its processes at once, as a loss of the machine would, and waits until they are gone.
    pub async fn kill(&self) {
        let Some(pid) = self.postmaster_pid() else { return };
        processes::signal_family(pid, Signal::SIGKILL);
        wait_until("the killed server to be gone", Duration::from_secs(20), async || {
            !processes::is_alive(pid)
        })
        .await;
    }

    /// Starts it again after a kill and waits until it has recovered.
    ///
    /// # Panics
    ///
    /// When it does not start; the message says why.
    pub async fn start_again(&self) {
        let started = self.try_start_again().await;
        started.unwrap_or_else(|error| panic!("the server does not start again: {error}"));
    }

    /// As [`Self::start_again`], for a server that may not be able to: whoever supervises it tries again.
    pub async fn try_start_again(&self) -> Result<(), ClusterError> {
        self.postgres().ensure_running().await
    }

    /// Stops it in order: sessions are ended, everything is written.
    pub async fn stop(&self) {
        let Some(pid) = self.postmaster_pid() else { return };
        // To the main process alone, which sees to its children; one that has gone meanwhile is stopped, too.
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGINT);
        wait_until("the server to stop", Duration::from_secs(30), async || {
            self.postmaster_pid() != Some(pid)
        })
        .await;
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Stops all its processes without ending them: connections hang.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.postmaster_pid() {
            processes::signal_family(pid, signal);
        }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.postgres().log_path()
    }

    /// Where everything of it lies; the server's account can pass through.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn postgres(&self) -> &PrivatePostgres {
        self.postgres.as_ref().expect("it is taken only when the value is dropped")
    }

    async fn try_start(durability: Durability, settings: &[(&str, &str)]) -> Result<Self> {
        let mut cluster = Self::prepare()?;
        let postgres = cluster.open(durability, settings).await?;
        let mut connection = PgConnection::connect(postgres.url()).await?;
        MIGRATIONS.run(&mut connection).await.context("apply the migrations")?;
        connection.close().await?;
        Ok(cluster)
    }

    /// A folder for a server, and who cleans up after it; no server yet.
    pub(crate) fn prepare() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sluice-cluster-")
            // The server's account must reach it, which for root is another one.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("make a folder for the server")?
            .keep();
        // Before the server, so that nothing is left behind however this ends.
        let watchdog = Watchdog::kill_own(&folder, &folder.join("postgres").join("data"))?;
        Ok(Self { postgres: None, folder, watchdog })
    }

    /// Starts a server on what lies in the folder, or on new data.
    pub(crate) async fn open(
        &mut self,
        durability: Durability,
        settings: &[(&str, &str)],
    ) -> Result<&PrivatePostgres> {
        let mut options = ClusterOptions::new(&self.folder);
        options.durability = durability;
        options.sources = vec![ServerSource::Programs];
        options
            .server_settings
            .extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Ok(self.postgres.insert(PrivatePostgres::open(options).await?))
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // Killed rather than stopped: nothing in it is kept, and a paused server would not stop.
        if let Some(pid) = self.postgres.as_ref().and_then(PrivatePostgres::postmaster_pid) {
            processes::signal_family(pid, Signal::SIGKILL);
            let begun = std::time::Instant::now();
            while processes::is_alive(pid) && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        drop(self.postgres.take());
        self.watchdog.finish();
        // The watchdog removes the folder; where there is no shell, this does.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
