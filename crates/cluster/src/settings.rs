//! The server's settings: what a queue wants, in a file of our own that `postgresql.conf` includes.
//!
//! The file is written anew at each start, so that a newer binary brings its own settings; what a user puts into
//! `postgresql.conf` below the include wins over it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use crate::options::{ClusterOptions, Durability};

/// The file's name in the data folder.
pub const FILE_NAME: &str = "sluice.conf";

/// Whether the server programs were built with lz4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lz4 {
    /// They were.
    Available,
    /// They were not.
    Missing,
}

/// The settings that hold for every private server, wherever it comes from.
pub fn server_settings(options: &ClusterOptions, lz4: Lz4) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        settings.insert(name.to_owned(), value.to_owned());
    };
    set("shared_buffers", &format!("{}MB", shared_buffers_mb(memory_kb())));
    set("max_connections", "200");
    // Checkpoints spread far apart: each one makes the next write of a page carry the whole page into the WAL.
    set("max_wal_size", "4GB");
    set("min_wal_size", "256MB");
    set("checkpoint_timeout", "15min");
    // Queries of a queue are small; compiling them costs more than it saves.
    set("jit", "off");
    set("random_page_cost", "1.1");
    // Rows that move leave dead ones behind: clean up early and often.
    set("autovacuum_naptime", "10s");
    set("autovacuum_vacuum_cost_limit", "2000");
    // Messages in English and times in UTC, whoever reads the log.
    set("lc_messages", "C");
    set("timezone", "UTC");
    set("log_timezone", "UTC");
    set("log_line_prefix", "%m [%p] ");
    if lz4 == Lz4::Available {
        set("wal_compression", "lz4");
        set("default_toast_compression", "lz4");
    }
    match options.durability {
        Durability::Full => {
            set("fsync", "on");
            set("full_page_writes", "on");
            set("synchronous_commit", "on");
        }
        Durability::CrashOnly => {
            set("fsync", "off");
            set("full_page_writes", "off");
            set("synchronous_commit", "off");
            set("autovacuum_naptime", "60s");
        }
    }
    settings.extend(options.server_settings.clone());
    settings
}

/// The file's text: the given settings, and the socket as the only way in.
pub fn file_text(settings: &BTreeMap<String, String>, socket_folder: &Path) -> String {
    let mut text = String::from(
        "# Written by sluice at each start; settings of your own go into postgresql.conf, at its end.\n",
    );
    let way_in = [
        ("listen_addresses", String::new()),
        ("unix_socket_directories", socket_folder.display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("port", crate::folders::PORT.to_string()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
    ];
    let ours = settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in ours.chain(way_in) {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

/// A quarter of the memory, at most 256 MB: the private server shares its machine with everything else.
fn shared_buffers_mb(memory_kb: Option<u64>) -> u64 {
    memory_kb.map_or(128, |kb| kb / 1024 / 4).clamp(16, 256)
}

fn memory_kb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_caller_win_and_the_socket_stays_the_only_way_in() {
        let options = ClusterOptions::new("/d").setting("jit", "on").setting("listen_addresses", "*");
        let text = file_text(&server_settings(&options, Lz4::Missing), Path::new("/it's"));
        assert!(text.contains("jit = 'on'\n"), "{text}");
        assert!(text.contains("unix_socket_directories = '/it''s'\n"), "{text}");
        // The last one counts.
        assert!(text.rfind("listen_addresses = ''").unwrap() > text.find("listen_addresses = '*'").unwrap());
    }

    #[test]
    fn a_small_machine_gets_small_buffers() {
        assert_eq!(shared_buffers_mb(Some(512 * 1024)), 128);
        assert_eq!(shared_buffers_mb(Some(64 * 1024 * 1024)), 256);
        assert_eq!(shared_buffers_mb(None), 128);
    }
}
