//! Reading the tokens of jobs that clients wait for: one task asks for everybody, as `hub` does for the ends of jobs.
//!
//! A worker writes the events of a stream and rings; the task reads what is new for all readers in one statement, and
//! hands it on. Where bells are not heard (a pooler without a direct URL), that shows by events that nobody rang for:
//! then the task looks every [`DEAF_POLL`] instead of every [`POLL`], as long as anybody reads.
//!
//! While a job has a reader, its row in `stream_waits` is kept ahead of the clock; it tells workers to write at all. A
//! reader that goes away may come back within [`WINDOW`], and finds what was written meanwhile.

mod reader;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_domain::JobId;
use sluice_store::{Doorbell, Store, StoreError, StreamEvent, StreamPosition};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(crate) use self::reader::StreamReader;

/// For so long, from each moment on that somebody waits, workers write a stream.
pub(crate) const WINDOW: Duration = Duration::from_mins(2);
/// Streams are forgotten so long after [`WINDOW`].
pub(crate) const KEPT: Duration = Duration::from_mins(5);
/// How often `stream_waits` is moved on.
const RENEW: Duration = Duration::from_secs(30);
/// How often is looked where bells are heard, and where they are not.
const POLL: Duration = Duration::from_secs(1);
const DEAF_POLL: Duration = Duration::from_millis(25);
/// Between two looks at least.
const GAP: Duration = Duration::from_millis(4);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to listen.
const LISTEN_RETRY: Duration = Duration::from_secs(2);
/// The most events that wait for a client that reads slowly.
const AHEAD: usize = 256;

/// Knows who reads which stream.
pub(crate) struct StreamHub {
    store: Store,
    places: Mutex<Places>,
    /// Somebody came.
    arrival: Notify,
    bell: Notify,
    /// Whether events were found that no bell had told of.
    is_deaf: AtomicBool,
}

#[derive(Default)]
struct Places {
    next: u64,
    readers: HashMap<u64, Place>,
}

/// Up to where a reader has been given events.
struct Place {
    job: JobId,
    lease_no: u32,
    event_no: u32,
    events: mpsc::Sender<StreamEvent>,
}

impl StreamHub {
    /// Starts the task, which ends with `stopping`.
    pub(crate) fn start(store: Store, stopping: CancellationToken) -> Arc<Self> {
        let hub = Arc::new(Self {
            store,
            places: Mutex::default(),
            arrival: Notify::new(),
            bell: Notify::new(),
            // Until the first bell is heard.
            is_deaf: AtomicBool::new(true),
        });
        let task = Arc::clone(&hub);
        tokio::spawn(async move {
            stopping.run_until_cancelled(task.read_for_everybody()).await;
        });
        hub
    }

    /// Follows a job's stream from an event on. Until this is renewed, workers write for `WINDOW`.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        job: JobId,
        lease_no: u32,
        event_no: u32,
    ) -> Result<StreamReader, StoreError> {
        let (events, coming) = mpsc::channel(AHEAD);
        let place = {
            let mut places = self.lock();
            places.next += 1;
            let place = places.next;
            places.readers.insert(place, Place { job, lease_no, event_no, events });
            place
        };
        let reader = StreamReader::new(Arc::clone(self), place, job, coming);
        self.store.streams_wait(&[job], WINDOW).await?;
        self.arrival.notify_one();
        Ok(reader)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, place: u64) {
        self.lock().readers.remove(&place);
    }

    async fn read_for_everybody(self: Arc<Self>) {
        let mut listening = None;
        let mut renewed_at = Instant::now();
        loop {
            if self.lock().readers.is_empty() {
                self.arrival.notified().await;
                renewed_at = Instant::now();
                continue;
            }
            if listening.is_none() {
                listening = Some(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self).listen())));
            }
            if renewed_at.elapsed() >= RENEW {
                renewed_at = Instant::now();
                self.renew().await;
            }
            let was_rung = self.rest().await;
            self.look(was_rung).await;
            sleep(GAP).await;
        }
    }

    /// Waits for a bell or the next look without one; says which it was.
    async fn rest(&self) -> bool {
        let poll = if self.is_deaf.load(Ordering::Relaxed) { DEAF_POLL } else { POLL };
        tokio::select! {
            () = self.bell.notified() => true,
            () = self.arrival.notified() => true,
            () = sleep(poll) => false,
        }
    }

    async fn look(&self, was_rung: bool) {
        let positions = self.positions();
        if positions.is_empty() {
            return;
        }
        let wanted: Vec<_> = positions.iter().map(|(_, position)| *position).collect();
        match timeout(PATIENCE, self.store.stream_events_read(&wanted)).await {
            Ok(Ok(events)) => {
                if !was_rung && !events.is_empty() {
                    self.is_deaf.store(true, Ordering::Relaxed);
                }
                self.hand_on(&positions, events);
            }
            Ok(Err(error)) => tracing::debug!(error = %error, "streams could not be read"),
            Err(_) => tracing::debug!("streams could not be read in time"),
        }
    }

    /// What each reader wants next that has room for it.
    fn positions(&self) -> Vec<(u64, StreamPosition)> {
        let places = self.lock();
        let wanting = places.readers.iter().filter(|(_, place)| place.events.capacity() > 0);
        wanting
            .map(|(id, place)| {
                let (job, lease_no, event_no) = (place.job, place.lease_no, place.event_no);
                (*id, StreamPosition { job, lease_no, event_no, limit: place.events.capacity() as u32 })
            })
            .collect()
    }

    fn hand_on(&self, positions: &[(u64, StreamPosition)], events: Vec<(usize, StreamEvent)>) {
        let mut places = self.lock();
        for (index, event) in events {
            let Some(place) = positions.get(index).and_then(|(id, _)| places.readers.get_mut(id)) else {
                continue;
            };
            let (lease_no, event_no) = (event.lease_no, event.event_no);
            // One that has no room, or is gone, is not moved on.
            if place.events.try_send(event).is_ok() {
                (place.lease_no, place.event_no) = (lease_no, event_no + 1);
            }
        }
    }

    async fn renew(&self) {
        let jobs: Vec<_> = self.lock().readers.values().map(|place| place.job).collect();
        match timeout(PATIENCE, self.store.streams_wait(&jobs, WINDOW)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error, "waits for streams could not be renewed"),
            Err(_) => tracing::debug!("waits for streams could not be renewed in time"),
        }
    }

    async fn listen(self: Arc<Self>) {
        loop {
            match self.store.listen(&[Doorbell::Streamed]).await {
                Ok(mut listener) => {
                    while let Ok(heard) = listener.heard().await {
                        if heard.is_some() {
                            self.is_deaf.store(false, Ordering::Relaxed);
                        }
                        self.bell.notify_one();
                    }
                }
                Err(error) => tracing::debug!(error = %error, "bells can't be heard; streams are polled"),
            }
            self.is_deaf.store(true, Ordering::Relaxed);
            sleep(LISTEN_RETRY).await;
        }
    }
}
