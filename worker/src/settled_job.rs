//! What the worker tells of an attempt that was settled. Not here: how it is written (`settle`).

use std::time::Duration;

use sluice_domain::{
    Decision, ErrorClass, JobId, JobState, LeaseId, NanoUsd, Outcome, SettleVerdict, Settlement, Usage,
};

/// One attempt that was settled.
#[derive(Clone, PartialEq, Debug)]
pub struct SettledJob {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub lease_id: LeaseId,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// What the job became by it; `None` where the lease was no longer the job's and it changed nothing.
    pub state: Option<JobState>,
    /// Class and text of the error, for anything but a success.
    pub error: Option<(ErrorClass, String)>,
    /// Tokens, as the provider says.
    pub usage: Option<Usage>,
    /// What it cost.
    pub cost: NanoUsd,
    /// From the first byte sent to the end of the answer.
    pub call_duration: Option<Duration>,
    /// How long the job rests before it is tried again, where it is.
    pub retry_in: Option<Duration>,
}

impl SettledJob {
    /// What a settlement came to by the database's verdict.
    pub(crate) fn of(settlement: Settlement, verdict: SettleVerdict) -> Self {
        let is_current = matches!(verdict, SettleVerdict::Settled | SettleVerdict::AlreadySettled);
        let state = match (verdict, &settlement.decision) {
            (SettleVerdict::LateAccepted, _) => Some(JobState::Succeeded),
            (SettleVerdict::LetGo, _) => Some(JobState::Cancelled),
            (SettleVerdict::LateKept | SettleVerdict::Stale, _) => None,
            _ if settlement.outcome == Outcome::Cancelled => Some(JobState::Cancelled),
            (_, Decision::Succeed) => Some(JobState::Succeeded),
            (_, Decision::Fail { .. }) => Some(JobState::Failed),
            (_, Decision::Requeue { .. }) => Some(JobState::Queued),
            (_, Decision::Hold(_)) => Some(JobState::Held),
        };
        let retry_in = match settlement.decision {
            Decision::Requeue { delay, .. } if is_current && settlement.outcome != Outcome::Cancelled => {
                Some(delay)
            }
            _ => None,
        };
        Self {
            job_id: settlement.job_id,
            lease_id: settlement.lease_id,
            outcome: settlement.outcome,
            state,
            error: settlement.error,
            usage: settlement.usage,
            cost: settlement.cost,
            call_duration: settlement.call_duration,
            retry_in,
        }
    }
}
