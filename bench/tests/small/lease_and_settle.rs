//! L1.

use sluice_bench::{
    l1,
    rig::{Server, fixture},
};
use sluice_testkit::TestCluster;

const JOBS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_done_exactly_once_by_two_workers() {
    if !TestCluster::is_possible() {
        return;
    }
    let server = Server::start_with(&[("shared_buffers", "64MB")]).await.unwrap();
    let database = server.database().await.unwrap();
    fixture::fill(&database, JOBS).await.unwrap();
    // It checks the tables itself.
    let worked = l1::drain_once(&database, JOBS, 2).await.unwrap();
    assert_eq!(worked.jobs, JOBS);
}
