//! Hears the doorbells of new work and of cancels. Hints only: whatever is missed is found by polling and by beats.

use std::{sync::Arc, time::Duration};

use sluice_store::{Doorbell, DoorbellListener, StoreError};
use tokio::time::sleep;

use crate::{backoff::Backoff, core::Core};

/// Listens until the worker is over. Where listening isn't possible it tries again, ever more seldom.
pub(crate) async fn run(core: Arc<Core>) {
    let mut backoff = Backoff::up_to(Duration::from_secs(30));
    let hearing = async {
        loop {
            match core.store.listen(&[Doorbell::Ready, Doorbell::Cancelled]).await {
                Ok(listener) => {
                    backoff.reset();
                    // What rang before this moment was not heard.
                    core.signals.bell.notify_one();
                    let Err(error) = hear(&core, listener).await;
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
        if bell != Some(Doorbell::Cancelled) {
            core.signals.bell.notify_one();
        }
        if bell != Some(Doorbell::Ready) && core.held.count() > 0 {
            core.signals.beat_now.notify_one();
        }
    }
}
