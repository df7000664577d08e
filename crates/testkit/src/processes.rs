//! The processes of a server: its main one and its children, to be stopped and killed as a whole.

use std::{fs, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Whether a process with that number is there.
pub fn is_alive(pid: i32) -> bool {
    // "Not permitted" means that there is one.
    kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// Sends a signal to a process and then to all its children; those that are gone already don't matter.
pub fn signal_family(parent: i32, signal: Signal) {
    // The parent first, so that it starts no more.
    let _ = kill(Pid::from_raw(parent), signal);
    for child in children_of(parent) {
        let _ = kill(Pid::from_raw(child), signal);
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let pairs =
        if fs::exists("/proc/self/stat").unwrap_or(false) { pairs_from_proc() } else { pairs_from_ps() };
    pairs.into_iter().filter(|(_, above)| *above == parent).map(|(pid, _)| pid).collect()
}

/// (process, its parent) of all processes, from `pid (comm) state ppid …`.
fn pairs_from_proc() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
    .collect()
}

fn pairs_from_ps() -> Vec<(i32, i32)> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| {
            let (pid, parent) = line.trim().split_once(char::is_whitespace)?;
            Some((pid.parse().ok()?, parent.trim().parse().ok()?))
        })
        .collect()
}
