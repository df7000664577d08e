//! Hears the doorbells of new work, of cancels, of breakers and of closed gates. Hints only: whatever is missed is found by
//! polling and by beats.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sluice_store::{Doorbell, DoorbellListener, StoreError};
use tokio::time::sleep;

use crate::{backoff::Backoff, core::Core};

/// The bells that are for workers.
const HEARD: [Doorbell; 4] = [Doorbell::Ready, Doorbell::Cancelled, Doorbell::Breakers, Doorbell::Cooled];

/// Listens until the worker is over. Where listening isn't possible it tries again, ever more seldom.
pub(crate) async fn run(core: Arc<Core>) {
    let mut backoff = Backoff::up_to(Duration::from_secs(30));
    let hearing = async {
        loop {
            match core.store.listen(&HEARD).await {
                Ok(listener) => {
                    backoff.reset();
                    // What rang before this moment was not heard.
                    core.signals.bell.notify_one();
                    let error = tokio::select! {
                        Err(error) = hear(&core, listener) => error,
                        // The network was away. Perhaps this connection is lost, and nobody will ever say so.
                        () = core.signals.beats_again.notified() => continue,
                    };
                    tracing::debug!(%error, "doorbells are not heard until the next connection");
                }
                Err(error) => tracing::debug!(%error, "doorbells can't be heard; polling finds the work"),
            }
            sleep(backoff.rest()).await;
        }
    };
    tokio::select! {
        () = core.signals.ended.cancelled() => {}
        () = hearing => {}
    }
}

async fn hear(core: &Core, mut listener: DoorbellListener) -> Result<std::convert::Infallible, StoreError> {
    loop {
        let bell = listener.heard().await?;
        if matches!(bell, None | Some(Doorbell::Ready)) {
            core.signals.bell.notify_one();
        }
        // What a cancel or a breaker is about comes with the next beat.
        let is_for_calls = matches!(bell, None | Some(Doorbell::Cancelled)) && core.held.count() > 0;
        if is_for_calls || bell == Some(Doorbell::Breakers) {
            core.signals.beat_now.notify_one();
        }
        if matches!(bell, None | Some(Doorbell::Cooled)) {
            core.cooldowns.wants_look.store(true, Ordering::Relaxed);
            core.signals.changed.notify_one();
        }
    }
}
