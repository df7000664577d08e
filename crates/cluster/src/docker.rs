//! A server from a `postgres` image, where Docker is all there is.
//!
//! It listens on a random port of 127.0.0.1 with a random password, since the sockets of containers can't be reached
//! on every system that Docker runs on. The data lie in `docker/` below the data directory, mounted into the container.
//! Everything here expects that the caller holds `open.lock`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{ClusterError, tail},
    folders::Folders,
    options::ClusterOptions,
    private::{DATABASE, USER},
    programs::OLDEST_MAJOR,
    settings::{self, Lz4},
    wire::{self, Answer},
};

const POLL: Duration = Duration::from_millis(50);
/// The image that is fetched where none is there.
const DEFAULT_IMAGE: &str = "postgres:18";
const TAIL_LINES: usize = 8;

/// A server that runs, or could run, in a container.
#[derive(Clone, Debug)]
pub struct DockerServer {
    name: String,
    folder: PathBuf,
    password: String,
    image: String,
    options: ClusterOptions,
}

impl DockerServer {
    /// Whether a container served this data directory before.
    pub fn was_used(folders: &Folders) -> bool {
        folders.home.join("docker").join("image").exists()
    }

    /// Prepares a server if an engine answers; the error says in a few words why not.
    pub fn choose(folders: &Folders, options: &ClusterOptions) -> Result<Self, ClusterError> {
        docker(&["version", "--format", "{{.Server.Version}}"])?;
        let folder = folders.home.join("docker");
        fs::create_dir_all(&folder).map_err(ClusterError::file("create", &folder))?;
        let password = remember(&folder.join("password"), || Ok(uuid::Uuid::new_v4().simple().to_string()))?;
        let image = remember(&folder.join("image"), newest_image)?;
        let name = format!("sluice-postgres-{}", crate::folders::path_hash(&folders.home));
        Ok(Self { name, folder, password, image, options: options.clone() })
    }

    /// Where clients connect.
    pub fn url(&self, database: &str) -> Result<String, ClusterError> {
        let port = self.port()?;
        Ok(format!("postgres://{USER}:{}@127.0.0.1:{port}/{database}?sslmode=disable", self.password))
    }

    /// Joins the running container, or starts one.
    pub fn ensure_running(&self) -> Result<(), ClusterError> {
        let begun = Instant::now();
        if self.port().is_err() {
            self.start()?;
        }
        loop {
            let port = self.port().map_err(|_| self.start_error())?;
            if wire::ask_port(port, USER, DATABASE) == Answer::Serves {
                return Ok(());
            }
            if begun.elapsed() > self.options.start_timeout {
                return Err(self.start_error());
            }
            thread::sleep(POLL);
        }
    }

    /// Stops the container in order; it is removed with its stop.
    pub fn stop(&self) -> Result<(), ClusterError> {
        docker(&["stop", "--time", "60", &self.name]).map(drop)
    }

    fn start(&self) -> Result<(), ClusterError> {
        let _ = docker(&["rm", "--force", &self.name]);
        let environment = self.folder.join("environment");
        // By file, since arguments can be read by everybody on the machine.
        let text = format!(
            "POSTGRES_USER={USER}\nPOSTGRES_DB={DATABASE}\nPOSTGRES_PASSWORD={}\nPGDATA=/sluice/data\n\
             POSTGRES_INITDB_ARGS=--data-checksums --encoding=UTF8 --locale=C\n",
            self.password
        );
        write_secret(&environment, &text)?;
        let mut arguments = vec!["run".to_owned(), "--detach".to_owned(), "--rm".to_owned()];
        let volume = format!("{}:/sluice", self.folder.display());
        for (option, value) in [
            ("--name", self.name.as_str()),
            ("--env-file", &environment.display().to_string()),
            ("--volume", &volume),
            ("--publish", "127.0.0.1::5432"),
            ("--shm-size", "256m"),
            ("--stop-signal", "SIGINT"),
        ] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        arguments.push(self.image.clone());
        // The official images are built with lz4.
        for (name, value) in settings::server_settings(&self.options, Lz4::Available) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    fn port(&self) -> Result<u16, ClusterError> {
        let text = docker(&["port", &self.name, "5432/tcp"])?;
        let port = text
            .lines()
            .next()
            .and_then(|line| line.rsplit_once(':'))
            .and_then(|(_, port)| port.parse().ok());
        port.ok_or_else(|| ClusterError::Docker { action: "docker port".to_owned(), output: text })
    }

    fn start_error(&self) -> ClusterError {
        let said = docker(&["logs", "--tail", "12", &self.name]).unwrap_or_else(|error| error.to_string());
        ClusterError::Docker { action: format!("wait for container {}", self.name), output: tail(&said, 12) }
    }
}

/// The newest `postgres:MAJOR` that is there, else the one to fetch.
fn newest_image() -> Result<String, ClusterError> {
    let tags = docker(&["image", "ls", "--format", "{{.Tag}}", "postgres"])?;
    let newest =
        tags.lines().filter_map(|tag| tag.parse::<u32>().ok()).filter(|major| *major >= OLDEST_MAJOR).max();
    if let Some(major) = newest {
        return Ok(format!("postgres:{major}"));
    }
    docker(&["pull", "--quiet", DEFAULT_IMAGE])?;
    Ok(DEFAULT_IMAGE.to_owned())
}

/// Reads a small file, or makes it: the data stay with the image and the password that they were made with.
fn remember(
    path: &std::path::Path,
    make: impl FnOnce() -> Result<String, ClusterError>,
) -> Result<String, ClusterError> {
    if let Ok(text) = fs::read_to_string(path) {
        return Ok(text.trim().to_owned());
    }
    let text = make()?;
    write_secret(path, &text)?;
    Ok(text)
}

fn write_secret(path: &std::path::Path, text: &str) -> Result<(), ClusterError> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(ClusterError::file("write", path))
}

fn docker(arguments: &[&str]) -> Result<String, ClusterError> {
    let action = || format!("docker {}", arguments.iter().take(2).copied().collect::<Vec<_>>().join(" "));
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ClusterError::Docker { action: action(), output: error.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = tail(&String::from_utf8_lossy(&output.stderr), TAIL_LINES);
    Err(ClusterError::Docker { action: action(), output: said })
}
