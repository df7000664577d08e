//! Jobs with two crashes behind them, and the processes that they have to themselves. Here these are scripts that do what
//! a child could do; `tests/e2e` has the real one.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use bytes::Bytes;
use sluice_domain::{CallId, ErrorClass, HoldReason, JobId, JobState, Outcome, UpstreamUse};
use sluice_provider::{CallReport, WireOutcome};
use sluice_store::{CancelOutcome, Doorbell};
use sluice_testkit::{job, wait_until};
use sluice_worker::{SuspectCommand, WorkMode, Worker, WorkerOptions};

use crate::world::{SOON, World, job_with, prompt, tenant};

/// The TTL of workers in which no attempt gets stuck.
const NEVER: Duration = Duration::from_mins(10);

/// A child that runs a script, with arguments.
fn child(script: &str, arguments: &[&str]) -> SuspectCommand {
    let arguments = ["-c", script, "sh"].iter().chain(arguments).map(OsString::from).collect();
    SuspectCommand { program: PathBuf::from("/bin/sh"), arguments }
}

/// A world with a job that has two crashes behind it.
async fn with_suspect() -> (World, JobId) {
    let world = World::new().await;
    let id = world.submit(job().build()).await;
    world.crash_twice().await;
    (world, id)
}

/// A worker that ends when nothing is left to do. A process without a sign of life is killed after twice the TTL.
fn options(world: &World, command: impl Into<Option<SuspectCommand>>, lease_ttl: Duration) -> WorkerOptions {
    let mut options =
        WorkerOptions { suspect_command: command.into(), mode: WorkMode::UntilIdle, ..world.options() };
    options.timing.lease_ttl = lease_ttl;
    options
}

async fn work(options: WorkerOptions) {
    let handle = Worker::start(options).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("the worker ends when nothing is left to do");
}

#[tokio::test]
async fn a_suspect_whose_process_crashes_is_held_as_poison() {
    for script in ["kill -ABRT $$", "kill -SEGV $$", "exit 101", "exit 0"] {
        let (world, id) = with_suspect().await;
        let script_that_listens = format!("head -c 8 > /dev/null; {script}");
        work(options(&world, child(&script_that_listens, &[]), NEVER)).await;
        let held = world.job(id).await;
        assert_eq!((held.state, held.hold_reason), (JobState::Held, Some(HoldReason::Poison)), "{script}");
        assert_eq!((held.crashes, held.tries), (3, 0), "{script}");
        let attempt = world.attempts(id).await.remove(0);
        assert_eq!(attempt.outcome, Some(Outcome::Lost), "its call may have been sent");
        assert_eq!(attempt.error_class, Some(ErrorClass::Poison));
        assert!(attempt.call_id.is_some() && attempt.upstream.as_deref() == Some("sim"), "{attempt:?}");
        assert_eq!(world.simulator.stats().calls, 0, "the parent made no call");
    }
}

#[tokio::test]
async fn a_process_that_somebody_kills_is_no_crash_and_spends_a_try() {
    let (world, id) = with_suspect().await;
    work(options(&world, child("head -c 8 > /dev/null; kill -KILL $$", &[]), NEVER)).await;
    let job = world.job(id).await;
    assert_eq!((job.state, job.hold_reason, job.crashes), (JobState::Failed, None, 2));
    assert!(job.tries > 0, "so there is an end to it");
    assert_eq!(world.attempts(id).await.remove(0).outcome, Some(Outcome::Unknown));
}

#[tokio::test]
async fn a_process_without_a_sign_of_life_is_killed() {
    let (world, id) = with_suspect().await;
    work(options(&world, child("exec sleep 1000", &[]), Duration::from_secs(1))).await;
    let held = world.job(id).await;
    assert_eq!(held.hold_reason, Some(HoldReason::Poison));
    assert!(held.error.unwrap().message.contains("no sign of life"));
}

#[tokio::test]
async fn a_process_that_tells_without_end_is_killed() {
    for script in ["exec yes", "printf 'a\\377\\377\\377\\377'; exec cat /dev/zero"] {
        let (world, id) = with_suspect().await;
        work(options(&world, child(script, &[]), NEVER)).await;
        assert_eq!(world.job(id).await.hold_reason, Some(HoldReason::Poison), "{script}");
    }
}

#[tokio::test]
async fn a_process_that_somebody_asked_to_end_did_not_crash() {
    let (world, id) = with_suspect().await;
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("asked");
    // The first is asked to end; the second lives until the worker ends.
    let script = "[ -e $1 ] && exec sleep 1000; touch $1; kill -TERM $$";
    let mut options = options(&world, child(script, &[mark.to_str().unwrap()]), NEVER);
    options.mode = WorkMode::Forever;
    let handle = Worker::start(options).await.unwrap();
    wait_until("the first attempt to end", SOON, async || {
        world.outcomes(id).await.first() == Some(&Some(Outcome::Unknown))
    })
    .await;
    handle.stop_now().await;
    let job = world.job(id).await;
    assert_eq!((job.state, job.crashes), (JobState::Queued, 2));
}

