//! What is written of an attempt: from the report of its call, or the want of one, to a [`Settlement`].

use std::time::Duration;

use rand::RngExt;
use sluice_domain::{Decision, ErrorClass, NanoUsd, Outcome, Settlement};
use sluice_policy::{
    backoff::RetryPolicies,
    retry::{Ending, JobStanding, Ruling, decide, is_retryable},
};
use sluice_provider::{CallReport, WireOutcome};

use crate::{
    lease::{Lease, StopReason},
    suspect::Crash,
};

/// How long a suspect rests for which there is no process, and how much more by chance.
const NO_ROOM_DELAY: Duration = Duration::from_secs(2);
const NO_ROOM_JITTER: Duration = Duration::from_secs(4);

/// A settlement without a call.
fn bare(lease: &Lease, outcome: Outcome, decision: Decision, error: (ErrorClass, String)) -> Settlement {
    Settlement {
        job_id: lease.job.job_id,
        lease_id: lease.job.lease_id,
        incarnation_id: lease.incarnation_id,
        generation: lease.job.generation,
        lease_no: lease.job.lease_no,
        outcome,
        decision,
        error: Some(error),
        answer: None,
        usage: None,
        cost: NanoUsd::default(),
        call: None,
        call_duration: None,
        time_to_first_byte: None,
    }
}

/// The job was cancelled, and its call was never made. The database has ended the job already, so the decision counts only
/// where a fail-over took the cancel back.
pub(crate) fn let_go(lease: &Lease) -> Settlement {
    let decision = Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: false };
    bare(lease, Outcome::Cancelled, decision, cancelled_error())
}

/// The job was cancelled, and what became of its call is not known. As for [`let_go`], the job has ended, unless a fail-over
/// took the cancel back: then this is the word that keeps a call from being repeated in silence.
fn let_go_of_call(lease: &Lease, ending: Ending, policies: &RetryPolicies) -> Settlement {
    let ending = match ending {
        Ending::NotSent(_) => return let_go(lease),
        Ending::Unknown(_) => Ending::Unknown(ErrorClass::ConnectionLost),
        ending => ending,
    };
    let ruling = rule(lease, ending, None, policies);
    bare(lease, ruling.outcome, ruling.decision, cancelled_error())
}

/// Whether it is the word about a job that was cancelled: nothing follows from its decision, unless the cancel is taken back.
pub(crate) fn is_let_go(settlement: &Settlement) -> bool {
    settlement.error.as_ref().is_some_and(|(class, _)| *class == ErrorClass::Cancelled)
}

fn cancelled_error() -> (ErrorClass, String) {
    (ErrorClass::Cancelled, "the job was cancelled while it ran".to_owned())
}

/// No route has the model: a fault of the request or of the configuration, which no retry mends.
pub(crate) fn no_route(lease: &Lease) -> Settlement {
    let decision = Decision::Fail { is_retryable: is_retryable(ErrorClass::NoRoute) };
    let text = format!("no route leads from the model {:?} to an upstream", lease.job.model.as_str());
    bare(lease, Outcome::NotSent, decision, (ErrorClass::NoRoute, text))
}

/// The job is larger than a whole limit: it could never be called.
pub(crate) fn too_large(lease: &Lease, needed: u64, limit: &str) -> Settlement {
    let decision = Decision::Fail { is_retryable: is_retryable(ErrorClass::InvalidRequest) };
    let text = format!(
        "it needs at least {needed} tokens, which is more than a whole limit allows ({limit}); ask for fewer tokens, or \
         raise the limit and replay the job"
    );
    bare(lease, Outcome::NotSent, decision, (ErrorClass::InvalidRequest, text))
}

/// The attempt panicked; what it had sent is not known.
pub(crate) fn of_panic(lease: &Lease, policies: &RetryPolicies) -> Settlement {
    let ruling = rule(lease, Ending::Crashed(ErrorClass::Internal), None, policies);
    let error = (ErrorClass::Internal, "the attempt ended by a fault of the worker".to_owned());
    bare(lease, ruling.outcome, ruling.decision, error)
}

/// The child process of a suspect ended before it had told of its call, which may have been sent.
pub(crate) fn of_crash(lease: &Lease, crash: Crash, policies: &RetryPolicies) -> Settlement {
    if lease.stop.reason() == Some(StopReason::JobCancelled) {
        let settlement = let_go_of_call(lease, Ending::Crashed(ErrorClass::Poison), policies);
        return Settlement { call: Some(crash.call), ..settlement };
    }
    let ruling = rule(lease, Ending::Crashed(ErrorClass::Poison), None, policies);
    let text = format!("the process that it had to itself crashed: {}", crash.how);
    let settlement = bare(lease, ruling.outcome, ruling.decision, (ErrorClass::Poison, text));
    Settlement { call: Some(crash.call), ..settlement }
}

