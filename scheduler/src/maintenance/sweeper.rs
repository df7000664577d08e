//! Forgets what is kept for minutes only: which clients went away, the tokens of streams; and
//! files that have expired.

use std::time::Duration;

use sluice_store::Store;

use super::pace::{asked, rest};
use crate::{door, streams};

const PERIOD: Duration = Duration::from_mins(1);
const PAGE: u32 = 10_000;
/// Of streams, each of which may have thousands of events.
const STREAM_PAGE: u32 = 500;
/// Of files, each of which may have hundreds of chunks.
const FILE_PAGE: u32 = 10;

pub(super) struct Sweeper {
    store: Store,
}

impl Sweeper {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(super) async fn run(self) {
        loop {
            // A full page may hide more: look again at once.
            while self.forget_left_calls().await >= u64::from(PAGE) {}
            while self.forget_files().await >= u64::from(FILE_PAGE) {}
            while self.forget_streams().await >= u64::from(STREAM_PAGE) {}
            rest(PERIOD).await;
        }
    }

    async fn forget_left_calls(&self) -> u64 {
        let forgetting = self.store.left_calls_forget(door::LEFT_WINDOW, PAGE);
        asked("forget_left_calls", forgetting).await.unwrap_or(0)
    }

    async fn forget_files(&self) -> u64 {
        asked("forget_files", self.store.files_forget(FILE_PAGE)).await.unwrap_or(0)
    }

    async fn forget_streams(&self) -> u64 {
        let forgetting = self.store.streams_forget(streams::KEPT, STREAM_PAGE);
        asked("forget_streams", forgetting).await.unwrap_or(0)
    }
}
