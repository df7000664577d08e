//! S1, and its limit.

use sluice_bench::{
    rig::{Server, copy, payload},
    s1,
};
use sluice_testkit::TestCluster;

const JOBS: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_stored_by_submit_and_by_copy_alike() {
    if !TestCluster::is_possible() {
        return;
    }
    let server = Server::start_with(&[("shared_buffers", "64MB")]).await.unwrap();
    let database = server.database().await.unwrap();
    s1::submit(&database, JOBS).await.unwrap();
    copy::copy_jobs(&database, &payload::jobs(JOBS), 1_000).await.unwrap();
    // Alike in all but ids and times.
    let kinds = "SELECT count(*) FROM (
        SELECT DISTINCT j.tenant, j.queue, j.model, j.path, j.lane_id, j.priority, j.deadline, j.hold_on_unknown, j.tags,
               j.body, r.lane_id, r.priority, r.line, r.generation, r.lease_no, r.tries, r.hold_on_unknown, r.deadline
        FROM sluice.jobs j JOIN sluice.ready r ON r.job_id = j.id AND r.key = j.created_at) AS kinds";
    assert_eq!(database.number(kinds).await.unwrap(), 1);
    assert_eq!(database.number("SELECT count(*) FROM sluice.ready").await.unwrap(), 2 * JOBS as i64);
}
