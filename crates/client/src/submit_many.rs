//! Many jobs over calls of `SubmitMany`: cut into chunks, several under way at once, answers in the order of the jobs.
//!
//! A chunk is the unit of repeating. The server answers a call once, at its end, so what is under way when a connection
//! breaks has no answers although much of it may be stored. Keys make it safe to send it again; small chunks make it cheap.
//! One call for all jobs would be no faster: the server stores them in batches of 500 either way.

use std::{collections::VecDeque, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use sluice_proto::{
    Message,
    v1::{SubmitRequest, SubmitResult, SubmitStatus},
};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    Client, Error, Refusal,
    client::{Keyed, key_of},
    retry::Repeat,
};

/// Jobs of a chunk at most: two of the server's batches.
const CHUNK_JOBS: usize = 1_000;
/// A chunk is full with this many bytes.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How long a chunk that has begun waits for more jobs.
const CHUNK_WAIT: Duration = Duration::from_millis(10);
/// Chunks under way at once, so that neither the way there and back nor the server stands still.
const CHUNKS_AT_ONCE: usize = 4;
/// A slow connection: so many bytes come through in a second. What a chunk may take longer than other calls.
const SLOW_BYTES_PER_S: u64 = 64 * 1024;
/// The word of a result that is about no job: the stream broke before there was one.
const NOT_READ: &str = "incomplete_body";

/// What became of one job of many.
#[derive(Debug)]
pub struct Submission {
    /// Its place among the jobs, from 0.
    pub index: u64,
    /// The job, or why it was refused.
    pub outcome: Result<Submitted, Error>,
}

/// A job that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// Its id (UUIDv7).
    pub id: String,
    /// Whether it is new; else its idempotency key was used before with the same content. A submit with a key that was
    /// repeated after an outage can't tell its own first try from another's.
    pub is_new: bool,
}

type Jobs = BoxStream<'static, SubmitRequest>;
/// What is known of a chunk's jobs, and why no more is.
type Answers = (Vec<Submission>, Option<Error>);

/// Submits a stream of jobs.
pub(crate) fn submit_many(client: Client, jobs: Jobs) -> BoxStream<'static, Result<Submission, Error>> {
    let chunks = stream::unfold((jobs, 0), next_chunk);
    let answers = chunks.map(move |(first, jobs)| Chunk::new(first, jobs, client.clone()).submit());
    let telling = Telling { answers: answers.buffered(CHUNKS_AT_ONCE).boxed(), told: VecDeque::new() };
    stream::unfold(Some(telling), Telling::next).boxed()
}

/// The answers on their way to the caller.
struct Telling {
    answers: BoxStream<'static, Answers>,
    told: VecDeque<Result<Submission, Error>>,
}

impl Telling {
    async fn next(this: Option<Self>) -> Option<(Result<Submission, Error>, Option<Self>)> {
        let mut this = this?;
        while this.told.is_empty() {
            let (known, error) = this.answers.next().await?;
            this.told.extend(known.into_iter().map(Ok));
            this.told.extend(error.map(Err));
        }
        let next = this.told.pop_front()?;
        // After an error nothing more is sent.
        let this = next.is_ok().then_some(this);
        Some((next, this))
    }
}

