//! The disk under a worker's spool hangs.

use std::time::Duration;

use sluice_testkit::TestCluster;
use sluice_tests::{
    history::CallEnd,
    lab::{Lab, Plan, Timing, until},
    processes::{Start, faults_can_be_ordered},
};

const SOON: Duration = Duration::from_mins(1);
/// What a worker's end may take besides its grace: last words, and the patience with the disk, on a slow machine too.
const END: Duration = Duration::from_mins(1);

async fn until_answered(lab: &Lab, calls: usize) {
    until("the calls to be answered", SOON, async || {
        let made = lab.upstream.calls()?;
        Ok(made.iter().filter(|call| call.end == CallEnd::AnsweredWell).count() == calls)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_neither_outcomes_nor_the_end_of_a_worker() {
    if !TestCluster::is_possible() || !faults_can_be_ordered().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        // Long enough that no lease ends while the database is away.
        timing: Timing::USUAL,
        seed: 1,
        latency: "2s".to_owned(),
        simulator: Vec::new(),
        server_settings: Vec::new(),
    };
    let mut lab = Lab::start(folder.path(), plan).await.unwrap();
    lab.start_scheduler().await.unwrap();
    let variables = [("FAILPOINTS", "spool-disk=pause".to_owned())];
    let start = Start { arguments: &["--grace", "2s"], variables: &variables, ..Start::default() };
    let worker = lab.start_worker_as(10, start).await.unwrap();

    for key in ["one", "two", "three"] {
        lab.submit(key, "hello").await.unwrap();
    }
    lab.worker_holds(worker, 3).await.unwrap();
    lab.cluster.kill().await;
    until_answered(&lab, 3).await;
    lab.cluster.start_again().await;
    until("the answers to be written from memory", SOON, async || Ok(lab.ended().await? == 3)).await.unwrap();

    lab.submit("four", "hello").await.unwrap();
    lab.worker_holds(worker, 1).await.unwrap();
    lab.cluster.kill().await;
    until_answered(&lab, 4).await;
    lab.workers[worker].process.ask_to_end().unwrap();
    let status = lab.workers[worker].process.wait_for_end(END).await.unwrap();
    let log = lab.workers[worker].process.log();
    assert_eq!(status.code(), Some(3), "an outcome is lost, and that is said: {log}");
    assert!(log.contains("the disk does not answer"), "{log}");
}
