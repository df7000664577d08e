//! What can happen next to a lease that a worker has, or should have.

use sluice_domain::Outcome;

use crate::{
    action::Action,
    process::{Life, Phase},
    protocol::Protocol,
    rules::Rule,
    world::World,
};

impl World {
    pub(crate) fn steps_of_lease(&self, protocol: &Protocol, lease: usize, actions: &mut Vec<Action>) {
        let hand = &self.hands[lease];
        let worker = &self.workers[hand.worker];
        let runs = matches!(worker.life, Life::Up | Life::Cut);
        match hand.phase {
            Phase::Coming => {
                if worker.life == Life::Up {
                    actions.push(Action::LeaseHeard { lease });
                }
                if self.left.lost_answers > 0 {
                    actions.push(Action::LeaseAnswerLost { lease });
                }
            }
            Phase::InHand if runs => actions.push(Action::LastLook { lease }),
            Phase::Starting if runs => {
                actions.push(Action::FirstByte { lease });
                if self.left.bad_calls > 0 {
                    actions.push(Action::ConnectionRefused { lease });
                }
            }
            Phase::Sent if runs => {
                actions.push(Action::AnswerSucceeded { lease });
                if self.left.errors > 0 {
                    actions.push(Action::AnswerErred { lease });
                }
                if self.left.bad_calls > 0 {
                    actions.push(Action::CallCut { lease });
                }
            }
            Phase::Unsettled(_) => {
                let steps = (Action::Settle { lease }, Action::SettleUnheard { lease });
                self.writes(hand.worker, steps, actions);
            }
            Phase::Returning => {
                let steps = (Action::HandBack { lease }, Action::HandBackUnheard { lease });
                self.writes(hand.worker, steps, actions);
            }
            _ => {}
        }
        self.news_of_lease(protocol, lease, actions);
    }

    /// A statement of a worker, with its answer or without. One without may have been sent before the worker stopped.
    fn writes(&self, worker: usize, (heard, unheard): (Action, Action), actions: &mut Vec<Action>) {
        if self.reaches_database(worker) {
            actions.push(heard);
        }
        if self.left.lost_answers > 0 && !self.db.is_away {
            actions.push(unheard);
        }
    }

    /// What the worker hears of a lease from the database: it was cancelled, or it is stray.
    fn news_of_lease(&self, protocol: &Protocol, lease: usize, actions: &mut Vec<Action>) {
        let hand = &self.hands[lease];
        let Some(row) = self.db.row(lease) else { return };
        let is_ours = self.workers[hand.worker].incarnation == hand.incarnation;
        if !self.reaches_database(hand.worker) || !is_ours {
            return;
        }
        if row.is_cancelled && matches!(hand.phase, Phase::InHand | Phase::Starting | Phase::Sent) {
            actions.push(Action::CancelHeard { lease });
        }
        let is_calm = !protocol.keeps(Rule::StraysBetweenLeaseCalls) || !self.awaits_lease(hand.worker);
        let is_held = match hand.phase {
            Phase::Unheard | Phase::Told(_) | Phase::Over => false,
            Phase::Coming => protocol.keeps(Rule::StraysBetweenLeaseCalls),
            _ => true,
        };
        let is_counted = row.running.is_some() || row.is_cancelled;
        if is_calm && !is_held && is_counted && row.ended != Some(Outcome::Lost) {
            actions.push(Action::StrayFound { lease });
        }
    }
}
