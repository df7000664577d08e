//! Which host and boot this process runs on, in one word: two processes that say the same see the same lock files.

use std::fs;

/// The host's name and the id of its boot. Where the system tells no boot id, a word that no other process says: then
/// nobody judges this one's lock file.
pub fn host_and_boot() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .ok()
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    format!("{name}/{boot}")
}
