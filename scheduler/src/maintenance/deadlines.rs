//! Fails jobs whose deadline passes while they wait.

use std::time::Duration;

use sluice_store::{CrashPoint, Doorbell, Store, crash_point};

use super::pace::{asked, rest};

const PERIOD: Duration = Duration::from_secs(10);
const PAGE: u32 = 1_000;

pub(super) struct DeadlineEnder {
    store: Store,
}

impl DeadlineEnder {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(super) async fn run(self) {
        loop {
            // A full page may hide more: look again at once.
            while self.end_page().await >= PAGE {}
            rest(PERIOD).await;
        }
    }

    async fn end_page(&self) -> u32 {
        let ended = asked("end_deadlines", self.store.deadlines_end(PAGE)).await.unwrap_or(0);
        if ended > 0 {
            crash_point(CrashPoint::DeadlinesEnded);
            tracing::info!(jobs = ended, "jobs failed because their deadline passed while they waited");
            asked("ring_ended", self.store.ring(Doorbell::Ended)).await;
        }
        ended
    }
}
