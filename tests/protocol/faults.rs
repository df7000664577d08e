//! What goes wrong: workers that stop, are cut off or killed; a database that is away, jumps or fails over. And time.

use crate::{
    action::Action,
    process::{Call, Life, Phase},
    protocol::Protocol,
    rules::Rule,
    world::{Database, TTL, World},
};

impl World {
    /// Does the step, if it is a fault or the end of one. Says whether it was.
    pub(crate) fn perform_fault(&mut self, protocol: &Protocol, action: Action) -> bool {
        match action {
            Action::Stop { worker } => {
                self.left.stops -= 1;
                self.suffer(worker, Life::Stopped);
            }
            Action::CutOff { worker } => {
                self.left.cuts -= 1;
                self.suffer(worker, Life::Cut);
            }
            Action::GoOn { worker } => self.workers[worker].life = Life::Up,
            Action::Kill { worker } => {
                self.left.kills -= 1;
                self.kill(worker);
            }
            Action::KnownDead { worker } => {
                let incarnation = self.workers[worker].incarnation;
                self.mark_dead(&[incarnation]);
                self.end_leases_of(protocol, incarnation);
            }
            Action::OutageBegins => {
                self.left.outages -= 1;
                self.db.is_away = true;
            }
            Action::OutageEnds => self.db.is_away = false,
            Action::ClockJumps => self.jump_clock(),
            Action::StandbyCopies => self.standby = Some(Box::new(self.db.clone())),
            Action::FailOver => self.fail_over(),
            _ => return false,
        }
        true
    }

    fn suffer(&mut self, worker: usize, life: Life) {
        self.seen.other_faults = true;
        self.workers[worker].life = life;
    }

    fn kill(&mut self, worker: usize) {
        self.suffer(worker, Life::Gone);
        let it = &mut self.workers[worker];
        (it.own_age, it.knows_dead, it.late_ack) = (0, false, None);
        for hand in self.hands.iter_mut().filter(|hand| hand.worker == worker) {
            if hand.call == Call::UnderWay {
                hand.call = Call::Cut;
            }
            if !matches!(hand.phase, Phase::Told(_)) {
                hand.phase = Phase::Over;
            }
        }
    }

    /// The database's clock goes forward by more than a TTL: every beat looks old.
    fn jump_clock(&mut self) {
        self.left.clock_jumps -= 1;
        self.db.age_beats(TTL);
        for reaper in &mut self.reapers {
            reaper.is_jumped = true;
        }
    }

    /// The standby takes over with what it had. Rows that it never got are lost, and with them the begun rows of calls.
    fn fail_over(&mut self) {
        self.left.fail_overs -= 1;
        self.seen.other_faults = true;
        let taken = self.standby.take().expect("a standby was modelled");
        let lost = std::mem::replace(&mut self.db, *taken);
        self.db.leases.resize(lost.leases.len(), None);
        self.db.incarnations.resize(lost.incarnations.len(), None);
        for (lease, hand) in self.hands.iter_mut().enumerate() {
            hand.is_forgotten |= self.db.row(lease).is_none();
        }
        // What was repeated until now is counted with the rows that are lost.
        self.seen.repeated.fill(0);
        for reaper in &mut self.reapers {
            reaper.is_other_server = true;
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, protocol: &Protocol) {
        for worker in self.workers.iter_mut().filter(|worker| worker.life != Life::Gone) {
            if worker.late_ack.is_some() && worker.own_age > 0 && worker.life == Life::Up {
                self.seen.other_faults = true;
            }
            worker.late_ack = worker.late_ack.map(|age| (age + 1).min(TTL));
            if worker.life != Life::Stopped || protocol.keeps(Rule::ClockCountsSuspend) {
                worker.own_age = (worker.own_age + 1).min(TTL);
            }
        }
        self.db.age_beats(1);
        if let Some(standby) = &mut self.standby {
            standby.age_beats(1);
        }
        for reaper in &mut self.reapers {
            reaper.age();
        }
    }
}

impl Database {
    fn age_beats(&mut self, ticks: u8) {
        for row in self.incarnations.iter_mut().flatten().filter(|row| !row.is_dead) {
            row.beat_age = (row.beat_age + ticks).min(TTL);
        }
    }
}
