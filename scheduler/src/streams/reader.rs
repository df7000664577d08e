//! One reader of a stream.

use std::{collections::VecDeque, sync::Arc};

use sluice_domain::JobId;
use sluice_store::{StoreError, StreamEvent, StreamPosition};
use tokio::sync::mpsc;

use super::StreamHub;

/// The most events of one look at the rest.
const PAGE: u32 = 1_000;

/// Follows the stream of one job. Dropping it frees its place.
pub(crate) struct StreamReader {
    hub: Arc<StreamHub>,
    place: u64,
    job: JobId,
    coming: mpsc::Receiver<StreamEvent>,
    /// What was read at the end of the job.
    rest: VecDeque<StreamEvent>,
}

impl StreamReader {
    pub(super) fn new(
        hub: Arc<StreamHub>,
        place: u64,
        job: JobId,
        coming: mpsc::Receiver<StreamEvent>,
    ) -> Self {
        Self { hub, place, job, coming, rest: VecDeque::new() }
    }

    /// The next event; never comes back where there will be none. Events may come twice. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> StreamEvent {
        match self.coming.recv().await {
            Some(event) => event,
            // The hub has stopped.
            None => std::future::pending().await,
        }
    }

    /// Reads all there is from an event on: after the job's end nothing more comes.
    pub(crate) async fn read_rest(&mut self, lease_no: u32, event_no: u32) -> Result<(), StoreError> {
        let mut position = StreamPosition { job: self.job, lease_no, event_no, limit: PAGE };
        loop {
            let page = self.hub.store.stream_events_read(&[position]).await?;
            let is_last = page.len() < PAGE as usize;
            self.rest.extend(page.into_iter().map(|(_, event)| event));
            match self.rest.back() {
                Some(last) if !is_last => {
                    (position.lease_no, position.event_no) = (last.lease_no, last.event_no + 1);
                }
                _ => return Ok(()),
            }
        }
    }

    /// The next event of the rest.
    pub(crate) fn next_of_rest(&mut self) -> Option<StreamEvent> {
        self.rest.pop_front()
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.hub.leave(self.place);
    }
}
