//! What the lease loop waits for between two rounds. Not here: what a round does (`lease_loop`).

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{WorkMode, backoff::jittered, core::Core};

/// What a round of the loop came to.
pub(crate) enum Next {
    /// Look again at once.
    Again,
    /// Every slot is taken.
    SlotFreed,
    /// Calls may not start: the lease is nearly over, or too much waits to be written.
    Allowed,
    /// Nothing can run now.
    Work { due_at: Option<Instant> },
    /// It did not work; rest.
    Rest(Duration),
    /// Nothing is left to do.
    Finished,
}

/// Waits for what a round needs to come to something. Says whether a bell rang for it.
pub(crate) async fn wait(core: &Core, mode: WorkMode, next: Next) -> bool {
    let signals = &core.signals;
    let poll = || jittered(core.timing.poll_interval);
    match next {
        Next::Again | Next::Finished => {}
        Next::SlotFreed => {
            tokio::select! {
                () = core.slots.freed() => {}
                () = signals.changed.notified() => {}
                () = sleep(poll()) => {}
            }
        }
        Next::Allowed => {
            tokio::select! {
                () = signals.changed.notified() => {}
                () = sleep(jittered(Duration::from_millis(250))) => {}
            }
        }
        Next::Rest(rest) => sleep(rest).await,
        Next::Work { due_at } => return wait_for_work(core, mode, due_at).await,
    }
    false
}

async fn wait_for_work(core: &Core, mode: WorkMode, due_at: Option<Instant>) -> bool {
    let signals = &core.signals;
    let poll_at = Instant::now() + jittered(core.timing.poll_interval);
    let ends_when_empty = mode == WorkMode::UntilIdle && core.held.count() > 0;
    loop {
        let own_due_at = signals.next_due(Instant::now());
        let until = [due_at, own_due_at].into_iter().flatten().fold(poll_at, Instant::min);
        tokio::select! {
            () = signals.bell.notified() => return true,
            () = signals.changed.notified() => return false,
            () = sleep_until(until) => return false,
            () = core.held.emptied(), if ends_when_empty => return false,
            () = signals.due_noted.notified() => {}
        }
    }
}
