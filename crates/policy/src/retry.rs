//! What becomes of a job when an attempt has ended: the one place that decides about retries.
//!
//! Classes of failure have one of three natures. A *refusal* (401, 402, 429, 503, 529, nothing sent) says nothing
//! about the job and spends no try, but there is an end to it. A *trial* (a 500, a cut answer) may go well next time
//! and spends a try. What is *final* is the job's own error, which would come again. A *crash* is none of them: nobody
//! saw the end of the attempt, and crashes are counted by themselves.
//!
//! Not here: how long a wait is (`backoff`), and what is paused for all jobs together.

use std::time::Duration;

use rand::Rng;
use sluice_domain::{Decision, ErrorClass, HoldReason, LeasedJob, OnUnknown, Outcome};

use crate::backoff::{MAX_RETRY_AFTER, RetryPolicies};

/// Refusals in one generation after which a job fails with the class of the last.
pub const MAX_REFUSALS: u16 = 20;
/// Crashes in one generation after which a job is a suspect, and gets a process of its own.
pub const SUSPECT_CRASHES: u16 = 2;
/// Crashes in one generation with which a job is poison, where the last was its own doing for certain: its attempt
/// panicked, or the child process that it had to itself died. What it means when a worker dies is decided by
/// `sluice.expire_leases` in the database.
pub const MAX_CRASHES: u16 = SUSPECT_CRASHES + 1;

/// How an attempt ended, as seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Answered, and the answer is the job's result.
    Succeeded,
    /// Answered with a failure of this class.
    Answered(ErrorClass),
    /// Sent, and the answer is not known, for this reason.
    Unknown(ErrorClass),
    /// Nothing was sent, for this reason.
    NotSent(ErrorClass),
    /// Whatever worked on it crashed; it may have been sent.
    Crashed(ErrorClass),
}

/// What the decision needs to know of the job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobStanding {
    /// Tries spent before this attempt, in this generation.
    pub tries: u16,
    /// Refusals before this attempt, in this generation.
    pub refusals: u16,
    /// Crashes before this attempt, in this generation.
    pub crashes: u16,
    /// The job's own limit of tries; `None` leaves it to the policy.
    pub max_attempts: Option<u16>,
    /// What to do when an answer is not known.
    pub on_unknown: OnUnknown,
    /// Time left until its deadline, now.
    pub deadline_in: Option<Duration>,
}

