//! Finds the programs of a Postgres server on this machine.
//!
//! Distributions keep them out of PATH, so that several major versions can stand side by side. `SLUICE_PG_BIN` wins;
//! else the newest of all that are found, unless the data were made by another major version.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::ClusterError;

/// The oldest major version that is supported.
pub const OLDEST_MAJOR: u32 = 15;

/// The server programs of one installed version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// The folder that holds `postgres` and `initdb`.
    pub folder: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Programs {
    /// The server itself.
    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// The program that makes a new cluster.
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    /// Looks at one folder. The error is a reason fit for people.
    fn inspect(folder: &Path) -> Result<Self, String> {
        // A link in PATH (`/usr/local/bin/postgres`) leads to the folder that has all the programs.
        let postgres =
            fs::canonicalize(folder.join("postgres")).map_err(|_| "it holds no `postgres`".to_owned())?;
        let folder = postgres.parent().unwrap_or(folder).to_owned();
        if !folder.join("initdb").exists() {
            return Err("it holds no `initdb`".to_owned());
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .output()
            .map_err(|error| format!("`postgres --version` can't be run ({error})"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version =
            parse_version(&text).ok_or_else(|| format!("`postgres --version` says {:?}", text.trim_end()))?;
        if version.0 < OLDEST_MAJOR {
            return Err(format!("it is Postgres {}, which is too old", version.0));
        }
        Ok(Self { folder, version })
    }
}

/// All usable server programs, newest first.
///
/// With `SLUICE_PG_BIN` set there is only that folder, and it is an error if it can't be used.
pub fn find_programs() -> Result<Vec<Programs>, ClusterError> {
    if let Some(folder) = env::var_os("SLUICE_PG_BIN").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        return match Programs::inspect(&folder) {
            Ok(programs) => Ok(vec![programs]),
            Err(problem) => Err(ClusterError::ProgramsFolder { folder, problem }),
        };
    }
    let found = candidate_folders().into_iter().filter_map(|folder| Programs::inspect(&folder).ok());
    // By folder, since PATH and the usual places name the same one often.
    let by_folder: BTreeMap<PathBuf, Programs> = found.map(|found| (found.folder.clone(), found)).collect();
    let mut programs: Vec<Programs> = by_folder.into_values().collect();
    programs.sort_by_key(|found| std::cmp::Reverse(found.version));
    Ok(programs)
}

/// The usable programs in `parent/*/bin`.
pub(crate) fn inspect_children(parent: &Path) -> Vec<Programs> {
    children_of(parent, "", "bin").iter().filter_map(|folder| Programs::inspect(folder).ok()).collect()
}

fn candidate_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        folders.extend(Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from));
    }
    // Debian, Red Hat (PGDG), Homebrew on both kinds of Mac, Postgres.app, from source.
    folders.extend(children_of(Path::new("/usr/lib/postgresql"), "", "bin"));
    folders.extend(children_of(Path::new("/usr"), "pgsql-", "bin"));
    folders.extend(children_of(Path::new("/opt/homebrew/opt"), "postgresql", "bin"));
    folders.extend(children_of(Path::new("/usr/local/opt"), "postgresql", "bin"));
    folders.extend(children_of(Path::new("/Applications/Postgres.app/Contents/Versions"), "", "bin"));
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders.push(PathBuf::from("/usr/bin"));
    folders.extend(env::var_os("PATH").iter().flat_map(|path| env::split_paths(path).collect::<Vec<_>>()));
    folders
}

/// `parent/{prefix}*/below`, as far as it is there.
fn children_of(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(below))
        .collect()
}

/// The version in the answer of `postgres --version`, such as `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`
/// or `postgres (PostgreSQL) 19devel`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let major = digits(rest);
    let minor = rest[major.len()..].strip_prefix('.').map(digits).unwrap_or_default();
    Some((major.parse().ok()?, minor.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_previews_are_read() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some((15, 14)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19devel"), Some((19, 0)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta2"), Some((18, 0)));
        assert_eq!(parse_version("command not found"), None);
    }

    #[test]
    fn a_folder_without_a_server_is_refused_with_the_reason() {
        assert_eq!(Programs::inspect(Path::new("/nonexistent")), Err("it holds no `postgres`".to_owned()));
    }
}
