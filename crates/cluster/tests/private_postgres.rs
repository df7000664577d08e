//! A private Postgres on this machine's server programs: what starts it, what stops it, and what it survives.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgid},
};
use sluice_cluster::{
    Closed, ClusterError, ClusterOptions, Durability, PrivatePostgres, ServerSource, find_programs,
};
use tempfile::TempDir;

fn options(folder: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(folder);
    options.durability = Durability::CrashOnly;
    options.sources = vec![ServerSource::Programs];
    options.start_timeout = Duration::from_mins(1);
    options
}

/// Server programs are what these tests are about; elsewhere there is nothing to test.
fn programs_are_here() -> bool {
    let here = find_programs().is_ok_and(|found| !found.is_empty());
    if !here {
        eprintln!("skipped: no Postgres server programs on this machine");
    }
    here
}

/// A folder that the server's account can reach too, which for root is another one.
fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a folder")
}

fn socket_of(postgres: &PrivatePostgres) -> String {
    let (_, host) = postgres.url().split_once("host=").expect("a socket");
    format!("{}/.s.PGSQL.5432", host.split('&').next().expect("a folder"))
}

fn wait_until_gone(pid: i32) {
    let begun = Instant::now();
    while kill(Pid::from_raw(pid), None).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "process {pid} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn the_last_user_stops_the_server() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let first = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let second = PrivatePostgres::open(options(folder.path())).await.unwrap();
    assert_eq!(first.postmaster_pid(), second.postmaster_pid());
    let socket = socket_of(&first);
    assert_eq!(first.close().await.unwrap(), Closed::StillUsed);
    UnixStream::connect(&socket).unwrap();
    assert_eq!(second.close().await.unwrap(), Closed::Stopped);
    UnixStream::connect(&socket).unwrap_err();
}

#[tokio::test]
async fn only_the_owner_may_enter_the_socket_folder() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let socket_folder = Path::new(&socket_of(&postgres)).parent().unwrap().to_owned();
    assert_eq!(fs::metadata(socket_folder).unwrap().permissions().mode() & 0o777, 0o700);
    postgres.close().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_started_again_by_who_uses_it() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let pid = postgres.postmaster_pid().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until_gone(pid);
    postgres.ensure_running().await.unwrap();
    assert_ne!(postgres.postmaster_pid(), Some(pid));
    assert_eq!(postgres.close().await.unwrap(), Closed::Stopped);
}

#[tokio::test]
async fn a_pid_file_whose_number_another_process_has_is_no_hindrance() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let (data, socket, pid) =
        (postgres.data_folder(), socket_of(&postgres), postgres.postmaster_pid().unwrap());
    let pid_file = data.join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until_gone(pid);
    drop(postgres);
    let own = std::process::id();
    fs::write(&pid_file, text.replacen(&pid.to_string(), &own.to_string(), 1)).unwrap();
    fs::write(format!("{socket}.lock"), format!("{own}\n")).unwrap();

    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    assert_eq!(postgres.close().await.unwrap(), Closed::Stopped);
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let wrong = options(folder.path()).setting("no_such_setting", "1");
    let error = PrivatePostgres::open(wrong).await.unwrap_err();
    assert!(matches!(error, ClusterError::Start { .. }), "{error}");
    assert!(error.to_string().contains("unrecognized configuration parameter"), "{error}");
    // What failed leaves nothing in the way.
    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    postgres.close().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_are_refused_by_name() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let version = postgres.data_folder().join("PG_VERSION");
    postgres.close().await.unwrap();
    fs::write(version, "12\n").unwrap();
    let error = PrivatePostgres::open(options(folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("was made by Postgres 12"), "{error}");
}

#[tokio::test]
async fn without_any_source_the_error_says_what_would_help() {
    let folder = open_folder();
    let mut none = options(folder.path());
    none.sources.clear();
    let error = PrivatePostgres::open(none).await.unwrap_err().to_string();
    for help in ["install Postgres 15 or newer", "set DATABASE_URL", "start Docker"] {
        assert!(error.contains(help), "{error}");
    }
}

/// The other process of the test below; by itself it does nothing.
#[tokio::test]
async fn opens_and_waits_to_be_killed() {
    let Some(folder) = env::var_os("OPEN_AND_WAIT_IN") else { return };
    let _postgres = PrivatePostgres::open(options(Path::new(&folder))).await.unwrap();
    println!("{OPENED}");
    thread::sleep(Duration::from_mins(5));
}

const OPENED: &str = "the private Postgres is open";

#[tokio::test]
async fn a_killed_last_user_leaves_the_server_to_the_next_one() {
    if !programs_are_here() {
        return;
    }
    let folder = open_folder();
    let mut other = Command::new(env::current_exe().unwrap())
        .args(["--exact", "opens_and_waits_to_be_killed", "--nocapture"])
        .env("OPEN_AND_WAIT_IN", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(OPENED)), "the other process opens it");
    other.kill().unwrap();
    other.wait().unwrap();

    let postgres = PrivatePostgres::open(options(folder.path())).await.unwrap();
    let pid = Pid::from_raw(postgres.postmaster_pid().unwrap());
    let parent_is_us = fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.contains(&format!(") S {} ", std::process::id())));
    assert!(!parent_is_us, "the server of the killed process is joined, not started anew");
    assert_eq!(getpgid(Some(pid)), Ok(pid), "Ctrl-C in a terminal must not reach it");
    assert_eq!(postgres.close().await.unwrap(), Closed::Stopped);
}
