//! A second server that follows a first one, and can take its place.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sluice_cluster::{Durability, find_programs};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::{TestCluster, disks::run};

/// How long a promotion may take.
const PROMOTION: Duration = Duration::from_mins(1);

impl TestCluster {
    /// A standby of this server, which streams by way of the address `via` (a proxy before this server's socket).
    /// `name` is what the server knows it by.
    pub async fn start_standby(&self, name: &str, via: SocketAddr) -> Result<Self> {
        let options: PgConnectOptions = self.url().parse().context("read the server's URL")?;
        let mut standby = Self::prepare()?;
        let data = standby.folder().join("postgres").join("data");
        fs::create_dir_all(&data).context("make the standby's folder")?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        let host = options.get_socket().context("the server listens on a socket")?;
        let programs = find_programs()?.into_iter().next().context("find the server's programs")?;
        let mut copy = Command::new(programs.folder.join("pg_basebackup"));
        copy.arg("-D").arg(&data).arg("-h").arg(host);
        copy.args(["-U", options.get_username(), "-p", &options.get_port().to_string()]);
        run(copy.args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]))?;
        fs::write(data.join("standby.signal"), "").context("mark it as a standby")?;
        let owner = fs::metadata(self.data_folder())?;
        run(Command::new("chown").arg("-R").arg(format!("{}:{}", owner.uid(), owner.gid())).arg(&data))?;
        let primary = format!(
            "host={} port={} user={} application_name={name} sslmode=disable",
            via.ip(),
            via.port(),
            options.get_username()
        );
        standby.open(Durability::Full, &[("primary_conninfo", &primary), ("hot_standby", "on")]).await?;
        Ok(standby)
    }

    /// Ends its standby: it takes writes when this returns.
    pub async fn promote(&self) -> Result<()> {
        let mut connection = PgConnection::connect(self.url()).await?;
        let patience = i32::try_from(PROMOTION.as_secs())?;
        let promoted: bool = sqlx::query_scalar("SELECT pg_promote(true, $1)")
            .bind(patience)
            .fetch_one(&mut connection)
            .await?;
        ensure!(promoted, "the standby was not promoted within {PROMOTION:?}");
        Ok(connection.close().await?)
    }
}
