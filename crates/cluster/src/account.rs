//! The account that the server runs under. Postgres refuses to run as root; in containers root is all there is.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{User, geteuid};

use crate::error::ClusterError;

/// The account that owns the cluster's files and runs its programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerAccount {
    /// Our own.
    Own,
    /// We are root; an account without privileges stands in.
    Unprivileged {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl ServerAccount {
    /// Chooses the account: our own unless we are root; then the owner of an existing cluster, else `postgres`, else
    /// `nobody`.
    pub fn choose(existing_data: &Path) -> Result<Self, ClusterError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        if let Some(owner) = fs::metadata(existing_data).ok().filter(|owner| owner.uid() != 0) {
            return Ok(Self::Unprivileged { uid: owner.uid(), gid: owner.gid() });
        }
        let named = |name| User::from_name(name).ok().flatten();
        let user = named("postgres").or_else(|| named("nobody")).ok_or(ClusterError::NoServerUser)?;
        Ok(Self::Unprivileged { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Makes a program run under the account.
    pub fn apply(self, command: &mut Command) {
        if let Self::Unprivileged { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives a file or folder to the account.
    pub fn give(self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Unprivileged { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(ClusterError::file("change the owner of", path))
            }
        }
    }

    /// The user id that the account's folders must have.
    pub fn uid(self) -> u32 {
        match self {
            Self::Own => geteuid().as_raw(),
            Self::Unprivileged { uid, .. } => uid,
        }
    }

    /// Whether the account may pass through a folder and all above it. Judged by mode bits: an access list that
    /// allows more is not seen, and then another place is chosen, which does no harm.
    pub fn can_reach(self, folder: &Path) -> bool {
        let Self::Unprivileged { uid, gid } = self else { return true };
        folder.ancestors().filter(|above| !above.as_os_str().is_empty()).all(|above| {
            fs::metadata(above).is_ok_and(|found| {
                let mode = found.mode();
                match (found.uid() == uid, found.gid() == gid) {
                    (true, _) => mode & 0o100 != 0,
                    (false, true) => mode & 0o010 != 0,
                    (false, false) => mode & 0o001 != 0,
                }
            })
        })
    }
}
