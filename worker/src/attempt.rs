//! One attempt: a lease, at most one call, a settlement.
//!
//! The order is the story. Whatever keeps the call from being begun (no target is free, the worker's own lease is nearly
//! over) gives the lease back. A call that could not be sent goes to the next target at once; from the first byte on,
//! what was seen on the wire decides.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sluice_domain::{Decision, ErrorClass, LeasedJob, Outcome, Settlement};
use sluice_policy::{breaker::Verdict, cooldown};
use sluice_provider::{CallReport, NotSentReason, WireOutcome};
use sluice_store::{CrashPoint, PausedKind, crash_point, paused_model};
use sluice_telemetry::{AttemptEnd, AttemptFields, attempt_span, record_attempt_end};
use tokio::time::{Instant, sleep};
use tracing::Span;

use crate::{
    backoff::Backoff,
    call::{self, Made},
    clock, cooldowns,
    core::Core,
    incarnation::bounded,
    lease::{Lease, StopReason},
    routing::{Lookup, Target},
    settle::Unsettled,
    settlement, targets,
};

/// For so long at most nothing more is leased of a limit of which calls are refused, until it is written what that means.
const REST_WHEN_REFUSED: Duration = Duration::from_millis(200);

/// Works one lease, which has a slot.
pub(crate) async fn run(core: Arc<Core>, lease: Lease) {
    let span = begin_span(&lease.job);
    tracing::debug!(parent: &span, "an attempt begins");
    let stop = Arc::clone(&lease.stop);
    let attempt = stop.polls.count(perform(&core, &lease, &span));
    let settlement = AssertUnwindSafe(attempt).catch_unwind().await;
    let settlement = settlement.unwrap_or_else(|_| {
        tracing::error!(
            parent: &span,
            job.id = %lease.job.job_id, queue = lease.job.queue.as_str(), lease_no = lease.job.lease_no,
            "an attempt panicked; that counts as a crash of its job"
        );
        Some(settlement::of_panic(&lease, &core.routing.load().retry_policies(lease.job.queue.as_str())))
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
async fn perform(core: &Arc<Core>, lease: &Lease, span: &Span) -> Option<Settlement> {
    if lease.stop.reason() == Some(StopReason::JobCancelled) {
        return Some(settlement::let_go(lease));
    }
    let routing = core.routing.load_full();
    let policies = routing.retry_policies(lease.job.queue.as_str());
    let places = match routing.lookup(&lease.job.model) {
        Lookup::Places(places) => places,
        Lookup::NoRoute => return Some(settlement::no_route(lease)),
        Lookup::NotConfigured => return None,
    };
    let (mut unsent_to, mut unsent) = (Vec::new(), None);
    // One round, unless a call could not be sent: then the next target is asked at once, under the same lease.
    loop {
        let Some((target, ticket)) = targets::enter(core, lease, &routing, &places, &unsent_to) else {
            return settlement::of_report(lease, unsent?, &policies);
        };
        if lease.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            return Some(settlement::too_late(lease, &policies));
        }
        if !lease.has_fresh_allowance() {
            return unsent.and_then(|report| settlement::of_report(lease, report, &policies));
        }
        // The last look before the first byte: between the lease and now the process may have been stopped for long, and
        // may even go on as another incarnation.
        if !core.may_start() || !core.incarnation.may_start_for(lease.incarnation_id) {
            return None;
        }
        core.retry_budgets.note_call(&target.upstream.name, lease);
        let under_way = core.adaptive.begin(&lease.allowance.limits);
        // On the heap: the attempt is moved about by its task, and the call is most of it.
        let made = Box::pin(call::make(core, lease, &target, span)).await;
        drop(under_way);
        match made {
            Made::Report(report) => {
                crash_point(CrashPoint::Answered);
                pause_if_told(core, &target, &report);
                let is_absorbed = note_refusal(core, lease, &report);
                cooldowns::close_if_told(core, &target, &report, is_absorbed);
                let (verdict, class) = verdict_of(&report);
                ticket.end(verdict, class, report.answer().is_some());
                if !report.could_go_elsewhere() {
                    let was_sent = report.was_sent();
                    let mut settlement = settlement::of_report(lease, *report, &policies)?;
                    if was_sent && !is_absorbed && !settlement::is_let_go(&settlement) {
                        core.retry_budgets.hold_retry(&mut settlement, &target.upstream.name, lease);
                    }
                    return Some(settlement);
                }
                unsent_to.push(target.upstream.name.clone());
                unsent = Some(*report);
            }
            Made::Crashed(crash) => return Some(settlement::of_crash(lease, *crash, &policies)),
            Made::NoRoom => return Some(settlement::no_room(lease)),
        }
    }
}

/// Tells the limits that are found out by trying. Says whether it was a refusal that they answer by a fall: then no gate need
/// be closed for it, and its job is none of those that crowd out others.
fn note_refusal(core: &Core, lease: &Lease, report: &CallReport) -> bool {
    let is_refused = report.answer().is_some_and(|answer| cooldown::is_refusal(answer.failure));
    let is_absorbed = is_refused && core.adaptive.absorbs_refusal(&lease.allowance.limits);
    let now = Instant::now();
    let refusing = core.adaptive.note_answer(&lease.allowance.limits, lease.leased_at, report, now);
    core.rooms.rest(&refusing, now + REST_WHEN_REFUSED);
    is_absorbed
}

/// What a call says about its upstream, and the class of its error.
fn verdict_of(report: &CallReport) -> (Verdict, &'static str) {
    let verdict = match report.outcome {
        // That is our own doing.
        WireOutcome::NotSent { reason: NotSentReason::NotBegun, .. } => Verdict::Nothing,
        _ => Verdict::of(report.ending()),
    };
    (verdict, report.error().map_or("", |(class, _)| class.as_str()))
}

/// A wrong key or an empty account stops all calls there, not only this one, until a person has looked; calls that are
/// forbidden in a row stop those of their model.
fn pause_if_told(core: &Arc<Core>, target: &Target, report: &CallReport) {
    // A token that ran out too early is renewed by the next call.
    if report.is_token_outdated {
        return;
    }
    let class = report.error().map(|(class, _)| class);
    let paused = match class {
        Some(ErrorClass::Unauthorized) => (PausedKind::Upstream, target.upstream.name.clone()),
        Some(ErrorClass::QuotaExhausted) => (PausedKind::Account, target.upstream.account.clone()),
        Some(ErrorClass::Forbidden) | None => {
            let (upstream, model) = (&target.upstream.name, target.model.as_str());
            if !core.pauses.note_forbidden(upstream, model, class.is_some()) {
                return;
            }
            (PausedKind::Model, paused_model(upstream, model))
        }
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
    let error_class = settlement.error.as_ref().map(|(class, _)| class.as_str());
    let is_let_go = settlement::is_let_go(settlement);
    let outcome = if is_let_go { Outcome::Cancelled } else { settlement.outcome };
    if outcome == Outcome::Unknown {
        core.metrics.attempt_unknown();
    }
    let outcome = outcome.as_str();
    core.metrics.attempt_ended(&AttemptEnd { queue: job.queue.as_str(), outcome, error_class });
    let retry_delay = match settlement.decision {
        Decision::Requeue { delay, .. } if !is_let_go => Some(delay),
        _ => None,
    };
    record_attempt_end(span, outcome, error_class, retry_delay);
    tracing::debug!(parent: span, outcome, error_class, "an attempt ended");
}
