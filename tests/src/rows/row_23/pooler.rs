//! PgBouncer in transaction mode, where a program of it is on this machine that keeps prepared statements (1.21 or newer).

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::process::{Child, Command};

use crate::{
    lab::{Lab, until},
    processes::free_port,
};

/// The oldest version whose transaction mode keeps named statements.
const OLDEST: (u32, u32) = (1, 21);

/// A running pooler; it ends with the value.
pub struct Pooler {
    _process: Child,
    url: String,
}

impl Pooler {
    /// Starts it before the lab's database; or says why there is none.
    pub async fn start(lab: &Lab) -> Result<Result<Self, String>> {
        let Ok(version) = Command::new("pgbouncer").arg("--version").output().await else {
            return Ok(Err("pgbouncer is not on this machine".to_owned()));
        };
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        if version_of(&version).is_none_or(|version| version < OLDEST) {
            return Ok(Err(format!("{version} loses named statements in transaction mode; 1.21 is needed")));
        }
        let database: PgConnectOptions = lab.cluster.url().parse()?;
        let (port, user) = (free_port(), database.get_username());
        let host = database
            .get_socket()
            .map_or_else(|| database.get_host().to_owned(), |path| path.display().to_string());
        let name = database.get_database().context("the URL names a database")?;
        let folder = lab.folder();
        let users = folder.join("users.txt");
        fs::write(&users, format!("\"{user}\" \"\"\n"))?;
        let settings = format!(
            "[databases]\n{name} = host={host} port={} dbname={name} user={user}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\nauth_file = {}\n\
             pool_mode = transaction\nmax_prepared_statements = 200\ndefault_pool_size = 8\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\n",
            database.get_port(),
            users.display(),
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings)?;
        let log = fs::File::create(folder.join("pgbouncer.log"))?;
        let process = Command::new("pgbouncer")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start pgbouncer")?;
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}?sslmode=disable");
        let answers = until("the pooler to answer", Duration::from_secs(10), async || {
            PgConnection::connect(&url).await?.close().await?;
            Ok(true)
        });
        Ok(match answers.await {
            Ok(()) => Ok(Self { _process: process, url }),
            Err(error) => Err(format!("pgbouncer does not answer ({error:#}); it does not run as root")),
        })
    }

    /// The database's URL by way of it.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

/// `PgBouncer 1.24.1` → (1, 24).
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version_of("PgBouncer 1.24.1"), Some((1, 24)));
        assert!(version_of("PgBouncer 1.18.0").unwrap() < OLDEST);
        assert!(version_of("PgBouncer 1.100.0").unwrap() > OLDEST);
        assert_eq!(version_of(""), None);
    }
}
