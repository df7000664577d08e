//! What the breakers of a worker remember, and what they tell.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A clock that stands still until somebody lets time pass.
#[derive(Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Time {
    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn breakers(&self) -> Arc<Breakers> {
        let time = self.clone();
        Breakers::with_clock(Box::new(move || s(time.0.load(Ordering::Relaxed))))
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fail(breakers: &Arc<Breakers>, times: usize) {
    for _ in 0..times {
        breakers.enter("u").unwrap().end(Verdict::Fails, "server_error", true);
    }
}

fn told(trial_in_s: u64) -> Vec<BreakerTold> {
    vec![BreakerTold { upstream: "u".to_owned(), trial_in: s(trial_in_s), failed_trials: 0 }]
}

fn errands(breakers: &Breakers) -> Vec<Errand> {
    breakers.errands(|_| None).into_iter().map(|(_, errand)| errand).collect()
}

/// Open, and written at second 10.
fn opened(time: &Time) -> Arc<Breakers> {
    let breakers = time.breakers();
    fail(&breakers, 5);
    let word = Word::Opened { reason: "server_error" };
    assert_eq!(errands(&breakers), [Errand::Write(word.clone())]);
    breakers.written("u", &word, s(10));
    breakers
}

#[test]
fn it_opens_here_with_the_call_that_opens_it() {
    let time = Time::default();
    let breakers = time.breakers();
    fail(&breakers, 4);
    assert_eq!(breakers.gate("u"), Gate::Free);
    let changes = breakers.changes();
    fail(&breakers, 1);
    assert_eq!((breakers.gate("u"), breakers.changes()), (Gate::Shut, changes + 1));
    assert!(breakers.enter("u").is_none());
    assert_eq!(breakers.gate("another"), Gate::Free);
}

#[test]
fn beats_that_can_not_know_it_change_nothing() {
    let time = Time::default();
    let breakers = time.breakers();
    fail(&breakers, 5);
    assert!(!breakers.told(Vec::new(), s(100)), "it is not written yet");
    let breakers = opened(&time);
    assert!(!breakers.told(Vec::new(), s(9)), "the beat was sent before it was written");
    assert_eq!(breakers.gate("u"), Gate::Shut);
    assert!(breakers.told(Vec::new(), s(11)), "somebody closed it");
    assert_eq!(breakers.gate("u"), Gate::Free);
    assert!(breakers.told(told(60), s(12)));
    assert_eq!(breakers.gate("u"), Gate::Shut);
}

#[test]
fn one_call_is_the_trial_and_its_end_closes_it_or_not() {
    let time = Time::default();
    let breakers = opened(&time);
    breakers.trial_claimed("u", true);
    assert_eq!(breakers.gate("u"), Gate::OnTrial);
    let trial = breakers.enter("u").unwrap();
    assert!(breakers.enter("u").is_none(), "there is one trial");
    trial.end(Verdict::Fails, "server_error", true);
    assert_eq!(breakers.gate("u"), Gate::Shut);
    let word = Word::TrialFailed { failed_trials: 1 };
    assert_eq!(errands(&breakers), [Errand::Write(word.clone())]);
    breakers.written("u", &word, s(20));
    breakers.trial_claimed("u", true);
    breakers.enter("u").unwrap().end(Verdict::Answers, "rate_limited", true);
    assert_eq!(breakers.gate("u"), Gate::Free);
    assert_eq!(errands(&breakers), [Errand::Write(Word::Closed)]);
}

#[test]
fn a_trial_without_a_word_or_a_taker_goes_back() {
    let time = Time::default();
    let breakers = opened(&time);
    breakers.trial_claimed("u", true);
    drop(breakers.enter("u"));
    assert_eq!(errands(&breakers), [Errand::Write(Word::TrialGivenBack)]);
    let breakers = opened(&time);
    breakers.trial_claimed("u", true);
    time.pass(4);
    assert_eq!(errands(&breakers), [Errand::Write(Word::TrialGivenBack)]);
    assert_eq!(breakers.gate("u"), Gate::Shut);
}

#[test]
fn it_is_probed_and_tried_while_somebody_wants_it() {
    let time = Time::default();
    let breakers = opened(&time);
    assert_eq!(errands(&breakers), []);
    breakers.gate("u");
    assert_eq!(errands(&breakers), [Errand::Probe]);
    assert_eq!(errands(&breakers), [], "the next probe is due later");
    time.pass(60);
    assert_eq!(errands(&breakers), [], "nobody wants it any more");
    breakers.gate("u");
    assert_eq!(errands(&breakers), [Errand::ClaimTrial]);
}

#[test]
fn silence_is_asked_about_and_opens_it_when_nobody_answers() {
    let time = Time::default();
    let breakers = time.breakers();
    let waiting = breakers.enter("u").unwrap();
    assert_eq!(errands(&breakers), []);
    time.pass(3);
    assert_eq!(errands(&breakers), [Errand::ProbeSilent]);
    assert_eq!(errands(&breakers), [], "one probe at a time");
    assert!(!breakers.silent_probed("u", true));
    time.pass(3);
    assert_eq!(errands(&breakers), [], "it is forgiven for longer");
    time.pass(3);
    assert_eq!(errands(&breakers), [Errand::ProbeSilent]);
    assert!(breakers.silent_probed("u", false));
    assert_eq!(breakers.gate("u"), Gate::Shut);
    waiting.end(Verdict::Works, "", true);
    assert_eq!(breakers.gate("u"), Gate::Shut, "what was under way says nothing new");
}