#[tokio::test]
async fn a_process_that_can_not_be_started_is_nobodys_crash() {
    let (world, id) = with_suspect().await;
    let missing = SuspectCommand { program: PathBuf::from("/nowhere/sluice"), arguments: Vec::new() };
    let mut options = options(&world, Some(missing), NEVER);
    options.mode = WorkMode::Forever;
    let handle = Worker::start(options).await.unwrap();
    wait_until("two attempts", SOON, async || {
        world.outcomes(id).await.iter().filter(|outcome| **outcome == Some(Outcome::NotSent)).count() >= 2
    })
    .await;
    handle.drain().await;
    let job = world.job(id).await;
    assert_eq!((job.state, job.crashes, job.tries), (JobState::Queued, 2, 0));
    assert_eq!(world.count("SELECT refusals::bigint FROM sluice.ready").await, 0, "nor a refusal");
}

#[tokio::test]
async fn the_report_of_a_process_is_settled_byte_for_byte() {
    let (world, id) = with_suspect().await;
    let body = b"{\"a\":\"\0\xff\xfe\"}\r\n";
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    std::fs::write(&told, report_of(body)).unwrap();
    // What it does after its last word changes nothing.
    work(options(&world, child("cat $1; kill -ABRT $$", &[told.to_str().unwrap()]), NEVER)).await;
    let done = world.job(id).await;
    assert_eq!((done.state, done.crashes, done.tries), (JobState::Succeeded, 2, 1));
    assert_eq!(done.result.unwrap().body, body);
}

/// What a child tells of an answer, as it tells it.
fn report_of(body: &'static [u8]) -> Vec<u8> {
    let answer = sluice_provider::Answer {
        status_code: 200,
        body: Bytes::from_static(body),
        is_truncated: false,
        is_assembled: false,
        raw_stream: None,
        failure: None,
        failure_code: None,
        usage: None,
        retry_after: None,
        rate_limits: sluice_policy::rate_limit::RateLimits::default(),
    };
    let report = CallReport {
        outcome: WireOutcome::Answered(Box::new(answer)),
        upstream: UpstreamUse {
            call_id: CallId::generate(),
            upstream: "sim".to_owned(),
            model: "m".to_owned(),
            answered_model: None,
            request_id: None,
        },
        sent_at: None,
        duration: None,
        time_to_first_byte: None,
        is_token_outdated: false,
    };
    let head = serde_json::to_vec(&report).unwrap();
    let frame = |letter: u8, bytes: &[u8]| {
        [&[letter], &u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
    };
    [frame(b'b', b""), frame(b'r', &head), frame(b'a', body), frame(b'.', b"")].concat()
}

#[tokio::test]
async fn a_cancel_reaches_the_process() {
    let (world, id) = with_suspect().await;
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let command = child("echo $$ > $1; exec sleep 1000", &[mark.to_str().unwrap()]);
    let handle = Worker::start(options(&world, command, NEVER)).await.unwrap();
    let pid = || std::fs::read_to_string(&mark).unwrap_or_default();
    wait_until("the process to run", SOON, async || pid().ends_with('\n')).await;
    assert_eq!(world.store.job_cancel(&tenant(), id).await.unwrap(), CancelOutcome::Cancelled);
    world.store.ring(Doorbell::Cancelled).await.unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("it lets go, and nothing is left to do");
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Cancelled)]);
    let proc = PathBuf::from("/proc").join(pid().trim());
    wait_until("the process to be gone", SOON, async || !proc.exists()).await;
}

#[tokio::test]
async fn suspects_without_room_go_back_and_leave_slots_to_others() {
    let world = World::new().await;
    for number in 0..40 {
        world.submit(job().body(&prompt(&format!("{number}"))).build()).await;
    }
    world.crash_twice().await;
    let folder = tempfile::tempdir().unwrap();
    let (go, told) = (folder.path().join("go"), folder.path().join("told"));
    std::fs::write(&told, report_of(b"{}")).unwrap();
    let script = "until [ -e $1 ]; do sleep 1; done; cat $2";
    let command = child(script, &[go.to_str().unwrap(), told.to_str().unwrap()]);
    let mut options = options(&world, command, NEVER);
    options.concurrency = 50;
    let handle = Worker::start(options).await.unwrap();
    let other = world.submit(job_with("none").build()).await;
    world.store.wake_sleepers().await.unwrap();
    world.until_state(other, JobState::Succeeded).await;
    let sent_back = world.count("SELECT count(*) FROM sluice.ledger_ended WHERE outcome = 'not_sent'").await;
    assert!(sent_back >= 8, "{sent_back} went back, and are free to run elsewhere");
    std::fs::write(&go, "").unwrap();
    tokio::time::timeout(SOON, handle.join()).await.expect("all end");
    let succeeded =
        world.count("SELECT count(*) FROM sluice.done WHERE state = 'succeeded' AND tries = 1").await;
    assert_eq!(succeeded, 41);
}

#[tokio::test]
async fn without_a_command_a_suspect_is_worked_like_any_job() {
    let (world, id) = with_suspect().await;
    work(options(&world, None, NEVER)).await;
    assert_eq!(world.job(id).await.state, JobState::Succeeded);
    assert_eq!(world.simulator.stats().calls, 1);
}
