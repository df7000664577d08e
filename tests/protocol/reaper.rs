//! The reapers, with the product's own brake.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sluice_policy::brake::{OutageBrake, Scan};

use crate::{
    process::{Life, Reaper},
    protocol::Protocol,
    rules::Rule,
    world::{IncarnationRow, TTL, World, Wrong},
};

/// One tick: a third of the default TTL of 15 s.
const TICK: Duration = Duration::from_secs(5);
/// Any tick, later than all that a brake remembers.
const NOW: u32 = 200;

impl World {
    /// `sluice.reap`: one scan. Nobody is marked unless the brake lets go and clocks and servers agree.
    pub(crate) fn scan(&mut self, protocol: &Protocol, number: usize) {
        let reaper = &self.reapers[number];
        let seen = seen_by(reaper);
        let brake = reaper.remembered();
        let may_mark = match brake.expects(TICK * NOW) {
            Some((now, server)) => {
                let drift = seen.database_now.signed_duration_since(now).abs();
                server == seen.postmaster_start
                    && (drift <= TimeDelta::seconds(1) || !protocol.keeps(Rule::ClocksAgree))
            }
            None => !protocol.keeps(Rule::Brake),
        };
        self.reapers[number].note(brake, seen, protocol);
        let is_late = |row: &IncarnationRow| !row.is_dead && row.beat_age >= TTL;
        let overdue = self.incarnations_that(is_late).filter(|_| may_mark).collect::<Vec<_>>();
        if !protocol.keeps(Rule::AgeTestedUnderLock) {
            self.reapers[number].found = overdue;
            self.expire_the_dead(protocol);
            return;
        }
        self.mark_dead(&overdue);
        if !protocol.keeps(Rule::ExpiryFenced) {
            let dead: Vec<usize> = self.incarnations_that(|row| row.is_dead).collect();
            self.reapers[number].found = dead.into_iter().flat_map(|dead| self.leases_of(dead)).collect();
            return;
        }
        self.expire_the_dead(protocol);
    }

    /// What was found by an earlier statement is acted on as if nothing had happened since.
    pub(crate) fn act_on_found(&mut self, protocol: &Protocol, number: usize) {
        let found = std::mem::take(&mut self.reapers[number].found);
        if protocol.keeps(Rule::ExpiryFenced) {
            self.mark_dead(&found);
            self.expire_the_dead(protocol);
        } else {
            for lease in found {
                self.expire(protocol, lease);
            }
        }
    }

    fn incarnations_that(&self, is_meant: impl Fn(&IncarnationRow) -> bool) -> impl Iterator<Item = usize> {
        let rows = self.db.incarnations.iter().enumerate();
        rows.filter(move |(_, row)| row.as_ref().is_some_and(&is_meant)).map(|(number, _)| number)
    }

    /// Marks incarnations dead.
    pub(crate) fn mark_dead(&mut self, incarnations: &[usize]) {
        for number in incarnations {
            let Some(row) = &mut self.db.incarnations[*number] else { continue };
            (row.is_dead, row.beat_age) = (true, 0);
            let worker = &self.workers[row.worker];
            let beats = worker.incarnation == *number && worker.life == Life::Up && worker.own_age < TTL;
            if beats {
                self.wrong(Wrong::ExpiredThoughBeating);
            }
        }
    }

    fn expire_the_dead(&mut self, protocol: &Protocol) {
        let dead: Vec<usize> = self.incarnations_that(|row| row.is_dead).collect();
        for incarnation in dead {
            self.end_leases_of(protocol, incarnation);
        }
    }

    /// `sluice.expire_leases`.
    pub(crate) fn end_leases_of(&mut self, protocol: &Protocol, incarnation: usize) {
        for lease in self.leases_of(incarnation) {
            self.expire(protocol, lease);
        }
    }
}

/// What the database answers to this reaper's scan: its own clock, and the server's start.
fn seen_by(reaper: &Reaper) -> Scan {
    let jump = if reaper.is_jumped { 3_600 } else { 0 };
    Scan {
        at: TICK * NOW,
        database_now: database_time(TICK * NOW) + TimeDelta::seconds(jump),
        postmaster_start: DateTime::from_timestamp(i64::from(reaper.is_other_server), 0).expect("a date"),
    }
}

fn database_time(at: Duration) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + at.as_secs() as i64, 0).expect("a date")
}

impl Reaper {
    /// The brake as this reaper's scans have left it. Its first scan engages it for a TTL, and the following ones
    /// change nothing: so a row of scans that began at the right moment leaves it as it should be.
    fn remembered(&self) -> OutageBrake {
        let mut brake = OutageBrake::new(TICK * u32::from(TTL));
        let Some(age) = self.last_scan else { return brake };
        let last = NOW - u32::from(age);
        let ttl = u32::from(TTL);
        let first = if self.brake == 0 { last - 2 * ttl } else { NOW + u32::from(self.brake) - ttl };
        for at in (first..=last).map(|tick| TICK * tick) {
            let postmaster_start = DateTime::from_timestamp(0, 0).expect("a date");
            brake.note_scan(Scan { at, database_now: database_time(at), postmaster_start });
        }
        brake
    }

    /// Takes note of a scan.
    fn note(&mut self, mut brake: OutageBrake, seen: Scan, protocol: &Protocol) {
        brake.note_scan(seen);
        let holds = (0..u32::from(TTL)).filter(|tick| brake.holds(TICK * (NOW + tick))).count();
        self.brake = if protocol.keeps(Rule::Brake) { holds as u8 } else { 0 };
        self.last_scan = Some(0);
        (self.is_jumped, self.is_other_server) = (false, false);
    }

    /// A tick passes. Older than half a TTL is as good as any age.
    pub(crate) fn age(&mut self) {
        self.last_scan = self.last_scan.map(|age| (age + 1).min(2));
        self.brake = self.brake.saturating_sub(1);
    }
}
