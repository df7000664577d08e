//! Cleans up after a test process, however it ends.
//!
//! A static is never dropped, and a killed process drops nothing at all. So each process that uses a server has a small
//! shell beside it that reads from a pipe: when the process ends, the kernel closes the pipe and the shell goes to work.
//! The shell is in a process group of its own, so that Ctrl-C doesn't end it, and holds none of our output, so that
//! test runners don't wait for it.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Waits a moment, so that the next test process finds the server running; then stops it if nobody uses it, by the
/// rules of the cluster's locks: `$1/open.lock` for stopping, `$1/users.lock` shared by whoever uses it.
const STOP_SHARED: &str = r#"
cat >/dev/null
sleep 5
stop='pid=$(head -n 1 "$0/postmaster.pid") && kill -INT "$pid" && while kill -0 "$pid"; do sleep 0.1; done'
if command -v flock; then
    flock "$1/open.lock" flock --nonblock "$1/users.lock" sh -c "$stop" "$2"
else
    lockf -k "$1/open.lock" lockf -k -t 0 "$1/users.lock" sh -c "$stop" "$2"
fi
"#;

/// Kills the server with all its processes, also stopped ones, unmounts what was mounted for it, and removes its folder.
const KILL_OWN: &str = r#"
cat >/dev/null
if pid=$(head -n 1 "$2/postmaster.pid"); then
    children=$(ps -A -o pid= -o ppid= | while read -r child parent; do [ "$parent" = "$pid" ] && echo "$child"; done)
    kill -KILL "$pid" $children
    while kill -0 "$pid" && ! grep -q '^State:.Z' "/proc/$pid/status"; do sleep 0.02; done
fi
if [ -r /proc/mounts ]; then
    while read -r device point rest; do
        case $point in "$1"/*) umount -l "$point" ;; esac
    done </proc/mounts
fi
rm -rf "$1"
"#;

const REMOVE_CONTAINER: &str = r#"
cat >/dev/null
docker rm --force --volumes "$1"
"#;

/// A shell that waits for the end of this process, or for its own [`finish`](Self::finish).
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Stops a server that is shared with other test processes, when none is left.
    pub fn stop_shared(lock_folder: &Path, data: &Path) -> std::io::Result<Self> {
        Self::spawn(STOP_SHARED, &[lock_folder, data])
    }

    /// Kills a server of this process alone and removes `folder`.
    pub fn kill_own(folder: &Path, data: &Path) -> std::io::Result<Self> {
        Self::spawn(KILL_OWN, &[folder, data])
    }

    /// Removes a container.
    pub fn remove_container(id: &str) -> std::io::Result<Self> {
        Self::spawn(REMOVE_CONTAINER, &[Path::new(id)])
    }

    /// Lets it do its work now, and waits for it.
    pub fn finish(&mut self) {
        drop(self.0.stdin.take());
        // It reports to nobody: what it could not clean up stays behind.
        let _ = self.0.wait();
    }

    fn spawn(script: &str, arguments: &[&Path]) -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", script, "watchdog"]).args(arguments).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }
}
