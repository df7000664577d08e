//! Writes down what this worker's calls say of limits that the provider does not tell, and hears what others wrote.

use std::{sync::Arc, time::Duration};

use sluice_store::{NewBelief, StoreError};
use tokio::time::{Instant, sleep};

use crate::{adaptive::Move, core::Core, incarnation::bounded};

/// Between two looks, where there is anything to look at.
const TICK: Duration = Duration::from_millis(100);
/// After a refusal the next look is so soon: what is refused meanwhile belongs to the same sample.
const GATHER: Duration = Duration::from_millis(16);

/// Keeps the beliefs until the worker is over.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.signals.ended.cancelled() => return,
            () = core.adaptive.stirred.notified() => sleep(GATHER).await,
            () = sleep(TICK), if core.adaptive.has_any() => {}
        }
        for made in core.adaptive.moves(Instant::now()) {
            if let Err(error) = write(&core, &made).await {
                core.adaptive.failed(&made, Instant::now());
                tracing::debug!(%error, "what is believed of a limit could not be written; it is tried again");
            }
        }
    }
}

async fn write(core: &Core, made: &Move) -> Result<(), StoreError> {
    let belief = &made.belief;
    let new = NewBelief {
        cap: belief.cap,
        refused_at: belief.refused_at,
        raises: belief.raises,
        falls: belief.falls,
        because: belief.because.as_str(),
    };
    let sent_at = Instant::now();
    let stored = bounded(core.store.limit_believe_if_newest(made.limit, made.seen, new)).await?;
    if let Some(stored) = &stored {
        tracing::debug!(
            limit.id = made.limit.0,
            cap = stored.cap,
            because = stored.because,
            is_own = stored.version == made.seen + 1,
            "how many calls at once a provider takes is believed anew"
        );
    }
    let has_more_room = core.adaptive.told(made, stored, sent_at, Instant::now());
    core.rooms.rested(made.limit);
    if has_more_room {
        core.rooms.freed(&[made.limit]);
    }
    // What was left out while it rested is looked at again, too.
    core.signals.changed.notify_one();
    Ok(())
}
