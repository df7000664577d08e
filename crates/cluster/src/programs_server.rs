//! A server from installed programs: make the cluster, start it, look at it, stop it.
//!
//! Everything here expects that the caller holds `open.lock`.

use std::{
    fs::{self, OpenOptions},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    error::{ClusterError, tail, tail_of_file},
    folders::{Folders, PORT},
    options::{ClusterOptions, Durability},
    postmaster,
    private::{DATABASE, USER},
    programs::Programs,
    settings::{self, Lz4},
    wire::{self, Answer},
};

const POLL: Duration = Duration::from_millis(10);
const STOP_TIMEOUT: Duration = Duration::from_mins(1);
/// A log longer than this is put aside at the next start.
const LOG_MAX_BYTES: u64 = 16 * 1024 * 1024;
const TAIL_LINES: usize = 12;
/// What Postgres says (its messages are in English, by our settings) while orphans of an earlier server live.
const ORPHANS_LIVE: &str = "is still in use";
const ORPHANS_TIMEOUT: Duration = Duration::from_secs(30);
const ORPHANS_POLL: Duration = Duration::from_millis(100);

/// A server that runs, or could run, from installed programs.
#[derive(Clone, Debug)]
pub struct ProgramsServer {
    programs: Programs,
    folders: Folders,
    options: ClusterOptions,
}

impl ProgramsServer {
    /// Takes the newest programs, or those that fit the data that are there.
    pub fn choose(found: &[Programs], folders: &Folders, options: &ClusterOptions) -> Option<Self> {
        let chosen = match folders.data_major() {
            None => found.iter().max_by_key(|programs| programs.version),
            Some(major) => found.iter().find(|programs| programs.version.0 == major),
        };
        chosen.map(|programs| Self {
            programs: programs.clone(),
            folders: folders.clone(),
            options: options.clone(),
        })
    }

    /// Where clients connect: a form that both sqlx and libpq (`psql`) take.
    ///
    /// The port and the TLS mode are named because both clients would else take them from `PGPORT` and `PGSSLMODE`.
    pub fn url(&self, database: &str) -> String {
        let folder = percent_encode(self.folders.socket.as_os_str().as_encoded_bytes());
        format!("postgres:///{database}?host={folder}&port={PORT}&user={USER}&sslmode=disable")
    }

    /// Joins the running server, or starts it.
    pub fn ensure_running(&self) -> Result<(), ClusterError> {
        let begun = Instant::now();
        loop {
            match self.ask() {
                Answer::Serves => return Ok(()),
                Answer::NoSuchDatabase => return self.make_database(),
                Answer::Nobody if postmaster::find_postmaster(&self.folders.data()).is_none() => break,
                // It is starting, recovering or stopping; or the machine is too busy for an answer.
                Answer::Nobody | Answer::Silent | Answer::NotYet => self.check_deadline(begun)?,
            }
            thread::sleep(POLL);
        }
        if self.folders.data_major().is_none() {
            self.initialise()?;
        }
        self.start()
    }

