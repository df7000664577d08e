//! A private Postgres: joined or started when it is opened, stopped when its last user closes it.

use std::{sync::Mutex, time::Duration};

use crate::{
    docker::DockerServer,
    download::{fetch_programs, fetched_programs},
    error::ClusterError,
    folders::Folders,
    lock::{LastUser, LockFiles, UserShare},
    options::{ClusterOptions, ServerSource},
    programs::{Programs, find_programs},
    programs_server::ProgramsServer,
};

/// The database of the product in its private server, and the role that owns it.
pub(crate) const DATABASE: &str = "sluice";
pub(crate) const USER: &str = "sluice";

/// Longer than any start, so that who waits for the lock sees the start's own error first.
const LOCK_GRACE: Duration = Duration::from_mins(2);

/// A private Postgres that this process uses.
///
/// It stops with [`close`](Self::close), or when it is dropped, if no other process uses it. A process that ends
/// without either leaves the server running for the next one.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    folders: Folders,
    locks: LockFiles,
    share: Mutex<Option<UserShare>>,
    lock_timeout: Duration,
    url: String,
}

/// What became of the server when it was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// Nobody else used it: it is stopped.
    Stopped,
    /// Another process uses it: it runs on.
    StillUsed,
}

#[derive(Clone, Debug)]
enum Server {
    Programs(ProgramsServer),
    Docker(DockerServer),
}

impl PrivatePostgres {
    /// Joins the server of the data directory, or makes and starts it. The first start takes a few seconds.
    pub async fn open(options: ClusterOptions) -> Result<Self, ClusterError> {
        off_the_runtime(move || Self::open_blocking(&options)).await
    }

    /// As [`open`](Self::open), for callers without an async runtime.
    pub fn open_blocking(options: &ClusterOptions) -> Result<Self, ClusterError> {
        let folders = Folders::prepare(&options.data_dir)?;
        let locks = LockFiles::in_folder(&folders.locks);
        let lock_timeout = options.start_timeout + LOCK_GRACE;
        let held = locks.lock_open(lock_timeout)?;
        let server = choose_server(&folders, options)?;
        let share = locks.take_share(&held)?;
        server.ensure_running()?;
        let url = server.url(DATABASE)?;
        tracing::debug!(data = %folders.home.display(), "the private Postgres serves");
        Ok(Self { server, folders, locks, share: Mutex::new(Some(share)), lock_timeout, url })
    }

    /// The `DATABASE_URL` of the product's database in it. Treat it as a secret: under Docker it holds a password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of another database in the same server. The name must need no quoting.
    pub fn url_of(&self, database: &str) -> Result<String, ClusterError> {
        self.server.url(database)
    }

    /// Where the server's log lies; under Docker the engine keeps it.
    pub fn log_path(&self) -> std::path::PathBuf {
        self.folders.log()
    }

    /// The folder with the lock files and, where the server's account can reach it, everything else.
    pub fn lock_folder(&self) -> &std::path::Path {
        &self.folders.locks
    }

    /// The folder with the data.
    pub fn data_folder(&self) -> std::path::PathBuf {
        self.folders.data()
    }

    /// The server's main process; `None` while it is down, and under Docker.
    pub fn postmaster_pid(&self) -> Option<i32> {
        match &self.server {
            Server::Programs(server) => server.postmaster_pid(),
            Server::Docker(_) => None,
        }
    }

    /// Starts the server again if it went down under us.
    pub async fn ensure_running(&self) -> Result<(), ClusterError> {
        let (server, locks, timeout) = (self.server.clone(), self.locks.clone(), self.lock_timeout);
        off_the_runtime(move || {
            let _held = locks.lock_open(timeout)?;
            server.ensure_running()
        })
        .await
    }

    /// Lets go of the server, and stops it if nobody else uses it. Close all connections first.
    pub async fn close(self) -> Result<Closed, ClusterError> {
        off_the_runtime(move || self.let_go()).await
    }

    /// Does nothing the second time.
    fn let_go(&self) -> Result<Closed, ClusterError> {
        let share = self.share.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(share) = share else { return Ok(Closed::StillUsed) };
        let held = self.locks.lock_open(self.lock_timeout)?;
        if self.locks.give_back(share, &held)? == LastUser::No {
            return Ok(Closed::StillUsed);
        }
        self.server.stop()?;
        Ok(Closed::Stopped)
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!(error = %error, "the private Postgres could not be stopped");
        }
    }
}

impl Server {
    fn ensure_running(&self) -> Result<(), ClusterError> {
        match self {
            Self::Programs(server) => server.ensure_running(),
            Self::Docker(server) => server.ensure_running(),
        }
    }

    fn stop(&self) -> Result<(), ClusterError> {
        match self {
            Self::Programs(server) => server.stop(),
            Self::Docker(server) => server.stop(),
        }
    }

    fn url(&self, database: &str) -> Result<String, ClusterError> {
        match self {
            Self::Programs(server) => Ok(server.url(database)),
            Self::Docker(server) => server.url(database),
        }
    }
}

/// What served the data before serves them again; for new data, the first source that is there.
fn choose_server(folders: &Folders, options: &ClusterOptions) -> Result<Server, ClusterError> {
    let data_major = folders.data_major();
    if data_major.is_none() && DockerServer::was_used(folders) {
        return DockerServer::choose(folders, options).map(Server::Docker);
    }
    let mut installed = Vec::new();
    let mut tried = Vec::new();
    for source in &options.sources {
        let chosen = match source {
            ServerSource::Programs => find_programs().map(|found| {
                installed = found;
                installed.extend(fetched_programs(folders));
                ProgramsServer::choose(&installed, folders, options).map(Server::Programs)
            })?,
            ServerSource::Download => match fetch_programs(folders, options) {
                Ok(found) => ProgramsServer::choose(&found, folders, options).map(Server::Programs),
                Err(error) => {
                    tried.push(format!("failed to {error}"));
                    None
                }
            },
            // A container would not read what programs wrote.
            ServerSource::Docker if data_major.is_some() => None,
            ServerSource::Docker => match DockerServer::choose(folders, options) {
                Ok(server) => Some(Server::Docker(server)),
                Err(error) => {
                    tried.push(format!("failed to {error}"));
                    None
                }
            },
        };
        if let Some(server) = chosen {
            return Ok(server);
        }
    }
    if let Some(major) = data_major {
        let found = describe(&installed);
        return Err(ClusterError::OtherVersion { data: folders.data(), major, found });
    }
    tried.insert(0, "no server programs of Postgres 15 or newer are installed".to_owned());
    Err(ClusterError::NoServer { tried: tried.join("; ") })
}

fn describe(installed: &[Programs]) -> String {
    let majors: Vec<String> = installed.iter().map(|programs| programs.version.0.to_string()).collect();
    if majors.is_empty() { "none".to_owned() } else { majors.join(", ") }
}

/// Starting and stopping waits for processes and locks, which must not hold up a runtime's thread.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ClusterError::Interrupted))
}
