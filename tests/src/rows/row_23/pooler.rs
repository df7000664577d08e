//! PgBouncer in transaction mode, as a program or as an image, whichever `tests/tools/pgbouncer` finds.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    lab::{Lab, tools, until},
    processes::free_port,
};

/// Longer than the start of a container on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_mins(1);

/// A running pooler; it ends with the value.
pub struct Pooler {
    url: String,
    _process: Child,
    /// Its settings, in a folder that other accounts can read.
    _folder: TempDir,
}

/// In the container: the pooler, for as long as somebody holds the other end of its input. So it ends with whoever
/// started it, however that ends.
const WHILE_HELD: &str = "pgbouncer \"$0\" & cat >/dev/null; kill $!";

/// Whom it serves, and how.
struct Settings {
    file: PathBuf,
    /// The folder of the server's socket, which only its owner may enter.
    socket: PathBuf,
    log: PathBuf,
}

impl Pooler {
    /// Starts it before the lab's database; or says why there is none.
    pub async fn start(lab: &Lab) -> Result<Result<Self, String>> {
        let found = match tools::find("pgbouncer").await? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let database: PgConnectOptions = lab.cluster.url().parse()?;
        let folder = tempfile::Builder::new()
            .prefix("sluice-pooler-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("make a folder for the pooler")?;
        let port = free_port();
        let settings = Settings {
            file: write_settings(folder.path(), &database, port)?,
            socket: database.get_socket().context("the server listens on a socket")?.clone(),
            log: lab.folder().join("pgbouncer.log"),
        };
        let process = match found.split_once(' ') {
            Some(("program", path)) => settings.run_program(path)?,
            Some(("image", name)) => settings.run_image(name)?,
            _ => bail!("tests/tools/pgbouncer said {found:?}"),
        };
        let (user, name) = (database.get_username(), database.get_database().unwrap_or_default());
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}?sslmode=disable");
        until("the pooler to answer", STARTED_WITHIN, async || {
            PgConnection::connect(&url).await?.close().await?;
            Ok(true)
        })
        .await
        .with_context(|| fs::read_to_string(&settings.log).unwrap_or_default())?;
        Ok(Ok(Self { url, _process: process, _folder: folder }))
    }

    /// The database's URL by way of it.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

impl Settings {
    fn run_program(&self, path: &str) -> Result<Child> {
        let owner = fs::metadata(&self.socket)?;
        let mut command = Command::new(path);
        command.arg(&self.file).stdin(Stdio::null()).kill_on_drop(true);
        if nix::unistd::geteuid().is_root() {
            // It does not run as root.
            command.uid(owner.uid()).gid(owner.gid());
        }
        self.start(command)
    }

    fn run_image(&self, image: &str) -> Result<Child> {
        let owner = fs::metadata(&self.socket)?;
        let mount = |path: &Path| format!("{0}:{0}", path.display());
        let mut command = Command::new("docker");
        command.args(["run", "--interactive", "--rm", "--network", "host"]);
        command.args(["--user", &format!("{}:{}", owner.uid(), owner.gid())]);
        command.args(["--volume", &mount(&self.socket)]);
        command.args(["--volume", &mount(self.file.parent().context("a file lies in a folder")?)]);
        command.args(["--entrypoint", "sh", image, "-c", WHILE_HELD]).arg(&self.file);
        command.stdin(Stdio::piped());
        self.start(command)
    }

    fn start(&self, mut command: Command) -> Result<Child> {
        let log = fs::File::create(&self.log)?;
        command.stdout(log.try_clone()?).stderr(log).spawn().context("start pgbouncer")
    }
}

fn write_settings(folder: &Path, database: &PgConnectOptions, port: u16) -> Result<PathBuf> {
    let user = database.get_username();
    let name = database.get_database().context("the URL names a database")?;
    let socket = database.get_socket().context("the server listens on a socket")?;
    let (file, users) = (folder.join("pgbouncer.ini"), folder.join("users.txt"));
    fs::write(&users, format!("\"{user}\" \"\"\n")).context("write the pooler's users")?;
    let settings = format!(
        "[databases]\n{name} = host={} port={} dbname={name} user={user}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\nauth_file = {}\n\
         pool_mode = transaction\nmax_prepared_statements = 200\ndefault_pool_size = 8\nmax_client_conn = 200\n\
         ignore_startup_parameters = extra_float_digits\n",
        socket.display(),
        database.get_port(),
        users.display(),
    );
    fs::write(&file, settings).context("write the pooler's settings")?;
    Ok(file)
}
