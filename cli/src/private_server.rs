//! The private Postgres as a command holds it: watched, and started again where it goes down under us.

use std::{sync::Arc, time::Duration};

use sluice_cluster::PrivatePostgres;
use tokio::task::JoinHandle;

use crate::exit::CliError;

/// Between two looks at the server's main process. A look reads one small file.
const LOOK: Duration = Duration::from_secs(1);

/// A private server and its watch.
#[derive(Debug)]
pub struct PrivateServer {
    postgres: Arc<PrivatePostgres>,
    watch: JoinHandle<()>,
}

impl PrivateServer {
    /// Watches an open server from now on. Containers are watched by their engine.
    pub fn watched(postgres: PrivatePostgres) -> Self {
        let postgres = Arc::new(postgres);
        let watch = tokio::spawn(keep_running(Arc::clone(&postgres)));
        Self { postgres, watch }
    }

    /// Ends the watch, and stops the server if nobody else uses it.
    pub async fn close(self) -> Result<(), CliError> {
        self.watch.abort();
        // Cancelled or ended: it holds the server no longer either way.
        let _ = self.watch.await;
        if let Some(postgres) = Arc::into_inner(self.postgres) {
            postgres.close().await?;
        }
        Ok(())
    }
}

async fn keep_running(postgres: Arc<PrivatePostgres>) {
    if postgres.postmaster_pid().is_none() {
        return;
    }
    let mut is_down = false;
    loop {
        tokio::time::sleep(LOOK).await;
        if postgres.postmaster_pid().is_some() {
            is_down = false;
            continue;
        }
        if !is_down {
            tracing::warn!("the private Postgres went down; it is started again");
        }
        match postgres.ensure_running().await {
            Ok(()) => tracing::info!("the private Postgres serves again"),
            Err(error) if !is_down => {
                let log = postgres.log_path();
                tracing::error!(%error, log = %log.display(), "the private Postgres can't be started; it is tried again");
            }
            Err(_) => {}
        }
        is_down = true;
    }
}
