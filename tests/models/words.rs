//! What a worker can say of an attempt, as the model and the product's settlement have it.

use std::time::Duration;

use sluice_domain::{
    CallId, Decision, ErrorClass, HoldReason, IncarnationId, LeasedJob, NanoUsd, Outcome, Settlement,
    StoredAnswer, UpstreamUse,
};

/// What a worker says of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Answered; the answer is the job's result.
    Success,
    /// The job's own error.
    Failure,
    /// An error that may pass.
    TryAgain,
    /// The same, to be tried again in an hour.
    TryLater,
    /// 429: no try is spent.
    Refused,
    /// Nothing was sent.
    NotSent,
    /// Sent, and the job wants to be held then.
    UnknownHeld,
    /// A success status without an answer in it: paid for, and no success.
    Babble,
    /// The attempt panicked.
    Panicked,
}

impl Word {
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Failure,
        Self::TryAgain,
        Self::TryLater,
        Self::Refused,
        Self::NotSent,
        Self::UnknownHeld,
        Self::Babble,
        Self::Panicked,
    ];

    pub fn outcome(self) -> Outcome {
        match self {
            Self::Success => Outcome::Succeeded,
            Self::Failure => Outcome::Failed,
            Self::TryAgain | Self::TryLater | Self::Refused => Outcome::Retry,
            Self::NotSent => Outcome::NotSent,
            Self::UnknownHeld | Self::Babble => Outcome::Unknown,
            Self::Panicked => Outcome::Lost,
        }
    }

    pub fn error(self) -> Option<ErrorClass> {
        Some(match self {
            Self::Success => return None,
            Self::Failure => ErrorClass::InvalidRequest,
            Self::TryAgain | Self::TryLater => ErrorClass::ServerError,
            Self::Refused => ErrorClass::RateLimited,
            Self::NotSent => ErrorClass::NotSent,
            Self::UnknownHeld => ErrorClass::ConnectionLost,
            Self::Babble => ErrorClass::MalformedAnswer,
            Self::Panicked => ErrorClass::LeaseLost,
        })
    }

    fn decision(self) -> Decision {
        let requeue = |delay_s, spends_try, is_refusal| Decision::Requeue {
            delay: Duration::from_secs(delay_s),
            spends_try,
            is_refusal,
        };
        match self {
            Self::Success => Decision::Succeed,
            Self::Failure => Decision::Fail { is_retryable: false },
            Self::TryAgain | Self::Babble => requeue(0, true, false),
            Self::TryLater => requeue(3_600, true, false),
            Self::Refused | Self::NotSent => requeue(0, false, true),
            Self::UnknownHeld => Decision::Hold(HoldReason::UnknownOutcome),
            Self::Panicked => requeue(0, false, false),
        }
    }

    /// The bytes that the upstream answered to lease number `lease` of the sequence, where they are worth keeping.
    pub fn answer(self, lease: usize) -> Option<String> {
        match self {
            Self::Success => Some(format!("{{\"answer\":{lease}}}")),
            Self::Babble => Some(format!("babble {lease}")),
            _ => None,
        }
    }

    /// The product's form of it.
    pub fn settlement(self, incarnation: IncarnationId, leased: &LeasedJob, lease: usize) -> Settlement {
        Settlement {
            job_id: leased.job_id,
            lease_id: leased.lease_id,
            incarnation_id: incarnation,
            generation: leased.generation,
            lease_no: leased.lease_no,
            outcome: self.outcome(),
            decision: self.decision(),
            error: self.error().map(|class| (class, "said the upstream".to_owned())),
            answer: self.answer(lease).map(|answer| StoredAnswer {
                status_code: 200,
                body: answer.into_bytes(),
                is_truncated: false,
                is_assembled: false,
            }),
            usage: None,
            cost: NanoUsd(7),
            call: Some(UpstreamUse {
                call_id: CallId::generate(),
                upstream: "up".to_owned(),
                model: leased.model.to_string(),
                answered_model: None,
                request_id: None,
            }),
            call_duration: None,
            time_to_first_byte: None,
        }
    }
}
