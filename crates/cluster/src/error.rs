//! What can go wrong with a private Postgres, in words that say what to do next.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a private Postgres could not be found, made, started or stopped.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A file or folder could not be used.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried, such as "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program could not be run at all.
    #[error("run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is nothing here that could serve a database.
    #[error(
        "find a Postgres server: {tried}\nany one of these helps:\n  - install Postgres 15 or newer \
         (Debian: apt install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@18)\n  \
         - set DATABASE_URL to a Postgres that is running\n  - start Docker"
    )]
    NoServer {
        /// What was looked for, and why each was no use.
        tried: String,
    },
    /// `SLUICE_PG_BIN` does not lead to server programs that can be used.
    #[error("use SLUICE_PG_BIN={}: {problem}; point it at the bin folder of Postgres 15 or newer", folder.display())]
    ProgramsFolder {
        /// The folder it names.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The data were written by a major version whose programs are gone.
    #[error(
        "open the database in {}: it was made by Postgres {major}, and here there is only {found}; install Postgres \
         {major} again, or choose another SLUICE_DATA_DIR", data.display()
    )]
    OtherVersion {
        /// The folder with the data.
        data: PathBuf,
        /// The major version it was made by.
        major: u32,
        /// The versions that are here.
        found: String,
    },
    /// Root may not run Postgres, and there is no other user to run it as.
    #[error(
        "run Postgres as root, which it refuses: there is no user `postgres` or `nobody`; start as another user"
    )]
    NoServerUser,
    /// A folder that only its owner may enter belongs to somebody else.
    #[error("use {} for the database's socket: {problem}; remove it, or choose a shorter SLUICE_DATA_DIR", folder.display())]
    SocketFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `initdb` failed.
    #[error("make a database in {}: {output}", data.display())]
    Init {
        /// The folder for the data.
        data: PathBuf,
        /// The end of what `initdb` said.
        output: String,
    },
    /// The server ended before it served.
    #[error("start Postgres; the end of {}:\n{tail}", log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server neither served nor ended in time.
    #[error("reach Postgres within {waited_s} s (it may still be recovering: try again); the end of {}:\n{tail}", log.display())]
    StartTimeout {
        /// How long was waited, in seconds.
        waited_s: u64,
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server did not end in time.
    #[error("stop Postgres (process {pid}) within {waited_s} s; it goes on stopping, see {}", log.display())]
    StopTimeout {
        /// The server's process.
        pid: i32,
        /// How long was waited, in seconds.
        waited_s: u64,
        /// The server's log.
        log: PathBuf,
    },
    /// The server runs and refused a statement that sets it up.
    #[error("set up the database `{database}`: {message}")]
    Setup {
        /// The database.
        database: String,
        /// What the server said.
        message: String,
    },
    /// Another process has been starting or stopping the same server for too long.
    #[error("open {}: another process has been starting or stopping this database for {waited_s} s; try again", lock.display())]
    Busy {
        /// The lock it holds.
        lock: PathBuf,
        /// How long was waited, in seconds.
        waited_s: u64,
    },
    /// Server programs could not be fetched.
    #[error("fetch Postgres from GitHub: {reason}")]
    Download {
        /// Why not.
        reason: String,
    },
    /// Docker refused.
    #[error("run Postgres in Docker: {action}: {output}")]
    Docker {
        /// What it was asked.
        action: String,
        /// The end of what it said.
        output: String,
    },
    /// The work's own thread ended without an answer.
    #[error("finish work on the private Postgres: its thread ended early")]
    Interrupted,
}

impl ClusterError {
    /// Makes the error of a file operation; for `map_err`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// Makes the error of a program that did not start; for `map_err`.
    pub(crate) fn run(program: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let program = program.to_owned();
        move |source| Self::Run { program, source }
    }
}

/// The last lines of a text, at most `max_lines` of them.
pub(crate) fn tail(text: &str, max_lines: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(max_lines)..].join("\n")
}

/// The last lines of a file that may not be there.
pub(crate) fn tail_of_file(path: &Path, max_lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = &text[text.len().saturating_sub(16 * 1024)..];
    tail(&String::from_utf8_lossy(text), max_lines)
}
