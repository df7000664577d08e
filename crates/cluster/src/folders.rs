//! Where the cluster's files lie.
//!
//! ```text
//! DATA_DIR/postgres/            0700, or 0711 where root runs the server as another user
//!     open.lock users.lock      see `lock`
//!     home                      where the rest lies, if not here (one line: a path)
//!     data/                     the cluster, 0700, owned by the server's account
//!     socket/                   the Unix socket, 0700, owned by the server's account
//!     server.log                what the server says
//! ```
//!
//! Two things may move elsewhere, keyed by a hash of the data directory's path:
//!
//! - for root the whole home, to `/var/lib/sluice/HASH` (else `/var/tmp/sluice/HASH`), where the server's account
//!   can't pass through the folders above (`/root` is closed to everybody);
//! - the socket's folder, to `/tmp/sluice-UID-HASH`, where its path would be longer than a Unix socket's may be.

use std::{
    fs::{self, DirBuilder},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use crate::{account::ServerAccount, error::ClusterError};

/// A Unix socket's path may have 107 bytes on Linux and 103 on macOS; the shorter holds for both.
const MAX_SOCKET_PATH_BYTES: usize = 103;
/// The port is part of the socket's name and nothing else.
pub const PORT: u16 = 5432;

/// The folders of one cluster.
#[derive(Clone, Debug)]
pub struct Folders {
    /// Holds the lock files.
    pub locks: PathBuf,
    /// Holds everything else.
    pub home: PathBuf,
    /// Holds the socket.
    pub socket: PathBuf,
    /// Who owns what the server writes.
    pub account: ServerAccount,
}

impl Folders {
    /// Finds or makes the folders below a data directory.
    pub fn prepare(data_dir: &Path) -> Result<Self, ClusterError> {
        make_folder(data_dir, 0o755)?;
        let data_dir = fs::canonicalize(data_dir).map_err(ClusterError::file("find", data_dir))?;
        let locks = data_dir.join("postgres");
        make_folder(&locks, 0o700)?;
        let remembered = remembered_home(&locks)?;
        let account = ServerAccount::choose(&remembered.as_ref().unwrap_or(&locks).join("data"))?;
        let home = match remembered {
            Some(home) => home,
            None => choose_home(&locks, account)?,
        };
        if account != ServerAccount::Own {
            // Its account passes through to `data` and `socket`; it can't list the folder.
            make_folder(&home, 0o711)?;
            set_mode(&home, 0o711)?;
        }
        let socket = choose_socket_folder(&home, account);
        Ok(Self { locks, home, socket, account })
    }

    /// The cluster's data.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// The socket itself.
    pub fn socket_file(&self) -> PathBuf {
        self.socket.join(format!(".s.PGSQL.{PORT}"))
    }

    /// The major version that made the data; `None` where there are none yet.
    pub fn data_major(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// Makes the socket's folder, which only the server's account (and root) may enter.
    pub fn prepare_socket(&self) -> Result<(), ClusterError> {
        let fresh = make_private_folder(&self.socket)?;
        if fresh == Made::Now {
            self.account.give(&self.socket)?;
        }
        // Where it lies in a shared folder somebody else may have made it first.
        let found =
            fs::symlink_metadata(&self.socket).map_err(ClusterError::file("look at", &self.socket))?;
        let problem = if !found.is_dir() {
            Some("it is not a folder")
        } else if found.uid() != self.account.uid() {
            Some("it belongs to another user")
        } else if found.mode() & 0o077 != 0 {
            Some("others may enter it")
        } else {
            None
        };
        problem.map_or(Ok(()), |problem| {
            Err(ClusterError::SocketFolder { folder: self.socket.clone(), problem })
        })
    }
}

fn remembered_home(locks: &Path) -> Result<Option<PathBuf>, ClusterError> {
    let note = locks.join("home");
    match fs::read_to_string(&note) {
        Ok(text) => Ok(Some(PathBuf::from(text.trim_end_matches('\n')))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClusterError::file("read", &note)(error)),
    }
}

/// Beside the locks, unless the server's account can't get there.
fn choose_home(locks: &Path, account: ServerAccount) -> Result<PathBuf, ClusterError> {
    let above = locks.parent().unwrap_or(locks);
    if account.can_reach(above) {
        return Ok(locks.to_owned());
    }
    let hash = path_hash(locks);
    let home = ["/var/lib/sluice", "/var/tmp/sluice"]
        .into_iter()
        .map(|base| Path::new(base).join(&hash))
        .find(|home| make_folder(home, 0o711).is_ok() && account.can_reach(home))
        .ok_or_else(|| {
            ClusterError::file("reach", above)(std::io::Error::other(
                "the server's account may not pass through it, and neither /var/lib nor /var/tmp can be written",
            ))
        })?;
    let note = locks.join("home");
    fs::write(&note, format!("{}\n", home.display())).map_err(ClusterError::file("write", &note))?;
    Ok(home)
}

fn choose_socket_folder(home: &Path, account: ServerAccount) -> PathBuf {
    let beside = home.join("socket");
    let name_bytes = format!("/.s.PGSQL.{PORT}.lock").len();
    if beside.as_os_str().as_bytes().len() + name_bytes <= MAX_SOCKET_PATH_BYTES {
        return beside;
    }
    PathBuf::from(format!("/tmp/sluice-{}-{}", account.uid(), path_hash(home)))
}

/// FNV-1a: short, and the same in every version of this program, which the standard library's hasher is not.
pub fn path_hash(path: &Path) -> String {
    let hash = path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Makes a folder and those above it. One that is there stays as it is.
fn make_folder(path: &Path, mode: u32) -> Result<(), ClusterError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(ClusterError::file("create", above))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(ClusterError::file("create", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a folder was made by this call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was.
    Now,
    /// It was there.
    Before,
}

/// Makes a folder that only its owner may enter.
pub fn make_private_folder(path: &Path) -> Result<Made, ClusterError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(Made::Now),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Made::Before),
        Err(error) => Err(ClusterError::file("create", path)(error)),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), ClusterError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(ClusterError::file("open up", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_gets_a_short_socket_folder() {
        let short =
            choose_socket_folder(Path::new("/home/me/.local/share/sluice/postgres"), ServerAccount::Own);
        assert_eq!(short, Path::new("/home/me/.local/share/sluice/postgres/socket"));
        let long = choose_socket_folder(&Path::new("/home").join("x".repeat(90)), ServerAccount::Own);
        assert!(long.starts_with("/tmp") && long.as_os_str().len() < 60, "{}", long.display());
    }

    #[test]
    fn a_socket_folder_that_others_may_enter_is_refused() {
        let open = fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        let mut folders = Folders::prepare(folder.path()).unwrap();
        folders.socket = folder.path().join("open-to-all");
        folders.prepare_socket().unwrap();
        set_mode(&folders.socket, 0o755).unwrap();
        let error = folders.prepare_socket().unwrap_err();
        assert!(error.to_string().contains("others may enter it"), "{error}");
    }
}
