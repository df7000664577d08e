//! One attempt: a lease, at most one call, a settlement.
//!
//! The order is the story. Whatever keeps the call from being begun (the route is paused, the worker's own lease is
//! nearly over) gives the lease back; from the first byte on, what was seen on the wire decides.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use sluice_domain::{Decision, ErrorClass, LeasedJob, Outcome, Settlement};
use sluice_provider::CallReport;
use sluice_store::{CrashPoint, PausedKind, crash_point};
use sluice_telemetry::{AttemptEnd, AttemptFields, attempt_span, record_attempt_end};
use tokio::time::{Instant, sleep};
use tracing::Span;

use crate::{
    backoff::Backoff,
    call::{self, Made},
    clock,
    core::Core,
    incarnation::bounded,
    lease::{Lease, StopReason},
    routing::{Lookup, Target},
    settle::Unsettled,
    settlement,
};

/// Works one lease, which has a slot.
pub(crate) async fn run(core: Arc<Core>, mut lease: Lease) {
    let span = begin_span(&lease.job);
    tracing::debug!(parent: &span, "an attempt begins");
    let stop = Arc::clone(&lease.stop);
    let attempt = stop.polls.count(perform(&core, &mut lease, &span));
    let settlement = AssertUnwindSafe(attempt).catch_unwind().await;
    let settlement = settlement.unwrap_or_else(|_| {
        tracing::error!(
            parent: &span,
            job.id = %lease.job.job_id, queue = lease.job.queue.as_str(), lease_no = lease.job.lease_no,
            "an attempt panicked; that counts as a crash of its job"
        );
        Some(settlement::of_panic(&lease, &core.routing.load().retry_policy(lease.job.queue.as_str())))
    });
    match settlement {
        Some(settlement) => {
            observe(&core, &lease.job, &span, &settlement);
            core.settler.send(Unsettled { settlement, span });
        }
        None => core.give_back([lease]),
    }
    // After its last word, so that whoever sees no call under way knows that all words were said.
    core.slots.release();
    core.start_waiting();
}

/// The path of one attempt. `None`: nothing was sent, and the lease is to be given back.
async fn perform(core: &Arc<Core>, lease: &mut Lease, span: &Span) -> Option<Settlement> {
    if lease.stop.reason() == Some(StopReason::JobCancelled) {
        return Some(settlement::let_go(lease));
    }
    let routing = core.routing.load_full();
    let policy = routing.retry_policy(lease.job.queue.as_str());
    let target = match routing.lookup(&lease.job.model) {
        Lookup::Target(target) => target,
        Lookup::NoRoute => return Some(settlement::no_route(lease)),
        Lookup::Unusable { .. } | Lookup::NotConfigured => return None,
    };
    if core.pauses.of(&target.upstream.name, &target.upstream.account).is_some() {
        return None;
    }
    if lease.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
        return Some(settlement::too_late(lease, &policy));
    }
    // The last look before the first byte: between the lease and now the process may have been stopped for long, and
    // may even go on as another incarnation.
    if !core.may_start() || !core.incarnation.may_start_for(lease.incarnation_id) {
        return None;
    }
    match call::make(core, lease, &target, span).await {
        Made::Report(report) => {
            crash_point(CrashPoint::Answered);
            pause_if_told(core, &target, &report);
            settlement::of_report(lease, *report, &policy)
        }
        Made::Crashed(crash) => Some(settlement::of_crash(lease, *crash, &policy)),
        Made::NoRoom => Some(settlement::no_room(lease)),
    }
}

/// A wrong key or an empty account stops all calls there, not only this one, until a person has looked.
fn pause_if_told(core: &Arc<Core>, target: &Target, report: &CallReport) {
    let class = report.answer().and_then(|answer| answer.failure);
    let paused = match class {
        Some(ErrorClass::Unauthorized) => (PausedKind::Upstream, target.upstream.name.clone()),
        Some(ErrorClass::QuotaExhausted) => (PausedKind::Account, target.upstream.account.clone()),
        _ => return,
    };
    if !core.pauses.begin(&paused) {
        return;
    }
    let reason = class.map_or("", ErrorClass::as_str);
    let (kind, name) = (paused.0.as_str(), paused.1.as_str());
    tracing::error!(
        kind,
        name,
        reason,
        "calls are paused until `sluice resume` says otherwise: a person should look"
    );
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let mut backoff = Backoff::up_to(core.timing.poll_interval);
        while let Err(error) = bounded(core.store.pause(paused.0, &paused.1, reason)).await {
            tracing::debug!(%error, "a pause could not be written yet");
            tokio::select! {
                () = core.signals.ended.cancelled() => return,
                () = sleep(backoff.rest()) => {}
            }
        }
        core.pauses.written(&paused, clock::since_boot());
    });
}

fn begin_span(job: &LeasedJob) -> Span {
    attempt_span(&AttemptFields {
        job_id: &job.job_id,
        tenant: job.tenant.as_str(),
        queue: job.queue.as_str(),
        model: job.model.as_str(),
        generation: job.generation,
        lease_no: job.lease_no,
        tries: job.tries,
        waited: job.waited,
        traceparent: job.traceparent.as_deref(),
    })
}

fn observe(core: &Core, job: &LeasedJob, span: &Span, settlement: &Settlement) {
    let outcome = settlement.outcome.as_str();
    let error_class = settlement.error.as_ref().map(|(class, _)| class.as_str());
    if settlement.outcome == Outcome::Unknown {
        core.metrics.attempt_unknown();
    }
    core.metrics.attempt_ended(&AttemptEnd { queue: job.queue.as_str(), outcome, error_class });
    let retry_delay = match settlement.decision {
        Decision::Requeue { delay, .. } => Some(delay),
        _ => None,
    };
    record_attempt_end(span, outcome, error_class, retry_delay);
    tracing::debug!(parent: span, outcome, error_class, "an attempt ended");
}
