//! What an action makes of the model, and what it has to be answered with.

use sluice_domain::{ErrorClass, HoldReason, JobState, Outcome};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};

use crate::{
    action::{Action, Door},
    model::{Answer, Job, Lease, Leased, Model, NewJob, Place, Submitted, Turn, Worker},
};

/// Crashes after which the next one makes a job poison.
const CRASHES_OF_A_SUSPECT: u16 = 2;
/// Refusals after which the next lost lease of an isolated suspect holds it.
const MOST_REFUSALS: u16 = 19;

/// The model after an action.
pub fn follow(mut model: Model, action: &Action) -> Model {
    model.clock += 1;
    model.answer = match action {
        Action::Submit { door, job } => model.submit(*door, std::slice::from_ref(job)),
        Action::Bulk { door, jobs } => model.submit(*door, jobs),
        Action::Cancel { job, .. } => Answer::Cancelled(model.cancel(*job)),
        Action::Replay { job, .. } => Answer::Replayed(model.replay(*job)),
        Action::Release { job, .. } => Answer::Released(model.release(*job)),
        Action::Pause { queue, .. } => model.set_paused(*queue, true),
        Action::Resume { queue, .. } => model.set_paused(*queue, false),
        Action::StartWorker { isolates_suspects } => {
            model.workers.push(Worker { is_dead: false, isolates_suspects: *isolates_suspects });
            Answer::Nothing
        }
        Action::EndWorker { worker, .. } => Answer::Leases(model.end_worker(*worker)),
        Action::Lease { worker, queue, limit } => model.lease(*worker, *queue, *limit),
        Action::HandBack { worker, lease } => Answer::Leases(model.hand_back(*worker, *lease)),
        Action::Settle { words } => Answer::Verdicts(model.settle(words)),
        Action::Lose { leases } => {
            let running: Vec<usize> =
                leases.iter().copied().filter(|lease| model.is_running(*lease)).collect();
            for lease in &running {
                model.lose(*lease, true);
            }
            Answer::Leases(running.len() + model.lose_cancelled(leases))
        }
        Action::DeadlinePasses { job } => {
            let is_live = !model.state(*job).is_terminal();
            let job = &mut model.jobs[*job];
            job.is_past_deadline |= job.new.has_deadline && is_live;
            Answer::Nothing
        }
        Action::EndDeadlines => model.end_deadlines(),
    };
    model
}

impl Model {
    pub fn is_running(&self, lease: usize) -> bool {
        self.jobs[self.leases[lease].job].place == Place::Running(lease)
    }

    /// The place of a job that comes back and can run at once.
    pub fn back(&self) -> Place {
        Place::Queued(Turn { is_due: true, is_fresh: false, since: self.clock })
    }

    fn submit(&mut self, door: Door, jobs: &[NewJob]) -> Answer {
        let mut after = self.clone();
        let submitted: Vec<Submitted> = jobs.iter().map(|job| after.submit_one(job)).collect();
        // Over SQL one bad element refuses all, since it is the caller's transaction.
        if door == Door::Sql && submitted.contains(&Submitted::Refused) {
            return Answer::AllRefused;
        }
        *self = after;
        Answer::Submitted(submitted)
    }

    fn submit_one(&mut self, new: &NewJob) -> Submitted {
        if let Some(job) = new.key.and_then(|key| self.keys.get(&key)) {
            let is_same = self.jobs[*job].new.content == new.content;
            return if is_same { Submitted::Existing(*job) } else { Submitted::Refused };
        }
        let number = self.jobs.len();
        self.keys.extend(new.key.map(|key| (key, number)));
        let turn = Turn { is_due: !new.is_for_later, is_fresh: !new.is_for_later, since: self.clock };
        self.jobs.push(Job {
            new: new.clone(),
            place: Place::Queued(turn),
            generation: 1,
            lease_no: 0,
            tries: 0,
            crashes: 0,
            refusals: 0,
            is_past_deadline: false,
            ended_by: None,
            failure: None,
        });
        Submitted::Created(number)
    }

    fn cancel(&mut self, number: usize) -> CancelOutcome {
        match self.jobs[number].place {
            Place::Ended(JobState::Cancelled) => return CancelOutcome::AlreadyCancelled,
            Place::Ended(state) => return CancelOutcome::AlreadyEnded(state),
            Place::Running(lease) => {
                self.leases[lease].is_cancelled = true;
                self.jobs[number].ended_by = Some(lease);
            }
            Place::Queued(_) | Place::Held(_) => {}
        }
        self.jobs[number].place = Place::Ended(JobState::Cancelled);
        CancelOutcome::Cancelled
    }

    fn replay(&mut self, number: usize) -> ReplayOutcome {
        if !self.state(number).is_terminal() {
            return ReplayOutcome::NotEnded;
        }
        let place = self.back();
        let job = &mut self.jobs[number];
        job.place = place;
        job.generation += 1;
        (job.tries, job.crashes, job.refusals) = (0, 0, 0);
        (job.is_past_deadline, job.ended_by, job.failure) = (false, None, None);
        ReplayOutcome::Queued
    }