impl JobStanding {
    /// Where `job` stands `since_lease` after it was leased.
    pub fn of(job: &LeasedJob, since_lease: Duration) -> Self {
        Self {
            tries: job.tries,
            refusals: job.refusals,
            crashes: job.crashes,
            max_attempts: job.max_attempts,
            on_unknown: job.on_unknown,
            deadline_in: job.deadline_in.map(|left| left.saturating_sub(since_lease)),
        }
    }
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// How the attempt is written on the ledger.
    pub outcome: Outcome,
    /// What the job becomes.
    pub decision: Decision,
    /// The class of the error, for anything but a success; `deadline_exceeded` where there was no time for a retry.
    pub class: Option<ErrorClass>,
    /// Whether the upstream asked for more than [`MAX_RETRY_AFTER`] and did not get it, which deserves an alert.
    pub is_retry_after_capped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nature {
    Refusal,
    Trial,
    Final,
}

const fn nature(class: ErrorClass) -> Nature {
    match class {
        ErrorClass::RateLimited
        | ErrorClass::QuotaExhausted
        | ErrorClass::Unauthorized
        | ErrorClass::Overloaded
        | ErrorClass::NotSent
        | ErrorClass::NoRoute => Nature::Refusal,
        ErrorClass::UpstreamTimeout
        | ErrorClass::Conflict
        | ErrorClass::ServerError
        | ErrorClass::IncompleteAnswer
        | ErrorClass::InvalidOutput
        | ErrorClass::MalformedAnswer
        | ErrorClass::ConnectionLost
        | ErrorClass::Stalled
        | ErrorClass::CallTimeout
        | ErrorClass::LeaseLost
        | ErrorClass::Internal => Nature::Trial,
        ErrorClass::Forbidden
        | ErrorClass::InvalidRequest
        | ErrorClass::NotFound
        | ErrorClass::OversizedAnswer
        | ErrorClass::DeadlineExceeded
        | ErrorClass::Cancelled
        | ErrorClass::Poison => Nature::Final,
    }
}

/// Whether a job that failed with `class` might succeed when the same request is replayed.
pub const fn is_retryable(class: ErrorClass) -> bool {
    match class {
        // Not for the request's sake: with another deadline, without the cancel, it might have gone well.
        ErrorClass::DeadlineExceeded | ErrorClass::Cancelled => true,
        other => !matches!(nature(other), Nature::Final),
    }
}

/// Decides what becomes of a job. `retry_after` is what the upstream asked for, as it asked.
pub fn decide(
    ending: Ending,
    retry_after: Option<Duration>,
    job: &JobStanding,
    policies: &RetryPolicies,
    rng: &mut impl Rng,
) -> Ruling {
    let ending = match ending {
        // A success status with a body that is none: it was most likely paid for, so a repeat of it may be the second
        // payment, and must be marked and held like any other call whose answer is not known.
        Ending::Answered(class @ ErrorClass::MalformedAnswer) => Ending::Unknown(class),
        other => other,
    };
    let (class, asked) = match ending {
        Ending::Succeeded => return ruling(Outcome::Succeeded, Decision::Succeed, None),
        Ending::Unknown(class) if job.on_unknown == OnUnknown::Hold => {
            return ruling(Outcome::Unknown, Decision::Hold(HoldReason::UnknownOutcome), Some(class));
        }
        Ending::Crashed(class) => {
            let (class, decision) = crashed(class, job);
            return ruling(Outcome::Lost, decision, Some(class));
        }
        // The call may have been paid for: that spends a try whatever the reason was.
        Ending::Unknown(class) => (class, Nature::Trial),
        Ending::Answered(class) | Ending::NotSent(class) => (class, nature(class)),
    };
    let (class, decision) = match asked {
        Nature::Refusal => refused(class, retry_after, job, policies, rng),
        Nature::Trial => tried(class, retry_after, job, policies, rng),
        Nature::Final => (class, failed(class)),
    };
    let outcome = match (ending, &decision) {
        (Ending::Unknown(_), _) => Outcome::Unknown,
        (Ending::NotSent(_), _) => Outcome::NotSent,
        (_, Decision::Requeue { .. }) => Outcome::Retry,
        _ => Outcome::Failed,
    };
    let is_retry_after_capped = retry_after.is_some_and(|wait| wait > MAX_RETRY_AFTER);
    Ruling { is_retry_after_capped, ..ruling(outcome, decision, Some(class)) }
}

fn ruling(outcome: Outcome, decision: Decision, class: Option<ErrorClass>) -> Ruling {
    Ruling { outcome, decision, class, is_retry_after_capped: false }
}

/// The same rule as that of `sluice.expire_leases`, for a crash that a worker survived.
fn crashed(class: ErrorClass, job: &JobStanding) -> (ErrorClass, Decision) {
    if job.crashes.saturating_add(1) >= MAX_CRASHES {
        return (class, Decision::Hold(HoldReason::Poison));
    }
    match job.on_unknown {
        OnUnknown::Hold => (class, Decision::Hold(HoldReason::UnknownOutcome)),
        OnUnknown::Retry => {
            let again = Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: false };
            unless_too_late(class, job, again)
        }
    }
}

const fn failed(class: ErrorClass) -> Decision {
    Decision::Fail { is_retryable: is_retryable(class) }
}

fn refused(
    class: ErrorClass,
    retry_after: Option<Duration>,
    job: &JobStanding,
    policies: &RetryPolicies,
    rng: &mut impl Rng,
) -> (ErrorClass, Decision) {
    if job.refusals.saturating_add(1) >= MAX_REFUSALS {
        return (class, failed(class));
    }
    let delay = policies.of(class).delay(job.refusals, retry_after, rng);
    unless_too_late(class, job, Decision::Requeue { delay, spends_try: false, is_refusal: true })
}

fn tried(
    class: ErrorClass,
    retry_after: Option<Duration>,
    job: &JobStanding,
    policies: &RetryPolicies,
    rng: &mut impl Rng,
) -> (ErrorClass, Decision) {
    let max_attempts = policies.max_attempts(class, job.max_attempts);
    if job.tries.saturating_add(1) >= max_attempts {
        return (class, failed(class));
    }
    let delay = policies.of(class).delay(job.tries, retry_after, rng);
    unless_too_late(class, job, Decision::Requeue { delay, spends_try: true, is_refusal: false })
}

