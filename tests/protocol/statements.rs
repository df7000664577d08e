//! The SQL functions, each as one indivisible step, in the order of their own lines: leases, hand-backs and expiry
//! (`migrations/0018`, `0022`). Others stand in `settle` and `people`.

use sluice_domain::{HoldReason, JobState, OnUnknown, Outcome, Transition};

use crate::{
    process::{Call, Hand, Phase},
    protocol::Protocol,
    rules::Rule,
    world::{Late, LeaseRow, POISON_AT, Waiting, World, Wrong},
};

impl World {
    /// The state after an edge; that there is no such edge is noted.
    pub(crate) fn step(&mut self, from: Option<JobState>, transition: Transition) -> Option<JobState> {
        let next = from.and_then(|state| state.after(transition).ok());
        if next.is_none() {
            self.wrong(Wrong::IllegalEdge);
        }
        next
    }

    /// Writes how a generation ended.
    pub(crate) fn end(&mut self, job: usize, generation: u8, state: Option<JobState>) {
        let ends = &mut self.db.jobs[job].ends;
        if ends.len() >= usize::from(generation) {
            self.wrong(Wrong::SecondEnd);
        } else {
            ends.extend(state);
        }
    }

    /// `sluice.lease`, for one job. The begun row is written with it.
    pub(crate) fn lease(&mut self, protocol: &Protocol, worker: usize, job: usize, phase: Phase) {
        let from = self.db.state(job);
        self.step(from, Transition::Lease);
        let waiting = self.db.jobs[job].ready.expect("a lease takes a queued job");
        if protocol.keeps(Rule::LeaseTakesRow) {
            self.db.jobs[job].ready = None;
        }
        let running = Waiting { lease_no: waiting.lease_no + 1, ..waiting };
        let incarnation = self.workers[worker].incarnation;
        self.db.leases.push(Some(LeaseRow {
            job,
            incarnation,
            running: Some(running),
            lease_no: running.lease_no,
            generation: running.generation,
            is_cancelled: false,
            is_begun: protocol.keeps(Rule::BegunRowFirst),
            ended: None,
            late: Late::No,
        }));
        self.hands.push(Hand {
            worker,
            incarnation,
            job,
            generation: running.generation,
            lease_no: running.lease_no,
            tries: running.tries,
            phase,
            call: Call::None,
            is_repeated: false,
            is_forgotten: false,
        });
    }

    pub(crate) fn requeue(&mut self, job: usize, from: Option<JobState>, waiting: Waiting) {
        self.step(from, Transition::Requeue);
        self.db.jobs[job].ready = Some(waiting);
    }

    pub(crate) fn hold(&mut self, job: usize, from: Option<JobState>, waiting: Waiting, reason: HoldReason) {
        self.step(from, Transition::Hold);
        self.db.jobs[job].held = Some((waiting, reason));
    }

    /// `sluice.hand_back`, for one lease.
    pub(crate) fn hand_back(&mut self, lease: usize) {
        let Some(row) = self.db.row_mut(lease) else { return };
        let job = row.job;
        if std::mem::take(&mut row.is_cancelled) {
            row.ended = Some(Outcome::NotSent);
        } else if let Some(waiting) = row.running {
            let from = self.db.state(job);
            let row = self.db.row_mut(lease).expect("it was there");
            row.running = None;
            row.ended = Some(Outcome::NotSent);
            self.requeue(job, from, waiting);
        }
    }

    /// The leases of an incarnation: what `sluice.expire_leases` moves.
    pub(crate) fn leases_of(&self, incarnation: usize) -> Vec<usize> {
        let is_its = |lease: &usize| {
            self.db.row(*lease).is_some_and(|row| {
                row.incarnation == incarnation && (row.running.is_some() || row.is_cancelled)
            })
        };
        (0..self.db.leases.len()).filter(is_its).collect()
    }

    /// `sluice.expire_leases`, for one lease.
    pub(crate) fn expire(&mut self, protocol: &Protocol, lease: usize) {
        let Some(row) = self.db.row_mut(lease) else { return };
        let job = row.job;
        if std::mem::take(&mut row.is_cancelled) {
            row.ended = row.ended.or(Some(Outcome::Lost));
            return;
        }
        let fenced = protocol.keeps(Rule::ExpiryFenced);
        let stale = Waiting { generation: row.generation, lease_no: row.lease_no, tries: 0, crashes: 0 };
        let Some(waiting) = row.running.take().or((!fenced).then_some(stale)) else { return };
        row.ended = row.ended.or(Some(Outcome::Lost));
        let from =
            if fenced { Some(JobState::Running) } else { self.db.state(job).or(Some(JobState::Running)) };
        self.seen.lost[job] += 1;
        let crashes = waiting.crashes + u8::from(protocol.keeps(Rule::LostCountsAsCrash));
        let next = Waiting { crashes, ..waiting };
        let holds = protocol.bounds.on_unknown == OnUnknown::Hold && protocol.keeps(Rule::HoldAtExpiry);
        if crashes >= POISON_AT {
            self.hold(job, from, next, HoldReason::Poison);
        } else if holds {
            self.hold(job, from, next, HoldReason::UnknownOutcome);
        } else {
            self.requeue(job, from, next);
        }
    }
}
