//! Servers of chosen versions in containers, where Docker answers and has the image or can fetch it.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testcontainers::{ContainerAsync, ImageExt, runners::AsyncRunner};
use testcontainers_modules::postgres::Postgres;

use crate::watchdog::Watchdog;

/// A registry that is out of reach often hangs instead of refusing.
const PULL_TIMEOUT: Duration = Duration::from_mins(2);

/// A server in a container, removed with the value, or with the process.
#[derive(Debug)]
pub struct ContainerPostgres {
    url: String,
    watchdog: Watchdog,
    _container: ContainerAsync<Postgres>,
}

impl ContainerPostgres {
    /// The `DATABASE_URL` of its empty database `sluice`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for ContainerPostgres {
    fn drop(&mut self) {
        self.watchdog.finish();
    }
}

/// Starts `postgres:TAG`. The error says why that can't be; a test that only looks at other versions skips then, with
/// that word.
pub async fn postgres_image(tag: &str) -> Result<ContainerPostgres> {
    let image = format!("postgres:{tag}");
    tokio::task::spawn_blocking(move || ensure_image(&image)).await??;
    let started = Postgres::default().with_db_name("sluice").with_user("sluice").with_tag(tag).start();
    let container = started.await.with_context(|| format!("start postgres:{tag}"))?;
    let watchdog = Watchdog::remove_container(container.id())?;
    let port = container.get_host_port_ipv4(5432).await.context("find the container's port")?;
    let url = format!("postgres://sluice:postgres@127.0.0.1:{port}/sluice");
    Ok(ContainerPostgres { url, watchdog, _container: container })
}

fn ensure_image(image: &str) -> Result<()> {
    if !docker(&["version"], Duration::from_secs(10))? {
        bail!("no Docker engine answers");
    }
    if docker(&["image", "inspect", image], Duration::from_secs(10))?
        || docker(&["pull", "--quiet", image], PULL_TIMEOUT)?
    {
        return Ok(());
    }
    bail!("Docker has no image {image} and can't fetch it")
}

/// Whether a command succeeded in time.
fn docker(arguments: &[&str], timeout: Duration) -> Result<bool> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { bail!("there is no `docker` command") };
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if begun.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
