//! What people do to a job, and what its deadline does (`migrations/0011`, `0022`).

use sluice_domain::Transition;

use crate::{
    protocol::{FRESH, Protocol},
    rules::Rule,
    world::{Waiting, World},
};

impl World {
    /// `sluice.cancel_job`.
    pub(crate) fn cancel(&mut self, job: usize) {
        let from = self.db.state(job);
        let row = &mut self.db.jobs[job];
        let waiting = row.ready.take().or_else(|| row.held.take().map(|(waiting, _)| waiting));
        let running = self.db.runs(job).next();
        let generation = match (waiting, running) {
            (Some(waiting), _) => waiting.generation,
            (None, Some(lease)) => {
                let row = self.db.row_mut(lease).expect("it runs");
                row.running = None;
                row.is_cancelled = true;
                row.generation
            }
            (None, None) => return,
        };
        let state = self.step(from, Transition::Cancel);
        self.end(job, generation, state);
    }

    /// `sluice.replay_job`.
    pub(crate) fn replay(&mut self, protocol: &Protocol, job: usize) {
        let from = self.db.state(job);
        self.step(from, Transition::Replay);
        let last = self.db.jobs[job].ends.len() as u8;
        let generation = last + u8::from(protocol.keeps(Rule::ReplayIsNewGeneration));
        let lease_no = self.db.leases.iter().flatten().filter(|row| row.job == job).map(|row| row.lease_no);
        let lease_no = lease_no.max().unwrap_or(0);
        self.db.jobs[job].ready = Some(Waiting { generation, lease_no, ..FRESH });
        self.seen.lost[job] = 0;
    }

    /// `sluice.release_job`: a person has looked, so the crashes are forgiven.
    pub(crate) fn release(&mut self, job: usize) {
        let from = self.db.state(job);
        let Some((waiting, _)) = self.db.jobs[job].held.take() else { return };
        self.step(from, Transition::Release);
        self.db.jobs[job].ready = Some(Waiting { crashes: 0, ..waiting });
        self.seen.released[job] += 1;
        self.seen.lost[job] = 0;
    }

    /// `sluice.deadlines_end`, for one job whose deadline has passed.
    pub(crate) fn pass_deadline(&mut self, job: usize) {
        let from = self.db.state(job);
        let row = &mut self.db.jobs[job];
        let waiting = row.ready.take().or_else(|| row.held.take().map(|(waiting, _)| waiting));
        let Some(waiting) = waiting else { return };
        let state = self.step(from, Transition::DeadlineOut);
        self.end(job, waiting.generation, state);
    }
}