/// A suspect, and there is no process for it: nothing was sent, and it is nobody's fault.
pub(crate) fn no_room(lease: &Lease) -> Settlement {
    let delay = NO_ROOM_DELAY + NO_ROOM_JITTER.mul_f64(rand::rng().random_range(0.0..1.0));
    let decision = Decision::Requeue { delay, spends_try: false, is_refusal: false };
    let text = "it needs a process to itself, and the worker has none for it now".to_owned();
    bare(lease, Outcome::NotSent, decision, (ErrorClass::NotSent, text))
}

/// Its deadline passed before the call began.
pub(crate) fn too_late(lease: &Lease, policies: &RetryPolicies) -> Settlement {
    let ruling = rule(lease, Ending::NotSent(ErrorClass::DeadlineExceeded), None, policies);
    bare(lease, ruling.outcome, ruling.decision, deadline_error())
}

/// What came of a call; `None` where nothing was sent because the worker ends, and the lease is to be given back.
pub(crate) fn of_report(lease: &Lease, report: CallReport, policies: &RetryPolicies) -> Option<Settlement> {
    let (ending, error) = match (report.ending(), lease.stop.reason()) {
        (Ending::Succeeded, _) => (Ending::Succeeded, None),
        (ending, Some(StopReason::JobCancelled)) => {
            return Some(with_call(let_go_of_call(lease, ending, policies), report));
        }
        (Ending::Answered(class), _) => (Ending::Answered(class), report.error()),
        (Ending::NotSent(ErrorClass::Cancelled), Some(StopReason::WorkerEnds)) => return None,
        (Ending::NotSent(ErrorClass::Cancelled), _) => {
            (Ending::NotSent(ErrorClass::DeadlineExceeded), Some(deadline_error()))
        }
        (Ending::Unknown(ErrorClass::Cancelled), Some(StopReason::WorkerEnds)) => {
            let text = "the worker ended before the answer was complete".to_owned();
            (Ending::Unknown(ErrorClass::ConnectionLost), Some((ErrorClass::ConnectionLost, text)))
        }
        (Ending::Unknown(ErrorClass::Cancelled), _) => {
            (Ending::Unknown(ErrorClass::CallTimeout), Some(deadline_error()))
        }
        (ending, _) => (ending, report.error()),
    };
    let ruling = rule(lease, ending, report.retry_after(), policies);
    if ruling.is_retry_after_capped {
        tracing::error!(
            job.id = %lease.job.job_id, upstream = %report.upstream.upstream,
            "the upstream asked to be left alone for over an hour; an hour is what it gets"
        );
    }
    let is_out_of_time = ruling.class == Some(ErrorClass::DeadlineExceeded);
    let error = error.map(|(class, text)| match class {
        ErrorClass::DeadlineExceeded => (class, text),
        _ if is_out_of_time => (
            ErrorClass::DeadlineExceeded,
            format!("{text}; no time is left for another try before the deadline"),
        ),
        _ => (class, text),
    });
    let (outcome, decision) = (ruling.outcome, ruling.decision);
    let blank = (ErrorClass::Internal, String::new());
    Some(with_call(Settlement { error, ..bare(lease, outcome, decision, blank) }, report))
}

fn with_call(settlement: Settlement, report: CallReport) -> Settlement {
    // What is tried again keeps no answer: only an end has one.
    let is_kept = matches!(settlement.decision, Decision::Succeed | Decision::Fail { .. });
    let was_tried = !matches!(report.outcome, WireOutcome::NotSent { .. }) || report.duration.is_some();
    let cost = report.cost().unwrap_or_default();
    let answer = match report.outcome {
        WireOutcome::Answered(answer) => Some(*answer),
        WireOutcome::NotSent { .. } | WireOutcome::Unknown(_) => None,
    };
    Settlement {
        usage: answer.as_ref().and_then(|answer| answer.usage),
        answer: answer.filter(|_| is_kept).map(sluice_provider::Answer::into_stored),
        cost,
        call: was_tried.then_some(report.upstream),
        call_duration: report.duration,
        time_to_first_byte: report.time_to_first_byte,
        ..settlement
    }
}

fn rule(lease: &Lease, ending: Ending, retry_after: Option<Duration>, policies: &RetryPolicies) -> Ruling {
    let standing = JobStanding::of(&lease.job, lease.age());
    decide(ending, retry_after, &standing, policies, &mut rand::rng())
}

fn deadline_error() -> (ErrorClass, String) {
    (ErrorClass::DeadlineExceeded, "the deadline passed before there was an answer".to_owned())
}
