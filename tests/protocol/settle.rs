//! Settling: the fenced statement, and the late word of a worker whose lease had ended (`migrations/0019`, `0022`).

use sluice_domain::{Decision, Outcome, SettleVerdict, Transition};

use crate::{
    process::{Hand, Word},
    protocol::Protocol,
    rules::Rule,
    world::{Late, LeaseRow, Waiting, World, Wrong},
};

impl World {
    /// `Store::settle_many` for one: the fenced statement, and what it does not find as a late word.
    pub(crate) fn settle(&mut self, protocol: &Protocol, lease: usize, word: Word) -> SettleVerdict {
        let hand = self.hands[lease].clone();
        let was_written =
            self.db.row(lease).is_some_and(|row| row.ended.is_some_and(|it| it != Outcome::Lost));
        let verdict = match self.fenced_row(protocol, &hand, lease) {
            Some(row) => {
                if row != lease {
                    self.wrong(Wrong::WroteOverLease);
                }
                self.apply(protocol, row, &hand, word);
                SettleVerdict::Settled
            }
            None => self.settle_late(protocol, lease, &hand, word),
        };
        let is_called_late = !matches!(verdict, SettleVerdict::Settled | SettleVerdict::AlreadySettled);
        if was_written && is_called_late {
            self.wrong(Wrong::Misled);
        }
        verdict
    }

    /// The row of `running` that the settle means.
    fn fenced_row(&self, protocol: &Protocol, hand: &Hand, lease: usize) -> Option<usize> {
        if !protocol.keeps(Rule::SettleNamesLease) {
            return self.db.runs(hand.job).next();
        }
        if !protocol.keeps(Rule::FenceIsNoCounter) {
            let number = |row: &usize| self.db.row(*row).map(|row| row.lease_no);
            return self.db.runs(hand.job).find(|row| number(row) == Some(hand.lease_no));
        }
        self.db.row(lease)?.running.map(|_| lease)
    }

    /// What the fenced statement writes.
    fn apply(&mut self, protocol: &Protocol, lease: usize, hand: &Hand, word: Word) {
        let ruling = protocol.ruling(hand, word);
        let from = self.db.state(hand.job);
        let row = self.db.row_mut(lease).expect("the fence found the row");
        let waiting = row.running.take().expect("the fence found it running");
        row.ended = Some(ruling.outcome);
        row.is_begun = true;
        match ruling.decision {
            Decision::Succeed => {
                let state = self.step(from, Transition::Succeed);
                self.end(hand.job, waiting.generation, state);
            }
            Decision::Fail { .. } => {
                let state = self.step(from, Transition::Fail);
                self.end(hand.job, waiting.generation, state);
            }
            Decision::Requeue { spends_try, .. } => {
                let tries = waiting.tries + u8::from(spends_try);
                self.requeue(hand.job, from, Waiting { tries, ..waiting });
            }
            Decision::Hold(reason) => self.hold(hand.job, from, waiting, reason),
        }
    }

    /// `sluice.settle_late`.
    fn settle_late(&mut self, protocol: &Protocol, lease: usize, hand: &Hand, word: Word) -> SettleVerdict {
        let is_answer = word == Word::Succeeded;
        if self.db.leases[lease].is_none() && is_answer {
            // The rows that a fail-over took are written anew.
            self.db.leases[lease] = Some(LeaseRow {
                job: hand.job,
                incarnation: hand.incarnation,
                running: None,
                lease_no: hand.lease_no,
                generation: hand.generation,
                is_cancelled: false,
                is_begun: true,
                ended: Some(Outcome::Succeeded),
                late: Late::No,
            });
        } else {
            let Some(row) = self.db.row_mut(lease) else { return SettleVerdict::Stale };
            let was_cancelled = std::mem::take(&mut row.is_cancelled);
            let is_known = row.ended.is_some_and(|ended| ended != Outcome::Lost);
            if is_known && protocol.keeps(Rule::RepeatRecognised) {
                return SettleVerdict::AlreadySettled;
            }
            if !is_answer && !was_cancelled {
                return SettleVerdict::Stale;
            }
            if row.ended.is_none() {
                row.ended = Some(if is_answer { Outcome::Succeeded } else { Outcome::Cancelled });
            }
            if !is_answer {
                return SettleVerdict::Settled;
            }
        }
        let row = self.db.row_mut(lease).expect("it is there or was written anew");
        if row.late != Late::No {
            return SettleVerdict::AlreadySettled;
        }
        row.late = Late::Kept;
        if self.accept_late(protocol, lease, hand) {
            self.db.row_mut(lease).expect("it was there").late = Late::Accepted;
            SettleVerdict::LateAccepted
        } else {
            SettleVerdict::LateKept
        }
    }

    /// Ends the job by a late success, where it still waits and was not leased since.
    fn accept_late(&mut self, protocol: &Protocol, lease: usize, hand: &Hand) -> bool {
        let asks_leases = protocol.keeps(Rule::LateOnlyIfNotLeasedSince);
        let asks_generation = protocol.keeps(Rule::LateOnlyInGeneration);
        let has_higher = self.db.leases.iter().enumerate().any(|(other, row)| {
            other != lease
                && row.as_ref().is_some_and(|row| row.job == hand.job && row.lease_no >= hand.lease_no)
        });
        if asks_leases && has_higher {
            return false;
        }
        let fits = |waiting: &Waiting| {
            (waiting.generation == hand.generation || !asks_generation)
                && (waiting.lease_no <= hand.lease_no || !asks_leases)
        };
        let from = self.db.state(hand.job);
        let job = &mut self.db.jobs[hand.job];
        let waiting = match job.ready.take_if(|waiting| fits(waiting)) {
            Some(waiting) => waiting,
            None => match job.held.take_if(|(waiting, _)| fits(waiting)) {
                Some((waiting, _)) => waiting,
                None => return false,
            },
        };
        let was_leased_since = self.db.leases.iter().skip(lease + 1).flatten().any(|row| row.job == hand.job);
        if was_leased_since || waiting.generation != hand.generation {
            self.wrong(Wrong::LateOverLease);
        }
        let state = self.step(from, Transition::LateSuccess);
        self.end(hand.job, hand.generation, state);
        true
    }
}
