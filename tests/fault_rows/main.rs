//! Rows of the fault matrix in small: shorter times, fewer jobs, the same demands on correctness. `tests/faults` runs
//! them in full.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use sluice_testkit::TestCluster;
use sluice_tests::rows::{Case, Scale, row};

async fn holds(number: u16, seed: u64) {
    if !TestCluster::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let case = Case { row: number, seed, scale: Scale::Small, folder: folder.path().to_owned() };
    let row = row(number).unwrap();
    let report = (row.run)(&case).await.unwrap();
    let repeat = format!("tests/faults {number} --seed {seed} --small");
    assert!(report.ok, "row {number} ({}): {report:#?}\nrepeat it: {repeat}", row.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_1_killed_workers_jobs_run_again() {
    holds(1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_2_a_worker_that_is_asked_to_end_repeats_nothing() {
    holds(2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_4_a_worker_that_stood_still_writes_nothing_stale() {
    holds(4, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_6_a_killed_server_loses_and_repeats_nothing() {
    holds(6, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_11_an_upstream_that_fails_is_hardly_called() {
    holds(11, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_12_bad_answers_end_with_their_class_and_nothing_else_ends() {
    holds(12, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_poison_is_held_and_nothing_that_shared_a_process_with_it() {
    holds(21, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_3_a_retry_after_a_killed_scheduler_gives_one_job() {
    holds(3, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_18_one_key_from_many_clients_is_one_job() {
    holds(18, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_19_races_with_a_cancel_have_one_winner_each() {
    holds(19, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_27_functions_that_are_dropped_leak_nothing() {
    holds(27, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_9_no_call_comes_before_the_time_told_and_the_fleet_follows_by_and_by() {
    holds(9, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_10_a_wrong_key_stops_its_calls_and_no_job_fails_for_it() {
    holds(10, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_20_limits_that_bind_are_never_exceeded_and_nothing_is_held_for_ever() {
    holds(20, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_22_a_held_snapshot_slows_nothing_down_under_limits() {
    holds(22, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_tenant_of_many_jobs_holds_up_nobody_elses() {
    holds(25, 1).await;
}
