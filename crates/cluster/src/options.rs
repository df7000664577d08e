//! What a private Postgres may be told.

use std::{collections::BTreeMap, env, path::PathBuf, time::Duration};

/// Where the private database lies and how its server is run.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The product's data directory; the server's files lie in `postgres/` below it.
    pub data_dir: PathBuf,
    /// Settings of the server that win over ours, as in `postgresql.conf`; they count when the server is started,
    /// not when a running one is joined.
    pub server_settings: BTreeMap<String, String>,
    /// Whether commits survive a loss of power.
    pub durability: Durability,
    /// Where a server may come from, tried in this order.
    pub sources: Vec<ServerSource>,
    /// Told about what takes long, one line at a time; for a terminal.
    pub progress: fn(&str),
    /// How long a start may take, recovery after a crash included.
    pub start_timeout: Duration,
}

/// Whether commits survive a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// They do: `fsync` and `synchronous_commit` are on.
    #[default]
    Full,
    /// They survive a crash of the server, not of the machine. For tests only.
    CrashOnly,
}

/// Where a server may come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerSource {
    /// Server programs that are installed on this machine.
    Programs,
    /// Programs that are fetched from GitHub into the data directory.
    Download,
    /// A `postgres` image and a Docker engine that answers.
    Docker,
}

impl ClusterOptions {
    /// The options that a user of the product gets.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            server_settings: BTreeMap::new(),
            durability: Durability::Full,
            sources: vec![ServerSource::Programs, ServerSource::Download, ServerSource::Docker],
            progress: |_| {},
            start_timeout: Duration::from_mins(5),
        }
    }

    /// Sets one setting of the server.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.server_settings.insert(name.into(), value.into());
        self
    }
}

/// The data directory where no other is named: `SLUICE_DATA_DIR`, else the platform's (`~/.local/share/sluice`,
/// `~/Library/Application Support/sluice`). `None` where there is no home directory.
pub fn default_data_dir() -> Option<PathBuf> {
    match env::var_os("SLUICE_DATA_DIR") {
        Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder)),
        _ => directories::ProjectDirs::from("", "", "sluice").map(|dirs| dirs.data_dir().to_owned()),
    }
}