    /// Stops the server in order: clients are cut off, everything is written.
    pub fn stop(&self) -> Result<(), ClusterError> {
        let Some(pid) = postmaster::find_postmaster(&self.folders.data()) else { return Ok(()) };
        let begun = Instant::now();
        postmaster::send(pid, Signal::SIGINT);
        while postmaster::find_postmaster(&self.folders.data()) == Some(pid) {
            if begun.elapsed() > STOP_TIMEOUT {
                let log = self.folders.log();
                return Err(ClusterError::StopTimeout { pid, waited_s: STOP_TIMEOUT.as_secs(), log });
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The process of the server, while it runs.
    pub fn postmaster_pid(&self) -> Option<i32> {
        postmaster::find_postmaster(&self.folders.data())
    }

    fn ask(&self) -> Answer {
        wire::ask_socket(&self.folders.socket_file(), USER, DATABASE)
    }

    fn check_deadline(&self, begun: Instant) -> Result<(), ClusterError> {
        let timeout = self.options.start_timeout;
        if begun.elapsed() < timeout {
            return Ok(());
        }
        let log = self.folders.log();
        let tail = tail_of_file(&log, TAIL_LINES);
        Err(ClusterError::StartTimeout { waited_s: timeout.as_secs(), log, tail })
    }

    /// Makes the cluster beside its place and moves it there when it is whole, so that a half-made one is never used.
    fn initialise(&self) -> Result<(), ClusterError> {
        let (data, fresh) = (self.folders.data(), self.folders.home.join("data.new"));
        let locales: [&[&str]; 2] = [&["--locale=C.UTF-8"], &["--locale=C"]];
        let mut output = String::new();
        for locale in locales {
            remove_folder(&fresh)?;
            crate::folders::make_private_folder(&fresh)?;
            self.folders.account.give(&fresh)?;
            match self.run_initdb(&fresh, locale)? {
                Ok(()) => {
                    include_our_settings(&fresh)?;
                    return fs::rename(&fresh, &data).map_err(ClusterError::file("move into place", &data));
                }
                // Only a missing locale is worth a second attempt.
                Err(failed) if failed.contains("locale") => output = failed,
                Err(failed) => return Err(ClusterError::Init { data, output: failed }),
            }
        }
        Err(ClusterError::Init { data, output })
    }

    fn run_initdb(&self, data: &Path, locale: &[&str]) -> Result<Result<(), String>, ClusterError> {
        let program = self.programs.initdb();
        let mut command = self.command(&program);
        // Nobody but the socket's owner gets in, so that a password would add nothing.
        command.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--data-checksums",
            "--no-instructions",
            "--username",
            USER,
        ]);
        if self.options.durability == Durability::CrashOnly {
            command.arg("--no-sync");
        }
        let output =
            command.args(locale).arg("-D").arg(data).output().map_err(ClusterError::run(&program))?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES)))
    }

    fn start(&self) -> Result<(), ClusterError> {
        let data = self.folders.data();
        postmaster::defuse_stale_pid_file(&data)?;
        self.folders.prepare_socket()?;
        // The folder is ours alone and no server lives: what lies in it is stale.
        let socket = self.folders.socket_file();
        let _ = fs::remove_file(&socket);
        let _ = fs::remove_file(socket.with_file_name(format!(".s.PGSQL.{PORT}.lock")));
        let settings = settings::server_settings(&self.options, self.lz4(&data));
        let file = data.join(settings::FILE_NAME);
        fs::write(&file, settings::file_text(&settings, &self.folders.socket))
            .map_err(ClusterError::file("write", &file))?;
        self.folders.account.give(&file)?;
        let begun = Instant::now();
        loop {
            match self.wait_until_served(self.spawn(&data)?) {
                // Sessions of a server that was killed take a moment to notice, and hold its shared memory until then.
                Err(ClusterError::Start { tail, .. })
                    if tail.contains(ORPHANS_LIVE) && begun.elapsed() < ORPHANS_TIMEOUT =>
                {
                    thread::sleep(ORPHANS_POLL);
                }
                result => return result,
            }
        }
    }

    /// Starts the process in a group of its own: Ctrl-C in the terminal is for us, not for it.
    fn spawn(&self, data: &Path) -> Result<Child, ClusterError> {
        let path = self.folders.log();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_MAX_BYTES) {
            let aside = path.with_extension("log.1");
            fs::rename(&path, &aside).map_err(ClusterError::file("put aside", &path))?;
        }
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = opened.map_err(ClusterError::file("open", &path))?;
        let errors = log.try_clone().map_err(ClusterError::file("open", &path))?;
        let program = self.programs.postgres();
        let mut command = self.command(&program);
        command.arg("-D").arg(data).stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        command.spawn().map_err(ClusterError::run(&program))
    }

    fn wait_until_served(&self, mut child: Child) -> Result<(), ClusterError> {
        let begun = Instant::now();
        loop {
            let ended = child.try_wait().map_err(ClusterError::run(&self.programs.postgres()))?;
            if ended.is_some() {
                let log = self.folders.log();
                return Err(ClusterError::Start { tail: tail_of_file(&log, TAIL_LINES), log });
            }
            match self.ask() {
                Answer::Serves => break,
                Answer::NoSuchDatabase => {
                    self.make_database()?;
                    break;
                }
                Answer::Nobody | Answer::Silent | Answer::NotYet => self.check_deadline(begun)?,
            }
            thread::sleep(POLL);
        }
        // Takes note of its end whenever that comes, or it would stay a zombie whose number counts as taken.
        thread::spawn(move || child.wait());
        Ok(())
    }

    fn make_database(&self) -> Result<(), ClusterError> {
        let refused = |message: String| ClusterError::Setup { database: DATABASE.to_owned(), message };
        let statement = format!("CREATE DATABASE {DATABASE}");
        wire::run_statement(&self.folders.socket_file(), USER, "postgres", &statement)
            .map_err(|error| refused(error.to_string()))?
            .map_err(|refusal| refused(refusal.message))
    }

    fn lz4(&self, data: &Path) -> Lz4 {
        let mut command = self.command(&self.programs.postgres());
        command.arg("-D").arg(data).args(["-C", "wal_compression", "-c", "wal_compression=lz4"]);
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Lz4::Available,
            _ => Lz4::Missing,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.folders.account.apply(&mut command);
        command.current_dir(&self.folders.home).env("LC_ALL", "C");
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command
    }
}

fn include_our_settings(data: &Path) -> Result<(), ClusterError> {
    let path = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&path).map_err(ClusterError::file("read", &path))?;
    text.push_str("\n# Settings of your own go below this line.\ninclude_if_exists = '");
    text.push_str(settings::FILE_NAME);
    text.push_str("'\n");
    fs::write(&path, text).map_err(ClusterError::file("write", &path))
}

fn remove_folder(path: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Encodes what has a meaning of its own in the query of a URL.
fn percent_encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(*byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_stays_one_parameter() {
        assert_eq!(percent_encode("/a b&c/é".as_bytes()), "/a%20b%26c/%C3%A9");
    }
}
