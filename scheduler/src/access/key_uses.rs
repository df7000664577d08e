//! When keys were last used, written to the minute and many at a time: it is for people who look for keys that nobody
//! needs any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_domain::ApiKeyId;
use sluice_store::Store;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::server::{READ_PATIENCE, asked};

/// Between the first use after a rest and its note.
const GATHER: Duration = Duration::from_secs(45);

#[derive(Clone, Default)]
pub(super) struct KeyUses(Arc<Noted>);

#[derive(Default)]
struct Noted {
    last: Mutex<HashMap<ApiKeyId, Instant>>,
    first: Notify,
}

impl KeyUses {
    /// Starts the task that writes; it ends with `stopping`, after it has written what is noted.
    pub(super) fn start(store: Store, stopping: CancellationToken) -> Self {
        let uses = Self::default();
        tokio::spawn(uses.clone().write(store, stopping));
        uses
    }

    pub(super) fn note(&self, key: ApiKeyId) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            self.0.first.notify_one();
        }
        last.insert(key, Instant::now());
    }

    async fn write(self, store: Store, stopping: CancellationToken) {
        loop {
            let gathered = async {
                self.0.first.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            let is_last = stopping.run_until_cancelled(gathered).await.is_none();
            let noted = std::mem::take(&mut *self.0.last.lock().unwrap_or_else(PoisonError::into_inner));
            let uses: Vec<_> = noted.into_iter().map(|(key, at)| (key, at.elapsed())).collect();
            // What is lost here says less about a key, and nothing wrong for long.
            if !uses.is_empty() && asked(READ_PATIENCE, store.api_keys_note_use(&uses)).await.is_err() {
                tracing::debug!(keys = uses.len(), "the use of API keys could not be noted");
            }
            if is_last {
                return;
            }
        }
    }
}