    fn release(&mut self, number: usize) -> ReleaseOutcome {
        if self.state(number) != JobState::Held {
            return ReleaseOutcome::NotHeld;
        }
        self.jobs[number].place = self.back();
        self.jobs[number].crashes = 0;
        ReleaseOutcome::Released
    }

    fn set_paused(&mut self, queue: usize, is_paused: bool) -> Answer {
        self.is_paused[queue] = is_paused;
        Answer::Nothing
    }

    /// By priority; what came back before what is fresh; then by age. Of what came with one statement, the job that
    /// was submitted first.
    fn lease(&mut self, worker: usize, queue: usize, limit: usize) -> Answer {
        if self.workers[worker].is_dead {
            return Answer::Dead;
        }
        let mut waiting: Vec<_> = self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.new.queue == queue && !job.is_past_deadline && !self.is_paused[queue])
            .filter_map(|(number, job)| match job.place {
                Place::Queued(turn) if turn.is_due => {
                    Some((5 - job.new.priority, turn.is_fresh, turn.since, number))
                }
                _ => None,
            })
            .collect();
        waiting.sort_unstable();
        let leased = waiting.into_iter().take(limit).map(|(.., job)| self.lease_one(worker, job));
        Answer::Leased(leased.collect())
    }

    fn lease_one(&mut self, worker: usize, number: usize) -> Leased {
        let lease = self.leases.len();
        let job = &mut self.jobs[number];
        job.place = Place::Running(lease);
        job.lease_no += 1;
        let (generation, lease_no) = (job.generation, job.lease_no);
        self.leases.push(Lease {
            job: number,
            worker,
            generation,
            lease_no,
            outcome: None,
            error: None,
            is_cancelled: false,
            answer: None,
            late_answer: None,
        });
        let (tries, crashes, refusals) = (job.tries, job.crashes, job.refusals);
        Leased { job: number, generation, lease_no, tries, crashes, refusals }
    }

    /// Only its own leases; says how many jobs went back.
    fn hand_back(&mut self, worker: usize, number: usize) -> usize {
        let is_running = self.is_running(number);
        let back = self.back();
        let lease = &mut self.leases[number];
        let was_cancelled = std::mem::take(&mut lease.is_cancelled);
        if lease.worker != worker || !(is_running || was_cancelled) {
            lease.is_cancelled = was_cancelled;
            return 0;
        }
        lease.outcome = Some(Outcome::NotSent);
        if !is_running {
            return 0;
        }
        self.jobs[lease.job].place = back;
        1
    }

    /// Says how many leases of jobs ended.
    fn end_worker(&mut self, worker: usize) -> usize {
        self.workers[worker].is_dead = true;
        let isolates = self.workers[worker].isolates_suspects;
        let own: Vec<usize> = (0..self.leases.len()).filter(|l| self.leases[*l].worker == worker).collect();
        let running: Vec<usize> = own.iter().copied().filter(|lease| self.is_running(*lease)).collect();
        for lease in &running {
            self.lose(*lease, isolates);
        }
        self.lose_cancelled(&own);
        running.len()
    }

    /// Their jobs have ended. Says how many there were.
    fn lose_cancelled(&mut self, leases: &[usize]) -> usize {
        let mut lost = 0;
        for lease in leases {
            let lease = &mut self.leases[*lease];
            if std::mem::take(&mut lease.is_cancelled) {
                (lease.outcome, lease.error) = (Some(Outcome::Lost), Some(ErrorClass::LeaseLost));
                lost += 1;
            }
        }
        lost
    }

    /// One crash more; for a suspect that had a process to itself, one refusal more.
    fn lose(&mut self, number: usize, isolates: bool) {
        let back = self.back();
        let lease = &mut self.leases[number];
        (lease.outcome, lease.error) = (Some(Outcome::Lost), Some(ErrorClass::LeaseLost));
        let job = &mut self.jobs[lease.job];
        let is_suspect = job.crashes >= CRASHES_OF_A_SUSPECT;
        let was_isolated = isolates && is_suspect;
        let is_poison = if was_isolated { job.refusals >= MOST_REFUSALS } else { is_suspect };
        job.crashes += u16::from(!was_isolated);
        job.refusals += u16::from(was_isolated);
        job.place = match (is_poison, job.new.holds) {
            (true, _) => Place::Held(HoldReason::Poison),
            (false, true) => Place::Held(HoldReason::UnknownOutcome),
            (false, false) => back,
        };
    }

    fn end_deadlines(&mut self) -> Answer {
        let is_waiting = |place| matches!(place, Place::Queued(_) | Place::Held(_));
        for job in self.jobs.iter_mut().filter(|job| job.is_past_deadline && is_waiting(job.place)) {
            job.place = Place::Ended(JobState::Failed);
            job.failure = Some(ErrorClass::DeadlineExceeded);
        }
        Answer::Nothing
    }
}
