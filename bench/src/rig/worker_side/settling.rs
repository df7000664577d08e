//! The half that settles, group after group.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sluice_domain::{
    CallId, Decision, IncarnationId, LeasedJob, NanoUsd, Outcome, SettleVerdict, Settlement, StoredAnswer,
    UpstreamUse, Usage,
};
use sluice_store::Store;
use tokio::sync::mpsc;

use super::Shared;
use crate::rig::payload;

/// Settles group after group, each job with this answer, until no more come.
pub(super) async fn settle(
    store: Store,
    incarnation: IncarnationId,
    answer: Arc<[u8]>,
    shared: Arc<Shared>,
    mut receiver: mpsc::Receiver<Vec<LeasedJob>>,
) -> Result<()> {
    while let Some(group) = receiver.recv().await {
        let settlements: Vec<Settlement> =
            group.iter().map(|job| success(incarnation, job, &answer)).collect();
        let begun = Instant::now();
        let verdicts = store.settle_many(&settlements).await?;
        shared.note_settle(begun.elapsed());
        let is_right = verdicts.iter().all(|verdict| *verdict == SettleVerdict::Settled);
        ensure!(is_right && verdicts.len() == group.len(), "a settle was refused: {verdicts:?}");
        shared.settled.fetch_add(group.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn success(incarnation: IncarnationId, job: &LeasedJob, answer: &[u8]) -> Settlement {
    Settlement {
        job_id: job.job_id,
        lease_id: job.lease_id,
        incarnation_id: incarnation,
        generation: job.generation,
        lease_no: job.lease_no,
        outcome: Outcome::Succeeded,
        decision: Decision::Succeed,
        error: None,
        answer: Some(StoredAnswer {
            status_code: 200,
            body: answer.to_vec(),
            is_truncated: false,
            is_assembled: false,
        }),
        usage: Some(Usage {
            input_tokens: 60,
            cached_input_tokens: 0,
            output_tokens: 120,
            reasoning_tokens: 0,
        }),
        cost: NanoUsd(12_345),
        call: Some(UpstreamUse {
            // As `worker/src/call.rs` names its calls.
            call_id: CallId::from_uuid(job.lease_id.as_uuid()),
            upstream: "bench".to_owned(),
            model: payload::MODEL.to_owned(),
            answered_model: None,
            request_id: None,
        }),
        call_duration: Some(Duration::from_millis(50)),
        time_to_first_byte: Some(Duration::from_millis(49)),
    }
}
