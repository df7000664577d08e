//! An installation's server is lost and a standby takes its place.

use anyhow::{Context, Result};
use sluice_testkit::TestCluster;

use super::{Lab, connect};
use crate::{
    facts,
    history::{Standing, TakenBack},
};

impl Lab {
    /// Has its server and another one change places: the lab looks at the other one from now on.
    pub async fn change_places_with(&mut self, other: &mut TestCluster) -> Result<()> {
        self.pool = connect(other.url()).await.context("connect to the other server")?;
        std::mem::swap(&mut self.cluster, other);
        Ok(())
    }

    /// Starts a server that was killed and that nobody uses any more, and notes what is on it and was not on the one
    /// that went on, which held `went_on` when it began to take writes.
    pub async fn note_taken_back(&mut self, left: &TestCluster, went_on: &Standing) -> Result<()> {
        left.start_again().await;
        let pool = connect(left.url()).await.context("connect to the server that was left")?;
        let held = facts::standing(&pool).await.context("read what the server that was left holds")?;
        self.taken_back = TakenBack::between(&held, went_on);
        pool.close().await;
        Ok(())
    }
}
