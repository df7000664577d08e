//! What can happen next in a world.

use sluice_domain::JobState;

use crate::{
    process::{Life, Phase},
    protocol::Protocol,
    rules::Rule,
    world::{BEAT_DUE, START_WITHIN, World},
};

/// One step. Leases, jobs, workers and reapers are named by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    Submit {
        job: usize,
    },
    Cancel {
        job: usize,
    },
    Replay {
        job: usize,
    },
    Release {
        job: usize,
    },
    DeadlinePasses {
        job: usize,
    },
    Lease {
        worker: usize,
        job: usize,
    },
    /// A lease statement whose answer nobody awaits any more is executed.
    LeaseUnheard {
        worker: usize,
        job: usize,
    },
    LeaseHeard {
        lease: usize,
    },
    LeaseAnswerLost {
        lease: usize,
    },
    StrayFound {
        lease: usize,
    },
    LastLook {
        lease: usize,
    },
    FirstByte {
        lease: usize,
    },
    ConnectionRefused {
        lease: usize,
    },
    AnswerSucceeded {
        lease: usize,
    },
    AnswerErred {
        lease: usize,
    },
    CallCut {
        lease: usize,
    },
    CancelHeard {
        lease: usize,
    },
    Settle {
        lease: usize,
    },
    /// It is written, and the acknowledgement is lost.
    SettleUnheard {
        lease: usize,
    },
    HandBack {
        lease: usize,
    },
    HandBackUnheard {
        lease: usize,
    },
    Beat {
        worker: usize,
    },
    /// It is written, and the acknowledgement takes its time.
    BeatSlow {
        worker: usize,
    },
    BeatHeard {
        worker: usize,
    },
    Renew {
        worker: usize,
    },
    Stop {
        worker: usize,
    },
    CutOff {
        worker: usize,
    },
    GoOn {
        worker: usize,
    },
    Kill {
        worker: usize,
    },
    /// Its lock file is free.
    KnownDead {
        worker: usize,
    },
    Scan {
        reaper: usize,
    },
    /// The second half of a scan that is not one statement; only with that rule out.
    ActOnFound {
        reaper: usize,
    },
    OutageBegins,
    OutageEnds,
    ClockJumps,
    StandbyCopies,
    FailOver,
    Tick,
}

impl World {
    /// All steps that are possible.
    pub(crate) fn possible(&self, protocol: &Protocol, actions: &mut Vec<Action>) {
        (0..self.db.jobs.len()).for_each(|job| self.steps_of_job(job, actions));
        (0..self.workers.len()).for_each(|worker| self.steps_of_worker(protocol, worker, actions));
        (0..self.hands.len()).for_each(|lease| self.steps_of_lease(protocol, lease, actions));
        self.steps_of_database(protocol, actions);
        if self.may_tick() {
            actions.push(Action::Tick);
        }
    }

    fn steps_of_job(&self, job: usize, actions: &mut Vec<Action>) {
        if self.db.is_away {
            return;
        }
        if !self.db.jobs[job].is_submitted {
            actions.push(Action::Submit { job });
        }
        let Some(state) = self.db.state(job) else { return };
        let may = |left: u8, is_possible: bool| left > 0 && is_possible;
        let waits = matches!(state, JobState::Queued | JobState::Held);
        let steps = [
            (may(self.left.cancels, !state.is_terminal()), Action::Cancel { job }),
            (may(self.left.replays, state.is_terminal()), Action::Replay { job }),
            (may(self.left.releases, state == JobState::Held), Action::Release { job }),
            (may(self.left.deadlines, waits), Action::DeadlinePasses { job }),
        ];
        actions.extend(steps.into_iter().filter_map(|(is_possible, step)| is_possible.then_some(step)));
    }

    fn steps_of_worker(&self, protocol: &Protocol, worker: usize, actions: &mut Vec<Action>) {
        let it = &self.workers[worker];
        if self.reaches_database(worker) {
            let has_news = it.own_age > 0 || !self.db.is_alive(it.incarnation);
            if has_news && !it.knows_dead {
                actions.push(Action::Beat { worker });
            }
            if self.left.slow_beats > 0 && has_news && self.db.is_alive(it.incarnation) {
                actions.push(Action::BeatSlow { worker });
            }
            if it.knows_dead && self.db.incarnations.len() < protocol.bounds.incarnations {
                actions.push(Action::Renew { worker });
            }
        }
        if it.late_ack.is_some() && it.life == Life::Up {
            actions.push(Action::BeatHeard { worker });
        }
        self.leases_by(protocol, worker, actions);
        self.faults_of_worker(worker, actions);
    }

