//! The watchdog: ends a process in which an attempt is stuck.
//!
//! An attempt that loops for ever takes a thread of the runtime with it, while the beat, on a thread of its own, keeps its
//! lease alive. No thread can be ended from outside, so the process has to go: a few of these would stop all work. It
//! starts nothing more, gives the other attempts the grace of a drain, looks once more, and ends. The leases that are left
//! are lost with it, and the third time around the job is a suspect that is stuck in a process of its own. An attempt that
//! goes on at that last look was only slow: then the process ends like any that was asked to.
//!
//! *Stuck* is one and the same poll at several looks in a row. Looks are counted and not the time between them, so that a
//! process which was stopped, or a host which slept, looks no different from one that was not.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use sluice_domain::{JobId, LeaseId};

use crate::{
    WorkerError,
    core::{Core, Phase},
};

/// Looks in a row at the same poll after which it is stuck.
const LOOKS: u32 = 8;
/// The exit code of such an end (`EX_SOFTWARE` of sysexits).
const EXIT_STUCK: i32 = 70;
/// How long the last lines of the log may take to be written.
const LOG_GRACE: Duration = Duration::from_millis(500);
/// How often it looks whether the other attempts have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// A poll that was under way at a look: which attempt's, and which of its polls.
pub(crate) type UnderWay = (LeaseId, JobId, u64);

/// Starts the thread. It ends with the worker.
pub(crate) fn start(core: &Arc<Core>, stuck_after: Duration) -> io::Result<()> {
    let core = Arc::downgrade(core);
    let rest = stuck_after / LOOKS;
    std::thread::Builder::new().name("sluice-watchdog".to_owned()).spawn(move || watch(&core, rest))?;
    Ok(())
}

fn watch(core: &Weak<Core>, rest: Duration) {
    let mut looks = Looks::default();
    loop {
        std::thread::sleep(rest);
        let Some(core) = core.upgrade() else { return };
        if core.signals.ended.is_cancelled() {
            return;
        }
        if let Some(stuck) = looks.stuck(&core.held.polls_under_way()) {
            let (lease, job, _) = stuck;
            tracing::error!(
                job.id = %job, lease.id = %lease,
                "an attempt is stuck: this process drains and ends, to free the thread that it holds"
            );
            wait_for_others(&core, &stuck);
            // One more look: perhaps it was only slow. Then what is left under way may end like in any drain.
            if core.held.polls_under_way().contains(&stuck) {
                exit(&core);
            }
            tracing::warn!(job.id = %job, lease.id = %lease, "the attempt that was stuck goes on again");
            core.end_for(WorkerError::WasStuck);
        }
    }
}

/// Starts nothing more, and gives the others the grace, while `stuck` is.
fn wait_for_others(core: &Core, stuck: &UnderWay) {
    core.advance(Phase::NotStarting);
    let mut rests = core.timing.grace.as_millis() / DRAIN_LOOK.as_millis();
    loop {
        let under_way = core.held.polls_under_way();
        if rests == 0 || core.held.count() <= under_way.len() || !under_way.contains(stuck) {
            return;
        }
        std::thread::sleep(DRAIN_LOOK);
        rests -= 1;
    }
}

fn exit(core: &Core) -> ! {
    tracing::error!(
        leases = core.held.count(),
        "the process ends; the leases that are left are lost with it"
    );
    std::thread::sleep(LOG_GRACE);
    std::process::exit(EXIT_STUCK);
}

/// What was under way at the last look, and at how many before it.
#[derive(Default)]
struct Looks(HashMap<LeaseId, (u64, u32)>);

impl Looks {
    /// Takes a look; names an attempt that is stuck.
    fn stuck(&mut self, under_way: &[UnderWay]) -> Option<UnderWay> {
        let mut stuck = None;
        let mut seen = HashMap::with_capacity(under_way.len());
        for (lease, job, poll) in under_way {
            let looks = match self.0.get(lease) {
                Some((before, looks)) if before == poll => looks + 1,
                _ => 0,
            };
            if looks >= LOOKS {
                stuck = Some((*lease, *job, *poll));
            }
            seen.insert(*lease, (*poll, looks));
        }
        self.0 = seen;
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_poll_at_every_look_is_stuck() {
        let (slow, busy, job) = (LeaseId::generate(), LeaseId::generate(), JobId::generate());
        let mut looks = Looks::default();
        for look in 0..u64::from(LOOKS) {
            assert_eq!(looks.stuck(&[(slow, job, 1), (busy, job, 1 + 2 * look)]), None, "{look}");
        }
        assert_eq!(looks.stuck(&[(slow, job, 1), (busy, job, 99)]), Some((slow, job, 1)));
    }

    #[test]
    fn a_poll_that_ended_in_between_starts_anew() {
        let (lease, job) = (LeaseId::generate(), JobId::generate());
        let mut looks = Looks::default();
        for _ in 0..3 {
            for _ in 0..LOOKS {
                assert_eq!(looks.stuck(&[(lease, job, 1)]), None);
            }
            assert_eq!(looks.stuck(&[]), None);
        }
    }
}
