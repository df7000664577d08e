//! A settlement as bytes: its fields in JSON, whose names are a contract between releases, and the answer's bytes behind
//! them as they came.
//!
//! A release that adds a field gives it a default; one that changes a meaning raises the version of the frame.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_domain::{
    CallId, Decision, ErrorClass, HoldReason, IncarnationId, JobId, LeaseId, NanoUsd, Outcome, Settlement,
    StoredAnswer, UpstreamUse, Usage,
};

/// The payload of a record. `None`: it is too large for one.
pub(super) fn encode(settlement: &Settlement) -> Option<Vec<u8>> {
    let fields = serde_json::to_vec(&Fields::of(settlement)).ok()?;
    let body = settlement.answer.as_ref().map_or(&[][..], |answer| answer.body.as_slice());
    let mut bytes = Vec::with_capacity(4 + fields.len() + body.len());
    bytes.extend_from_slice(&u32::try_from(fields.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&fields);
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// The settlement of a record; `None` where this program doesn't understand it.
pub(super) fn decode(bytes: &[u8]) -> Option<Settlement> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (fields, body) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    serde_json::from_slice::<Fields>(fields).ok()?.into_settlement(body)
}

#[derive(Serialize, Deserialize)]
struct Fields {
    job_id: JobId,
    lease_id: LeaseId,
    incarnation_id: IncarnationId,
    generation: u32,
    lease_no: u32,
    outcome: String,
    decision: Decided,
    error: Option<(ErrorClass, String)>,
    answer: Option<AnswerFields>,
    usage: Option<UsageFields>,
    cost_nano_usd: i64,
    call: Option<CallFields>,
    call_duration_ns: Option<u64>,
    time_to_first_byte_ns: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Decided {
    Succeed,
    Fail { is_retryable: bool },
    Requeue { delay_ns: u64, spends_try: bool, is_refusal: bool },
    Hold { reason: String },
}

#[derive(Serialize, Deserialize)]
struct AnswerFields {
    status_code: u16,
    is_truncated: bool,
    is_assembled: bool,
}

#[derive(Serialize, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the names of the domain's type, of which this is the written form"
)]
struct UsageFields {
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Serialize, Deserialize)]
struct CallFields {
    call_id: CallId,
    upstream: String,
    model: String,
    answered_model: Option<String>,
    request_id: Option<String>,
}

impl Fields {
    fn of(settlement: &Settlement) -> Self {
        let s = settlement;
        Self {
            job_id: s.job_id,
            lease_id: s.lease_id,
            incarnation_id: s.incarnation_id,
            generation: s.generation,
            lease_no: s.lease_no,
            outcome: s.outcome.as_str().to_owned(),
            decision: Decided::of(&s.decision),
            error: s.error.clone(),
            answer: s.answer.as_ref().map(|answer| AnswerFields {
                status_code: answer.status_code,
                is_truncated: answer.is_truncated,
                is_assembled: answer.is_assembled,
            }),
            usage: s.usage.map(|usage| UsageFields {
                input_tokens: usage.input_tokens,
                cached_input_tokens: usage.cached_input_tokens,
                output_tokens: usage.output_tokens,
                reasoning_tokens: usage.reasoning_tokens,
            }),
            cost_nano_usd: s.cost.0,
            call: s.call.as_ref().map(CallFields::of),
            call_duration_ns: s.call_duration.map(nanos),
            time_to_first_byte_ns: s.time_to_first_byte.map(nanos),
        }
    }

    fn into_settlement(self, body: &[u8]) -> Option<Settlement> {
        Some(Settlement {
            job_id: self.job_id,
            lease_id: self.lease_id,
            incarnation_id: self.incarnation_id,
            generation: self.generation,
            lease_no: self.lease_no,
            outcome: self.outcome.parse::<Outcome>().ok()?,
            decision: self.decision.into_decision()?,
            error: self.error,
            answer: self.answer.map(|answer| StoredAnswer {
                status_code: answer.status_code,
                body: body.to_vec(),
                is_truncated: answer.is_truncated,
                is_assembled: answer.is_assembled,
            }),
            usage: self.usage.map(|usage| Usage {
                input_tokens: usage.input_tokens,
                cached_input_tokens: usage.cached_input_tokens,
                output_tokens: usage.output_tokens,
                reasoning_tokens: usage.reasoning_tokens,
            }),
            cost: NanoUsd(self.cost_nano_usd),
            call: self.call.map(CallFields::into_call),
            call_duration: self.call_duration_ns.map(Duration::from_nanos),
            time_to_first_byte: self.time_to_first_byte_ns.map(Duration::from_nanos),
        })
    }
}

impl Decided {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Succeed => Self::Succeed,
            Decision::Fail { is_retryable } => Self::Fail { is_retryable: *is_retryable },
            Decision::Requeue { delay, spends_try, is_refusal } => {
                Self::Requeue { delay_ns: nanos(*delay), spends_try: *spends_try, is_refusal: *is_refusal }
            }
            Decision::Hold(reason) => Self::Hold { reason: reason.as_str().to_owned() },
        }
    }

    fn into_decision(self) -> Option<Decision> {
        Some(match self {
            Self::Succeed => Decision::Succeed,
            Self::Fail { is_retryable } => Decision::Fail { is_retryable },
            Self::Requeue { delay_ns, spends_try, is_refusal } => {
                Decision::Requeue { delay: Duration::from_nanos(delay_ns), spends_try, is_refusal }
            }
            Self::Hold { reason } => Decision::Hold(reason.parse::<HoldReason>().ok()?),
        })
    }
}

impl CallFields {
    fn of(call: &UpstreamUse) -> Self {
        Self {
            call_id: call.call_id,
            upstream: call.upstream.clone(),
            model: call.model.clone(),
            answered_model: call.answered_model.clone(),
            request_id: call.request_id.clone(),
        }
    }

    fn into_call(self) -> UpstreamUse {
        UpstreamUse {
            call_id: self.call_id,
            upstream: self.upstream,
            model: self.model,
            answered_model: self.answered_model,
            request_id: self.request_id,
        }
    }
}

/// What is longer than five centuries is as good as that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
