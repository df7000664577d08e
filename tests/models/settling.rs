//! What settling makes of the model: words in time, and words that come late.

use sluice_domain::{HoldReason, JobState, Outcome, SettleVerdict};

use crate::{
    model::{Model, Place, Turn},
    words::Word,
};

impl Model {
    /// First all that come in time, in one statement; then the others, each by itself.
    pub fn settle(&mut self, words: &[(usize, Word)]) -> Vec<SettleVerdict> {
        let in_time: Vec<bool> = words.iter().map(|(lease, _)| self.is_running(*lease)).collect();
        for ((lease, word), _) in words.iter().zip(&in_time).filter(|(_, in_time)| **in_time) {
            self.settle_in_time(*lease, *word);
        }
        let verdict = |((lease, word), in_time): (&(usize, Word), bool)| {
            if in_time { SettleVerdict::Settled } else { self.settle_late(*lease, *word) }
        };
        words.iter().zip(in_time).map(verdict).collect()
    }

    fn settle_in_time(&mut self, number: usize, word: Word) {
        let back = self.back();
        let later = Place::Queued(Turn { is_due: false, is_fresh: false, since: self.clock });
        let lease = &mut self.leases[number];
        (lease.outcome, lease.error) = (Some(word.outcome()), word.error());
        let job = &mut self.jobs[lease.job];
        match word {
            Word::Panicked => job.crashes += 1,
            Word::Refused | Word::NotSent => job.refusals += 1,
            _ => job.tries += 1,
        }
        job.place = match word {
            Word::Success => Place::Ended(JobState::Succeeded),
            Word::Failure => Place::Ended(JobState::Failed),
            Word::UnknownHeld => Place::Held(HoldReason::UnknownOutcome),
            Word::TryLater => later,
            Word::TryAgain | Word::Babble | Word::Refused | Word::NotSent | Word::Panicked => back,
        };
        if let Place::Ended(_) = job.place {
            job.ended_by = Some(number);
            job.failure = word.error();
            lease.answer = word.answer(number);
        }
    }

    fn settle_late(&mut self, number: usize, word: Word) -> SettleVerdict {
        let clock = self.clock;
        let answer = word.answer(number);
        let lease = &mut self.leases[number];
        let was_cancelled = std::mem::take(&mut lease.is_cancelled);
        match lease.outcome {
            Some(outcome) if outcome != Outcome::Lost => return SettleVerdict::AlreadySettled,
            _ if answer.is_none() && !was_cancelled => return SettleVerdict::Stale,
            None => lease.outcome = Some(answer.as_ref().map_or(Outcome::Cancelled, |_| word.outcome())),
            Some(_) => {}
        }
        let Some(answer) = answer else { return SettleVerdict::LetGo };
        if lease.late_answer.is_some() {
            return SettleVerdict::AlreadySettled;
        }
        lease.late_answer = Some((clock, answer));
        let (job, generation, lease_no) = (lease.job, lease.generation, lease.lease_no);
        let was_leased_since = self.leases_of(job).any(|(_, other)| other.lease_no > lease_no);
        let job = &mut self.jobs[job];
        let waits = matches!(job.place, Place::Queued(_) | Place::Held(_)) && job.generation == generation;
        if word != Word::Success || was_leased_since || !waits {
            return SettleVerdict::LateKept;
        }
        job.place = Place::Ended(JobState::Succeeded);
        job.ended_by = Some(number);
        SettleVerdict::LateAccepted
    }
}