/// The next chunk with the place of its first job, and what is left; `None` at the end.
async fn next_chunk((mut jobs, first): (Jobs, u64)) -> Option<((u64, Vec<SubmitRequest>), (Jobs, u64))> {
    let mut chunk: Vec<SubmitRequest> = Vec::new();
    let mut bytes = 0;
    let mut until = None;
    while chunk.len() < CHUNK_JOBS && bytes < CHUNK_BYTES {
        let next = match until {
            None => jobs.next().await,
            Some(until) => match tokio::time::timeout_at(until, jobs.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        let Some(job) = next else { break };
        bytes += job.body.len();
        chunk.push(job);
        until = until.or_else(|| Some(Instant::now() + CHUNK_WAIT));
    }
    let next = first + chunk.len() as u64;
    (!chunk.is_empty()).then_some(((first, chunk), (jobs, next)))
}

/// A chunk on its way.
struct Chunk {
    client: Client,
    /// The place of its first job.
    first: u64,
    jobs: Vec<(SubmitRequest, Keyed)>,
    answers: Vec<Option<Submission>>,
}

impl Chunk {
    fn new(first: u64, jobs: Vec<SubmitRequest>, client: Client) -> Self {
        let missing_key = client.settings.missing_key;
        let jobs: Vec<_> = jobs
            .into_iter()
            .map(|mut job| {
                let keyed = key_of(&mut job, missing_key);
                (job, keyed)
            })
            .collect();
        let answers = jobs.iter().map(|_| None).collect();
        Self { client, first, jobs, answers }
    }

    /// Sends it until each job has its answer, or there is an error that trying again does not mend.
    async fn submit(mut self) -> Answers {
        let mut tries = self.client.tries();
        let error = loop {
            let open: Vec<usize> = (0..self.jobs.len()).filter(|at| self.answers[*at].is_none()).collect();
            if open.is_empty() {
                break None;
            }
            let status = match self.send(&open).await {
                Ok(results) => {
                    let before = open.len();
                    let status = self.take(&open, results);
                    if self.answers.iter().filter(|answer| answer.is_none()).count() < before {
                        tries.went_on();
                    }
                    status
                }
                Err(status) => Some(status),
            };
            if let Some(status) = status
                && let Err(error) = tries.again(&status, self.repeat(&open)).await
            {
                break Some(error);
            }
        };
        (self.answers.into_iter().flatten().collect(), error)
    }

    /// Whether all of these jobs may be sent again when it is not known what became of them.
    fn repeat(&self, open: &[usize]) -> Repeat {
        let all_safe = open.iter().all(|at| self.jobs[*at].1.repeat() == Repeat::Safe);
        if all_safe { Repeat::Safe } else { Repeat::OnlyIfNothingHappened }
    }

    async fn send(&self, open: &[usize]) -> Result<Vec<SubmitResult>, Status> {
        let jobs: Vec<_> = open.iter().map(|at| self.jobs[*at].0.clone()).collect();
        let bytes: usize = jobs.iter().map(Message::encoded_len).sum();
        let sending = Duration::from_secs(bytes as u64 / SLOW_BYTES_PER_S);
        let timeout = self.client.settings.timeout.saturating_add(sending);
        let request = self.client.request(stream::iter(jobs), Some(timeout));
        Ok(self.client.service.clone().submit_many(request).await?.into_inner().results)
    }

    /// Takes the answers about the jobs that were sent. What is to be sent again stays open; the status says why.
    fn take(&mut self, open: &[usize], results: Vec<SubmitResult>) -> Option<Status> {
        let mut why = None;
        let mut answered = 0;
        for result in results {
            answered += 1;
            let Some(&at) = usize::try_from(result.index).ok().and_then(|index| open.get(index)) else {
                continue;
            };
            let keyed = self.jobs[at].1;
            if let Some(error) =
                result.error.as_ref().filter(|error| is_to_be_sent_again(error.status_code, &error.code))
                && (keyed.repeat() == Repeat::Safe || error.code == NOT_READ)
            {
                why = Some(Status::unavailable(error.message.clone()));
                continue;
            }
            let index = self.first + at as u64;
            self.answers[at] = Some(Submission { index, outcome: outcome(result, keyed) });
        }
        // The server may answer before it has read all; what it did not read is sent in another call.
        why.or_else(|| (answered == 0).then(|| Status::unavailable("the server answered about no job")))
    }
}

/// Whether a job's error goes away by itself.
fn is_to_be_sent_again(status_code: i32, code: &str) -> bool {
    matches!(Code::from(status_code), Code::Unavailable | Code::Aborted) || code == NOT_READ
}

fn outcome(result: SubmitResult, keyed: Keyed) -> Result<Submitted, Error> {
    let is_created = result.status() == SubmitStatus::Created;
    match result.error {
        Some(error) => Err(Refusal::of_submit(error).into()),
        // A key of ours that was used before was used by our own first try.
        None => Ok(Submitted { id: result.id, is_new: is_created || keyed == Keyed::ByUs }),
    }
}