/// A retry that could only start after the deadline would only be ended by it: better to say so now.
fn unless_too_late(class: ErrorClass, job: &JobStanding, requeue: Decision) -> (ErrorClass, Decision) {
    match (&requeue, job.deadline_in) {
        (Decision::Requeue { delay, .. }, Some(left)) if *delay >= left => {
            (ErrorClass::DeadlineExceeded, failed(ErrorClass::DeadlineExceeded))
        }
        _ => (class, requeue),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::backoff::RetryPolicy;

    fn fresh() -> JobStanding {
        JobStanding {
            tries: 0,
            refusals: 0,
            crashes: 0,
            max_attempts: None,
            on_unknown: OnUnknown::Retry,
            deadline_in: None,
        }
    }

    fn rule(ending: Ending, job: &JobStanding) -> Ruling {
        decide(ending, None, job, &RetryPolicies::default(), &mut StdRng::seed_from_u64(1))
    }

    fn requeue_kind(decision: &Decision) -> Option<(bool, bool)> {
        match decision {
            Decision::Requeue { spends_try, is_refusal, .. } => Some((*spends_try, *is_refusal)),
            _ => None,
        }
    }

    #[test]
    fn each_class_of_answer_is_retried_refused_or_final() {
        use ErrorClass as E;
        let table = [
            (E::RateLimited, Some((false, true))),
            (E::QuotaExhausted, Some((false, true))),
            (E::Unauthorized, Some((false, true))),
            (E::Overloaded, Some((false, true))),
            (E::ServerError, Some((true, false))),
            (E::UpstreamTimeout, Some((true, false))),
            (E::Conflict, Some((true, false))),
            (E::IncompleteAnswer, Some((true, false))),
            (E::InvalidOutput, Some((true, false))),
            (E::InvalidRequest, None),
            (E::Forbidden, None),
            (E::NotFound, None),
            (E::OversizedAnswer, None),
        ];
        for (class, expected) in table {
            let ruling = rule(Ending::Answered(class), &fresh());
            assert_eq!(requeue_kind(&ruling.decision), expected, "{class}");
            assert_eq!(ruling.class, Some(class));
            let outcome = if expected.is_some() { Outcome::Retry } else { Outcome::Failed };
            assert_eq!(ruling.outcome, outcome, "{class}");
            if expected.is_none() {
                assert_eq!(ruling.decision, Decision::Fail { is_retryable: false }, "{class}");
            }
        }
    }

    #[test]
    fn a_success_ends_the_job() {
        let ruling = rule(Ending::Succeeded, &fresh());
        assert_eq!(ruling.decision, Decision::Succeed);
        assert_eq!((ruling.outcome, ruling.class), (Outcome::Succeeded, None));
    }

    #[test]
    fn an_unknown_outcome_spends_a_try_or_is_held() {
        let unknown = Ending::Unknown(ErrorClass::ConnectionLost);
        assert_eq!(requeue_kind(&rule(unknown, &fresh()).decision), Some((true, false)));
        let last = JobStanding { tries: 2, ..fresh() };
        let ruling = rule(unknown, &last);
        assert_eq!(ruling.decision, Decision::Fail { is_retryable: true });
        assert_eq!(ruling.outcome, Outcome::Unknown);
        let held = rule(unknown, &JobStanding { on_unknown: OnUnknown::Hold, ..last });
        assert_eq!(held.decision, Decision::Hold(HoldReason::UnknownOutcome));
    }

    #[test]
    fn the_third_crash_is_poison_and_crashes_spend_no_try() {
        let crashed = Ending::Crashed(ErrorClass::Internal);
        let ruling = rule(crashed, &JobStanding { crashes: 1, tries: 2, ..fresh() });
        assert_eq!(requeue_kind(&ruling.decision), Some((false, false)));
        assert_eq!(ruling.outcome, Outcome::Lost);
        let hold = JobStanding { on_unknown: OnUnknown::Hold, ..fresh() };
        assert_eq!(rule(crashed, &hold).decision, Decision::Hold(HoldReason::UnknownOutcome));
        for standing in [fresh(), hold] {
            let ruling = rule(crashed, &JobStanding { crashes: SUSPECT_CRASHES, ..standing });
            assert_eq!(ruling.decision, Decision::Hold(HoldReason::Poison));
            assert_eq!(ruling.outcome, Outcome::Lost);
        }
    }

    #[test]
    fn a_malformed_success_may_have_been_paid_for() {
        let malformed = Ending::Answered(ErrorClass::MalformedAnswer);
        let ruling = rule(malformed, &fresh());
        assert_eq!(ruling.outcome, Outcome::Unknown);
        assert_eq!(requeue_kind(&ruling.decision), Some((true, false)));
        let held = rule(malformed, &JobStanding { on_unknown: OnUnknown::Hold, ..fresh() });
        assert_eq!(held.decision, Decision::Hold(HoldReason::UnknownOutcome));
    }

    #[test]
    fn nothing_sent_spends_no_try_even_with_hold() {
        let job = JobStanding { tries: 2, on_unknown: OnUnknown::Hold, ..fresh() };
        let ruling = rule(Ending::NotSent(ErrorClass::NotSent), &job);
        assert_eq!(requeue_kind(&ruling.decision), Some((false, true)));
        assert_eq!(ruling.outcome, Outcome::NotSent);
    }

    #[test]
    fn the_twentieth_refusal_fails_with_its_class() {
        let job = JobStanding { refusals: 18, ..fresh() };
        assert!(requeue_kind(&rule(Ending::Answered(ErrorClass::RateLimited), &job).decision).is_some());
        let job = JobStanding { refusals: 19, ..fresh() };
        let ruling = rule(Ending::Answered(ErrorClass::Overloaded), &job);
        assert_eq!(ruling.decision, Decision::Fail { is_retryable: true });
        assert_eq!(ruling.class, Some(ErrorClass::Overloaded));
    }

    #[test]
    fn a_retry_after_the_deadline_fails_now() {
        let job = JobStanding { deadline_in: Some(Duration::from_secs(59)), ..fresh() };
        let told = Some(Duration::from_mins(1));
        let mut rng = StdRng::seed_from_u64(1);
        let ending = Ending::Answered(ErrorClass::RateLimited);
        let ruling = decide(ending, told, &job, &RetryPolicies::default(), &mut rng);
        assert_eq!(ruling.class, Some(ErrorClass::DeadlineExceeded));
        assert_eq!(ruling.decision, Decision::Fail { is_retryable: true });
    }

    #[test]
    fn more_than_an_hour_counts_as_an_hour_and_is_reported() {
        let mut rng = StdRng::seed_from_u64(1);
        let ending = Ending::Answered(ErrorClass::RateLimited);
        let told = Some(Duration::from_hours(24));
        let ruling = decide(ending, told, &fresh(), &RetryPolicies::default(), &mut rng);
        assert!(ruling.is_retry_after_capped);
        let Decision::Requeue { delay, .. } = ruling.decision else { panic!("{ruling:?}") };
        assert!((3_600..3_610).contains(&delay.as_secs()), "{delay:?}");
    }

    fn endings() -> impl proptest::strategy::Strategy<Value = Ending> {
        let class = || proptest::sample::select(ErrorClass::ALL);
        prop_oneof![
            Just(Ending::Succeeded),
            class().prop_map(Ending::Answered),
            class().prop_map(Ending::Unknown),
            class().prop_map(Ending::NotSent),
            class().prop_map(Ending::Crashed),
        ]
    }

    proptest! {
        #[test]
        fn no_story_of_endings_makes_more_than_max_attempts_tries_or_crashes(
            story in proptest::collection::vec((endings(), proptest::option::of(0_u64..10_000)), 1..200),
            max_attempts in 1_u16..10, seed in any::<u64>(),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let usual = RetryPolicy { max_attempts, ..RetryPolicy::default() };
            let policies = RetryPolicies { usual, ..RetryPolicies::default() };
            let mut job = fresh();
            let (mut answered_or_sent, mut refused, mut crashed) = (0_u16, 0_u16, 0_u16);
            for (ending, told_s) in story {
                let told = told_s.map(Duration::from_secs);
                let ruling = decide(ending, told, &job, &policies, &mut rng);
                let Decision::Requeue { delay, spends_try, is_refusal } = ruling.decision else { break };
                if matches!(ending, Ending::Crashed(_)) {
                    prop_assert!(!spends_try && !is_refusal);
                    crashed += 1;
                    job.crashes += 1;
                    continue;
                }
                prop_assert!(delay >= told.unwrap_or_default().min(MAX_RETRY_AFTER));
                prop_assert!(spends_try != is_refusal);
                prop_assert!(spends_try || !matches!(ending, Ending::Unknown(_)));
                answered_or_sent += u16::from(spends_try);
                refused += u16::from(is_refusal);
                job.tries += u16::from(spends_try);
                job.refusals += u16::from(is_refusal);
            }
            prop_assert!(answered_or_sent < max_attempts);
            prop_assert!(refused < MAX_REFUSALS);
            prop_assert!(crashed < MAX_CRASHES);
        }

        #[test]
        fn a_job_that_says_hold_is_never_requeued_after_an_unknown_outcome(
            class in proptest::sample::select(ErrorClass::ALL), tries in any::<u16>(), refusals in any::<u16>(),
        ) {
            let job = JobStanding { tries, refusals, on_unknown: OnUnknown::Hold, ..fresh() };
            prop_assert_eq!(
                rule(Ending::Unknown(class), &job).decision, Decision::Hold(HoldReason::UnknownOutcome)
            );
        }

        #[test]
        fn a_requeued_job_starts_before_its_deadline(
            ending in endings(), left_s in 0_u64..60, told_s in 0_u64..120, seed in any::<u64>(),
        ) {
            let left = Duration::from_secs(left_s);
            let job = JobStanding { deadline_in: Some(left), ..fresh() };
            let mut rng = StdRng::seed_from_u64(seed);
            let told = Some(Duration::from_secs(told_s));
            if let Decision::Requeue { delay, .. } =
                decide(ending, told, &job, &RetryPolicies::default(), &mut rng).decision
            {
                prop_assert!(delay < left);
            }
        }
    }
}
