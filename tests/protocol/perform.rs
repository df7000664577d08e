//! What comes of each step, but for those of the reapers and the faults.

use crate::{
    action::Action,
    process::{Call, Hand, Phase, Told, Word},
    protocol::{FRESH, Protocol},
    rules::Rule,
    world::{IncarnationRow, LeaseRow, START_WITHIN, World, Wrong},
};

impl World {
    /// Does one step.
    pub(crate) fn perform(&mut self, protocol: &Protocol, action: Action) {
        match action {
            Action::Submit { job } => {
                self.db.jobs[job].is_submitted = true;
                self.db.jobs[job].ready = Some(FRESH);
            }
            Action::Cancel { job } => {
                self.left.cancels -= 1;
                self.cancel(job);
            }
            Action::Replay { job } => {
                self.left.replays -= 1;
                self.replay(protocol, job);
            }
            Action::Release { job } => {
                self.left.releases -= 1;
                self.release(job);
            }
            Action::DeadlinePasses { job } => {
                self.left.deadlines -= 1;
                self.pass_deadline(job);
            }
            Action::Lease { worker, job } => self.lease(protocol, worker, job, Phase::Coming),
            Action::LeaseUnheard { worker, job } => {
                self.left.lost_answers -= 1;
                self.lease(protocol, worker, job, Phase::Unheard);
            }
            Action::Beat { .. }
            | Action::BeatSlow { .. }
            | Action::BeatHeard { .. }
            | Action::Renew { .. } => {
                self.perform_beat(protocol, action);
            }
            Action::Scan { reaper } => self.scan(protocol, reaper),
            Action::ActOnFound { reaper } => self.act_on_found(protocol, reaper),
            Action::Tick => self.tick(protocol),
            _ => {
                if !self.perform_fault(protocol, action) {
                    self.perform_lease(protocol, action);
                }
            }
        }
    }

    fn perform_beat(&mut self, protocol: &Protocol, action: Action) {
        match action {
            Action::Beat { worker } => {
                let is_taken = self.beat(protocol, worker);
                let it = &mut self.workers[worker];
                it.late_ack = None;
                if is_taken {
                    it.own_age = 0;
                } else {
                    it.knows_dead = true;
                }
            }
            Action::BeatSlow { worker } => {
                self.left.slow_beats -= 1;
                self.beat(protocol, worker);
                self.workers[worker].late_ack = Some(0);
            }
            Action::BeatHeard { worker } => {
                let it = &mut self.workers[worker];
                let age = it.late_ack.take().expect("an acknowledgement is on its way");
                it.own_age = if protocol.keeps(Rule::AgeFromSending) { it.own_age.min(age) } else { 0 };
            }
            Action::Renew { worker } => {
                let it = &mut self.workers[worker];
                it.incarnation = self.db.incarnations.len();
                (it.own_age, it.knows_dead, it.late_ack) = (0, false, None);
                self.db.incarnations.push(Some(IncarnationRow { worker, beat_age: 0, is_dead: false }));
            }
            _ => unreachable!("only what concerns a beat comes here"),
        }
    }

    /// `incarnation_beat_if_alive`. Says whether there was a row to update.
    fn beat(&mut self, protocol: &Protocol, worker: usize) -> bool {
        let incarnation = self.workers[worker].incarnation;
        let Some(row) = &mut self.db.incarnations[incarnation] else { return false };
        if row.is_dead && protocol.keeps(Rule::DeadStayDead) {
            return false;
        }
        (row.is_dead, row.beat_age) = (false, 0);
        true
    }

