//! The server's main process, as its `postmaster.pid` names it.
//!
//! After an unclean stop that file is stale, and the number in it may by now belong to another process. Postgres
//! itself only looks whether a process with that number lives, and refuses to start if one does, so we look closer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::error::ClusterError;

/// No process has this number: Linux ends at 4,194,304 and macOS at 99,998.
const NOBODYS_PID: &str = "4194305";

/// The file in which a server names its process.
pub fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// The process of the server that runs on the data, if there is one.
pub fn find_postmaster(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(pid_file(data)).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    is_server_of(pid, data).then_some(pid)
}

/// Makes a stale `postmaster.pid` harmless, where its number may belong to another process by now.
///
/// The file is not removed but given a number that no process has: the server then still makes its own check that no
/// orphan of the earlier one holds the shared memory that the file names.
pub fn defuse_stale_pid_file(data: &Path) -> Result<(), ClusterError> {
    let path = pid_file(data);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{NOBODYS_PID}\n{rest}")).map_err(ClusterError::file("write", &path))
}

/// Sends a signal; `false` where there is no such process.
pub fn send(pid: i32, signal: Signal) -> bool {
    match signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) => true,
        Err(error) => error != Errno::ESRCH,
    }
}

/// Whether a live process is the server on the data.
fn is_server_of(pid: i32, data: &Path) -> bool {
    if pid <= 1 {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => is_live_server(&stat) && works_in(pid, data),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => listed_as_server(pid),
    }
}

/// Reads `pid (comm) state …`. A zombie is dead, though its number is still taken.
fn is_live_server(stat: &str) -> bool {
    let Some((before, after)) = stat.rsplit_once(')') else { return false };
    let name = before.split_once('(').map_or("", |(_, name)| name);
    let state = after.trim_start().chars().next();
    matches!(name, "postgres" | "postmaster") && !matches!(state, None | Some('Z' | 'X'))
}

/// A server works in its data folder, which tells it from another cluster's. Unreadable counts as yes.
fn works_in(pid: i32, data: &Path) -> bool {
    match (fs::read_link(format!("/proc/{pid}/cwd")), fs::canonicalize(data)) {
        (Ok(folder), Ok(data)) => folder == data,
        _ => true,
    }
}

/// For systems without `/proc`.
fn listed_as_server(pid: i32) -> bool {
    let listed = Command::new("ps").args(["-o", "stat=", "-o", "comm=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        let (state, name) = text.trim().split_once(char::is_whitespace).unwrap_or_default();
        !state.starts_with('Z') && (name.contains("postgres") || name.contains("postmaster"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_and_a_stranger_are_no_servers() {
        assert!(is_live_server("12 (postgres) S 1 12 12 0"));
        assert!(!is_live_server("12 (postgres) Z 1 12 12 0"));
        assert!(!is_live_server("12 (cat) S 1 12 12 0"));
        assert!(!is_live_server("12 (a) (postgres b) S 1"));
    }

    #[test]
    fn a_number_that_another_process_has_by_now_is_stale() {
        let data = tempfile::tempdir().unwrap();
        let own = std::process::id();
        fs::write(pid_file(data.path()), format!("{own}\n{}\nrest\n", data.path().display())).unwrap();
        assert_eq!(find_postmaster(data.path()), None);
        defuse_stale_pid_file(data.path()).unwrap();
        let text = fs::read_to_string(pid_file(data.path())).unwrap();
        assert_eq!(text, format!("{NOBODYS_PID}\n{}\nrest\n", data.path().display()));
    }
}
