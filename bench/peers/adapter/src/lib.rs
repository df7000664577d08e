//! What the peers' programs share: the protocol that the benchmarks speak with them (../README.md), the loops that are
//! timed, and the figures. A peer brings the bricks (`Peer`): how it enqueues, what its workers are, and how many of
//! its jobs are unfinished; so all are measured by the same clock, from and to the same events.

mod board;
mod measure;
mod operation;

use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use board::handled;
pub use operation::{Operation, Unsupported};

/// One worker, ready to run: it begins when it is polled, and never ends by itself.
pub type Worker = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What workers are to be tuned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As many jobs a second as can be.
    Throughput,
    /// The least time from submit to start.
    Latency,
}

/// A job's payload, which is 300 bytes as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    text: String,
}

impl Payload {
    /// The payload of every job.
    #[must_use]
    pub fn new() -> Self {
        // {"text":"…"} is eleven bytes around the text.
        Self { text: "x".repeat(289) }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::new()
    }
}

/// A queue to compare with.
pub trait Peer: Sized + Send + Sync + 'static {
    /// Creates what the peer needs in the database at `url`, empty.
    #[expect(async_fn_in_trait, reason = "it is awaited in place, never spawned")]
    async fn setup(url: &str) -> Result<()>;

    /// A client with `connections` connections to submit with.
    fn connect(url: &str, connections: u32) -> impl Future<Output = Result<Self>> + Send;

    /// Submits so many jobs over one connection, in batches as the peer's documentation has them.
    fn enqueue_bulk(&self, jobs: u64) -> impl Future<Output = Result<()>> + Send;

    /// Submits one job; called from as many clients at once as there are connections.
    fn enqueue_one(&self) -> impl Future<Output = Result<()>> + Send;

    /// Workers that call `handled` once a job and do nothing else; not yet running.
    fn workers(&self, tuning: Tuning, workers: u32) -> impl Future<Output = Result<Vec<Worker>>> + Send;

    /// How many jobs are not yet stored as done.
    fn unfinished(&self) -> impl Future<Output = Result<u64>> + Send;
}

/// The whole `main` of a peer that runs jobs: reads the arguments, does the operation, prints its line.
#[must_use]
pub fn main<P: Peer>() -> ExitCode {
    run(async |url, operation| match operation {
        Operation::Setup => P::setup(&url).await.map(|()| None),
        Operation::Fill { jobs } => measure::fill::<P>(&url, jobs).await.map(|()| None),
        Operation::EnqueueBulk { jobs } => measure::enqueue_bulk::<P>(&url, jobs).await.map(Some),
        Operation::EnqueueSingle { clients, jobs } => {
            measure::enqueue_single::<P>(&url, clients, jobs).await.map(Some)
        }
        Operation::Drain { jobs, workers } => measure::drain::<P>(&url, jobs, workers).await.map(Some),
        Operation::StartLatency { jobs } => measure::start_latency::<P>(&url, jobs).await.map(Some),
        Operation::Calls { .. } => Err(Unsupported("it runs jobs and makes no calls by itself").into()),
    })
}

/// Reads the operation and DATABASE_URL, runs `act`, prints the JSON it gives as one line. The exit code is 64 where the
/// peer has no API for the operation, 1 for a failure.
#[must_use]
pub fn run(act: impl AsyncFnOnce(String, Operation) -> Result<Option<serde_json::Value>>) -> ExitCode {
    let outcome = Operation::from_arguments(std::env::args().skip(1)).and_then(|operation| {
        let url = std::env::var("DATABASE_URL")?;
        tokio::runtime::Runtime::new()?.block_on(act(url, operation))
    });
    match outcome {
        Ok(figures) => {
            if let Some(figures) = figures {
                println!("{figures}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.is::<Unsupported>() { 64 } else { 1 })
        }
    }
}
