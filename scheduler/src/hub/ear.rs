//! Hears bells for the hub. Without it, everything is found by polling.

use std::{sync::Arc, time::Duration};

use sluice_store::{Doorbell, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Between two tries to listen.
const RETRY: Duration = Duration::from_secs(2);

/// Passes bells on to `bell` until `stopping`.
pub(super) async fn listen(store: Store, bell: Arc<Notify>, stopping: CancellationToken) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = listen_for_ever(store, &bell) => {}
    }
}

async fn listen_for_ever(store: Store, bell: &Notify) {
    loop {
        match store.listen(&[Doorbell::Ended]).await {
            Ok(mut listener) => {
                // What rang before this moment was not heard.
                bell.notify_one();
                while listener.heard().await.is_ok() {
                    bell.notify_one();
                }
            }
            Err(error) => tracing::debug!(error = %error, "bells can't be heard; polling goes on"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
