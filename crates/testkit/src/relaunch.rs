//! A server whose processes have variables of their own, such as a library that is loaded before all others.

use std::{
    fs::{self, OpenOptions},
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use sluice_cluster::find_programs;
use sqlx::{Connection, PgConnection};

use crate::{TestCluster, signals::wait_until};

impl TestCluster {
    /// Stops it in order, and starts it again with these variables besides.
    pub async fn start_again_with_variables(&self, variables: &[(&str, String)]) -> Result<()> {
        self.stop().await;
        let programs = find_programs()?.into_iter().next().context("find the server's programs")?;
        let data = self.data_folder();
        let owner = fs::metadata(&data).context("look at the data")?;
        let log = OpenOptions::new().append(true).open(self.log_path()).context("open the server's log")?;
        let mut command = Command::new(programs.postgres());
        command.arg("-D").arg(&data).current_dir(&data).env("LC_ALL", "C");
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        if nix::unistd::geteuid().as_raw() != owner.uid() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut child = command.spawn().context("start the server")?;
        // Takes note of its end whenever that comes, or it would stay a zombie.
        thread::spawn(move || child.wait());
        wait_until("the server to accept connections", Duration::from_mins(1), async || {
            PgConnection::connect(self.url()).await.is_ok()
        })
        .await;
        Ok(())
    }
}
