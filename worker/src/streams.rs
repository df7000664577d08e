//! Tokens for those who wait for them: the events of streamed answers, written as they come.
//!
//! Worker and scheduler have nothing between them but the database. So the events of all streams are written by one
//! statement, the first at once and further ones every [`GAP`]; it rings, and the scheduler reads. For a job that nobody
//! waits for nothing is written: the same statement asks, at its first event and each [`ASK_AGAIN`] after. Its events are
//! kept for [`KEEP`], for a client that comes late.
//!
//! When a call has ended, its last events are written before its outcome is: whoever sees the job ended can read all of
//! its stream. A stream that can't be written delays an outcome by [`PATIENCE`] at most, and harms nothing else: the
//! result is stored by itself, and its client gets it whole.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sluice_domain::{JobId, LeasedJob};
use sluice_provider::StreamTap;
use sluice_store::{Store, StoreError, StreamEvent};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

/// Between two writes.
const GAP: Duration = Duration::from_millis(20);
/// Between two questions whether somebody waits.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the events of a stream are kept that nobody waits for, and the most bytes of those that can't be written.
const KEEP: Duration = Duration::from_secs(5);
const KEEP_BYTES: usize = 1024 * 1024;
/// The most events of one statement.
const GROUP: usize = 4_000;
/// How long a call's outcome waits for its last events.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a statement may take.
const STATEMENT: Duration = Duration::from_secs(5);

/// What the task is told.
enum Told {
    /// An event of a stream.
    Event { job: JobId, lease_no: u32, data: Vec<u8> },
    /// A stream is over; the sender is dropped when all of it is written that is to be written.
    Over { job: JobId, lease_no: u32, end: StreamEnd, written: oneshot::Sender<Infallible> },
}

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEnd {
    /// The answer is a result.
    Whole,
    /// It is none, and may be tried again.
    Broken,
}

/// Takes the events of streams.
#[derive(Clone)]
pub(crate) struct Streams(mpsc::UnboundedSender<Told>);

/// The stream of one attempt, which may turn out to be none.
pub(crate) struct AttemptStream {
    streams: Streams,
    job: JobId,
    lease_no: u32,
    has_events: Arc<AtomicBool>,
}

impl Streams {
    /// Starts the task, which ends when the last clone is dropped.
    pub(crate) fn start(store: Store) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let now = Instant::now();
        tokio::spawn(Writer { store, told, streams: HashMap::new(), writes_at: now, rests_until: now }.run());
        Self(tell)
    }

    /// For the attempt of a lease.
    pub(crate) fn of(&self, job: &LeasedJob) -> AttemptStream {
        let has_events = Arc::new(AtomicBool::new(false));
        AttemptStream { streams: self.clone(), job: job.job_id, lease_no: job.lease_no, has_events }
    }
}

impl AttemptStream {
    /// What hears the call.
    pub(crate) fn tap(&self) -> StreamTap {
        let (tell, job, lease_no) = (self.streams.0.clone(), self.job, self.lease_no);
        let has_events = Arc::clone(&self.has_events);
        Arc::new(move |data: &[u8]| {
            has_events.store(true, Ordering::Relaxed);
            // The task lives as long as the worker.
            let _ = tell.send(Told::Event { job, lease_no, data: data.to_vec() });
        })
    }

    /// The call has ended. Comes back when whoever waits can read all of the stream.
    pub(crate) async fn over(self, end: StreamEnd) {
        // Nearly all answers are no streams, and wait for nothing.
        if !self.has_events.load(Ordering::Relaxed) {
            return;
        }
        let (written, is_written) = oneshot::channel();
        let over = Told::Over { job: self.job, lease_no: self.lease_no, end, written };
        if self.streams.0.send(over).is_ok() {
            // The sender is dropped, never used.
            let _ = timeout(PATIENCE, is_written).await;
        }
    }
}

/// Whether somebody waits for a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    NotAsked,
    WaitedFor,
    AloneSince(Instant),
    /// Its first events were thrown away: nobody can follow it any more.
    GivenUp,
}

struct Stream {
    lease_no: u32,
    began: Instant,
    standing: Standing,
    /// What is not written; `None` in its place at the end of a broken stream.
    waiting: Vec<Option<Vec<u8>>>,
    bytes: usize,
    /// The number of the first that waits.
    first_no: u32,
    over: Option<oneshot::Sender<Infallible>>,
}

impl Stream {
    fn new(lease_no: u32) -> Self {
        Self {
            lease_no,
            began: Instant::now(),
            standing: Standing::NotAsked,
            waiting: Vec::new(),
            bytes: 0,
            first_no: 0,
            over: None,
        }
    }

    fn push(&mut self, data: Option<Vec<u8>>) {
        if self.standing != Standing::GivenUp {
            self.bytes += data.as_ref().map_or(0, Vec::len);
            self.waiting.push(data);
        }
    }

    /// Whether the next write has something of it, or asks for it.
    fn is_due(&self, now: Instant) -> bool {
        match self.standing {
            Standing::NotAsked | Standing::WaitedFor => !self.waiting.is_empty(),
            Standing::AloneSince(asked_at) => now >= asked_at + ASK_AGAIN,
            Standing::GivenUp => false,
        }
    }