    fn leases_by(&self, protocol: &Protocol, worker: usize, actions: &mut Vec<Action>) {
        let it = &self.workers[worker];
        // Workers are alike: whoever is first is called 0.
        let is_its_turn = worker == 0 || !self.hands.is_empty();
        if self.hands.len() >= protocol.bounds.leases || !is_its_turn {
            return;
        }
        if self.db.is_away || it.life == Life::Gone || !self.db.is_alive(it.incarnation) {
            return;
        }
        let may_lease =
            it.life == Life::Up && !it.knows_dead && it.own_age <= START_WITHIN && !self.awaits_lease(worker);
        for job in (0..self.db.jobs.len()).filter(|job| self.db.jobs[*job].ready.is_some()) {
            if may_lease {
                actions.push(Action::Lease { worker, job });
            }
            if self.left.lost_answers > 0 {
                actions.push(Action::LeaseUnheard { worker, job });
            }
        }
    }

    pub(crate) fn awaits_lease(&self, worker: usize) -> bool {
        self.hands.iter().any(|hand| hand.worker == worker && hand.phase == Phase::Coming)
    }

    /// A fault of a worker that has nothing to do changes nothing worth a look.
    fn faults_of_worker(&self, worker: usize, actions: &mut Vec<Action>) {
        let is_busy = self.hands.iter().any(|hand| {
            hand.worker == worker && !matches!(hand.phase, Phase::Told(_) | Phase::Over | Phase::Unheard)
        });
        match self.workers[worker].life {
            Life::Up if is_busy => {
                let faults = [
                    (self.left.stops, Action::Stop { worker }),
                    (self.left.cuts, Action::CutOff { worker }),
                    (self.left.kills, Action::Kill { worker }),
                ];
                actions.extend(faults.into_iter().filter_map(|(left, fault)| (left > 0).then_some(fault)));
            }
            Life::Cut | Life::Stopped => actions.push(Action::GoOn { worker }),
            Life::Gone if !self.db.is_away => actions.push(Action::KnownDead { worker }),
            Life::Up | Life::Gone => {}
        }
    }

    fn steps_of_database(&self, protocol: &Protocol, actions: &mut Vec<Action>) {
        let is_at_work = self.db.leases.iter().flatten().any(|row| row.running.is_some());
        if self.db.is_away {
            actions.push(Action::OutageEnds);
            return;
        }
        for reaper in 0..self.reapers.len() {
            actions.push(Action::Scan { reaper });
            if !self.reapers[reaper].found.is_empty() {
                actions.push(Action::ActOnFound { reaper });
            }
        }
        if self.left.outages > 0 && is_at_work && self.may_go_away(protocol) {
            actions.push(Action::OutageBegins);
        }
        if self.left.clock_jumps > 0 && is_at_work {
            actions.push(Action::ClockJumps);
        }
        if self.left.fail_overs > 0 {
            if self.standby.is_none() {
                actions.push(Action::StandbyCopies);
            } else {
                actions.push(Action::FailOver);
            }
        }
    }

    /// An outage comes after every worker that could had beaten since the one before.
    fn may_go_away(&self, protocol: &Protocol) -> bool {
        let is_second = self.left.outages < protocol.bounds.faults.outages;
        let has_beaten = self.workers.iter().all(|it| it.life != Life::Up || it.own_age <= BEAT_DUE);
        !is_second || has_beaten || !protocol.keeps(Rule::BeatBetweenOutages)
    }

    /// Time does not pass while a healthy worker has a beat due that the database would take: its interval is shorter
    /// than a tick.
    fn may_tick(&self) -> bool {
        self.workers.iter().all(|worker| {
            let is_healthy = worker.life == Life::Up && !self.db.is_away && !worker.knows_dead;
            !is_healthy || worker.own_age < BEAT_DUE || worker.late_ack.is_some()
        })
    }
}
