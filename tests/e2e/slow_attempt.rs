//! An attempt that looked stuck and was only slow.

use std::time::Duration;

use sluice_testkit::TestCluster;
use sluice_tests::{
    lab::{Lab, Plan, Timing},
    processes::{Start, faults_can_be_ordered},
};

/// The attempt blocks its thread for 6 s; after 1 s it looks stuck, while another call needs 11 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_stuck_attempt_goes_on_ends_without_loss() {
    if !TestCluster::is_possible() || !faults_can_be_ordered().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        timing: Timing::USUAL,
        seed: 1,
        latency: "50ms".to_owned(),
        simulator: Vec::new(),
        server_settings: Vec::new(),
    };
    let mut lab = Lab::start(folder.path(), plan).await.unwrap();
    lab.start_scheduler().await.unwrap();
    lab.submit("long", "hello [[sim:none latency_ms=11000]]").await.unwrap();
    lab.submit("nap", "hello [[poison:nap]]").await.unwrap();
    let faults = "attempt-poison=return;stuck-after=return(1000)".to_owned();
    let variables = [("FAILPOINTS", faults)];
    let start = Start { arguments: &["--grace", "1m"], variables: &variables, ..Start::default() };
    let worker = lab.start_worker_as(10, start).await.unwrap();
    let ended = lab.workers[worker].process.wait_for_end(Duration::from_mins(2)).await;
    let log = lab.workers[worker].process.log();
    let status = ended.unwrap_or_else(|error| panic!("{error}: {log}"));
    assert_eq!(status.code(), Some(3), "it is to be started again: {log}");
    assert_eq!(lab.ended().await.unwrap(), 2, "both calls had their answers written: {log}");
    assert_eq!(lab.upstream.calls().unwrap().len(), 2);
}