    /// Whether nothing more is to be done for it.
    fn is_done(&self) -> bool {
        self.over.is_some() && (self.waiting.is_empty() || matches!(self.standing, Standing::AloneSince(_)))
    }

    fn give_up(&mut self) {
        self.standing = Standing::GivenUp;
        self.waiting = Vec::new();
        self.bytes = 0;
    }
}

struct Writer {
    store: Store,
    told: mpsc::UnboundedReceiver<Told>,
    streams: HashMap<JobId, Stream>,
    /// When the next write may begin, unless a stream is over.
    writes_at: Instant,
    /// After a write that failed, nothing is written until then.
    rests_until: Instant,
}

impl Writer {
    async fn run(mut self) {
        while self.hear().await {
            self.writes_at = Instant::now() + GAP;
            self.write().await;
            self.tidy();
        }
    }

    /// Hears what comes until something is to be written. `false`: nobody is left who could tell.
    async fn hear(&mut self) -> bool {
        loop {
            let now = Instant::now();
            let write_at = self.next_write(now);
            if write_at.is_some_and(|at| at <= now) {
                return true;
            }
            if !self.hear_until(write_at, now + ASK_AGAIN).await {
                return false;
            }
            self.tidy();
        }
    }

    /// When the next write is to begin; `None`: there is nothing to write.
    fn next_write(&self, now: Instant) -> Option<Instant> {
        let mut due = self.streams.values().filter(|stream| stream.is_due(now)).peekable();
        due.peek()?;
        let hurries = due.any(|stream| stream.over.is_some());
        Some(if hurries { self.rests_until } else { self.rests_until.max(self.writes_at) })
    }

    /// Takes what comes until `write_at`, or until a stream is over; the first alone where nothing is to be written yet.
    async fn hear_until(&mut self, write_at: Option<Instant>, look_at: Instant) -> bool {
        let may_sleep = write_at.is_some() || !self.streams.is_empty();
        loop {
            tokio::select! {
                told = self.told.recv() => {
                    let Some(told) = told else { return false };
                    let ends = matches!(told, Told::Over { .. });
                    self.take(told);
                    if ends || write_at.is_none() {
                        // What has come together goes together.
                        while let Ok(told) = self.told.try_recv() {
                            self.take(told);
                        }
                        return true;
                    }
                }
                () = sleep_until(write_at.unwrap_or(look_at)), if may_sleep => return true,
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Event { job, lease_no, data } => {
                let stream = self.streams.entry(job).or_insert_with(|| Stream::new(lease_no));
                if stream.lease_no != lease_no {
                    *stream = Stream::new(lease_no);
                }
                stream.push(Some(data));
            }
            Told::Over { job, lease_no, end, written } => {
                // An answer that was no stream has told nothing.
                let Some(stream) = self.streams.get_mut(&job) else { return };
                if stream.lease_no == lease_no {
                    if end == StreamEnd::Broken {
                        stream.push(None);
                    }
                    stream.over = Some(written);
                }
            }
        }
    }

    async fn write(&mut self) {
        let now = Instant::now();
        let mut asked = Vec::new();
        let mut events = Vec::new();
        for (job, stream) in self.streams.iter().filter(|(_, stream)| stream.is_due(now)) {
            if events.len() >= GROUP {
                break;
            }
            asked.push(*job);
            let numbered = (stream.first_no..).zip(&stream.waiting).take(GROUP);
            events.extend(numbered.map(|(event_no, data)| StreamEvent {
                job: *job,
                lease_no: stream.lease_no,
                event_no,
                data: data.clone(),
            }));
        }
        let writing = timeout(STATEMENT, self.store.stream_events_write(&asked, &events));
        match writing.await.unwrap_or_else(|_| Err(StoreError::timed_out())) {
            Ok(waited) => self.note_written(&asked, &waited),
            Err(error) => {
                tracing::debug!(error = %error, streams = asked.len(), "events could not be written");
                self.rests_until = Instant::now() + ASK_AGAIN;
            }
        }
    }

    fn note_written(&mut self, asked: &[JobId], waited: &[JobId]) {
        let now = Instant::now();
        let waited: HashSet<&JobId> = waited.iter().collect();
        for job in asked {
            let Some(stream) = self.streams.get_mut(job) else { continue };
            if waited.contains(job) {
                stream.standing = Standing::WaitedFor;
                let written = stream.waiting.len().min(GROUP);
                stream.waiting.drain(..written);
                stream.first_no += written as u32;
                stream.bytes = stream.waiting.iter().flatten().map(Vec::len).sum();
            } else {
                stream.standing = Standing::AloneSince(now);
            }
        }
    }

    /// Forgets streams that are over, and what was kept for too long.
    fn tidy(&mut self) {
        let now = Instant::now();
        for stream in self.streams.values_mut() {
            let is_alone = matches!(stream.standing, Standing::AloneSince(_));
            if (is_alone && now > stream.began + KEEP) || stream.bytes > KEEP_BYTES {
                stream.give_up();
            }
        }
        self.streams.retain(|_, stream| !stream.is_done());
    }
}