    fn perform_lease(&mut self, protocol: &Protocol, action: Action) {
        match action {
            Action::LeaseHeard { lease } => self.hands[lease].phase = Phase::InHand,
            Action::LeaseAnswerLost { lease } => {
                self.left.lost_answers -= 1;
                self.hands[lease].phase = Phase::Unheard;
            }
            Action::StrayFound { lease } => self.return_stray(protocol, lease),
            Action::LastLook { lease } => self.last_look(protocol, lease),
            Action::FirstByte { lease } => self.first_byte(lease),
            Action::ConnectionRefused { lease } => {
                self.left.bad_calls -= 1;
                self.hands[lease].phase = Phase::Unsettled(Word::NotSent);
            }
            Action::AnswerSucceeded { lease } => self.answered(lease, Call::Succeeded, Word::Succeeded),
            Action::AnswerErred { lease } => {
                self.left.errors -= 1;
                self.answered(lease, Call::Erred, Word::Erred);
            }
            Action::CallCut { lease } => {
                self.left.bad_calls -= 1;
                self.seen.other_faults = true;
                let is_marked = protocol.keeps(Rule::UnknownIsMarked);
                self.answered(lease, Call::Cut, if is_marked { Word::Cut } else { Word::NotSent });
            }
            Action::CancelHeard { lease } => {
                let was_sent = self.hands[lease].phase == Phase::Sent;
                let call = if was_sent { Call::Cut } else { Call::None };
                self.answered(lease, call, Word::LetGo);
            }
            Action::Settle { lease } | Action::SettleUnheard { lease } => {
                let Phase::Unsettled(word) = self.hands[lease].phase else { return };
                let verdict = self.settle(protocol, lease, word);
                self.hear(action, lease, Phase::Told(Told(verdict)));
                self.check_kept(lease, action, word);
            }
            Action::HandBack { lease } | Action::HandBackUnheard { lease } => {
                self.hand_back(lease);
                self.hear(action, lease, Phase::Over);
            }
            _ => unreachable!("all others are performed elsewhere"),
        }
    }

    fn answered(&mut self, lease: usize, call: Call, word: Word) {
        self.hands[lease].call = call;
        self.hands[lease].phase = Phase::Unsettled(word);
    }

    fn hear(&mut self, action: Action, lease: usize, phase: Phase) {
        if matches!(action, Action::SettleUnheard { .. } | Action::HandBackUnheard { .. }) {
            self.left.lost_answers -= 1;
        } else {
            self.hands[lease].phase = phase;
        }
    }

    /// Whoever was told that a paid answer is written may forget it: it must be there.
    fn check_kept(&mut self, lease: usize, action: Action, word: Word) {
        let is_told = matches!(action, Action::Settle { .. });
        let is_kept = self.db.row(lease).is_some_and(LeaseRow::holds_answer);
        if is_told && word == Word::Succeeded && !is_kept {
            self.wrong(Wrong::Misled);
        }
    }

    /// The worker finds a lease of its incarnation that it does not hold.
    fn return_stray(&mut self, protocol: &Protocol, lease: usize) {
        let was_begun = self.hands[lease].call != Call::None;
        if was_begun && protocol.keeps(Rule::StrayWasNeverBegun) {
            self.settle(protocol, lease, Word::Cut);
        } else {
            self.hand_back(lease);
        }
        if self.hands[lease].phase == Phase::Unheard {
            self.hands[lease].phase = Phase::Over;
        }
    }

    /// `worker/src/attempt.rs`: the last look before the first byte.
    fn last_look(&mut self, protocol: &Protocol, lease: usize) {
        let hand = &self.hands[lease];
        let worker = &self.workers[hand.worker];
        let is_fresh = worker.own_age <= START_WITHIN || !protocol.keeps(Rule::SelfFence);
        let is_own = worker.incarnation == hand.incarnation || !protocol.keeps(Rule::LookAsksOwnIncarnation);
        if !is_fresh || !is_own || worker.knows_dead {
            self.hands[lease].phase = Phase::Returning;
            return;
        }
        // A cancelled job's lease lasts until its worker lets go.
        let is_leased = self.db.row(lease).is_some_and(|row| row.running.is_some() || row.is_cancelled);
        if !is_leased && !self.hands[lease].is_forgotten {
            self.wrong(Wrong::StartedWithoutLease);
        }
        self.hands[lease].phase = Phase::Starting;
    }

    fn first_byte(&mut self, lease: usize) {
        let hand = self.hands[lease].clone();
        if !hand.is_forgotten && !self.db.row(lease).is_some_and(|row| row.is_begun) {
            self.wrong(Wrong::CallWithoutBegunRow);
        }
        let earlier = |it: &&mut Hand| {
            (it.job, it.generation) == (hand.job, hand.generation)
                && !(hand.is_forgotten || it.is_forgotten || it.is_repeated)
                && matches!(it.call, Call::UnderWay | Call::Succeeded | Call::Cut)
        };
        let mut repeats = 0;
        for it in self.hands.iter_mut().filter(earlier) {
            it.is_repeated = true;
            repeats += 1;
        }
        self.seen.repeated[hand.job] += repeats;
        self.hands[lease].call = Call::UnderWay;
        self.hands[lease].phase = Phase::Sent;
    }
}
