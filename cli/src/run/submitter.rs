//! Submits the input's requests in large statements while the first of them are being worked.
//!
//! Every line has its idempotency key, so a request that is there already is found, not stored again: by an earlier
//! invocation, or by a statement whose answer was lost.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sluice_domain::{Conflict, JobId, NewJob, OnUnknown, SubmitOutcome, Tags, TenantName};
use sluice_store::{Doorbell, MAX_SUBMIT_BATCH, Ringer, Store};
use tokio::sync::mpsc;

use super::{identity::RunIdentity, outstanding::Outstanding, patience::patiently};
use crate::{
    exit::CliError,
    input::{Checked, FillIn, Request, RequestReader, Source},
    output_line::CUSTOM_ID_TAG,
};

/// The first statement is small, so that work starts at once.
const FIRST_BATCH: usize = 100;
/// The most bytes of bodies in a statement; one body alone may be larger.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Batches that are read ahead.
const READ_AHEAD: usize = 2;
/// Between two rings for workers that sleep.
const RING_GAP: Duration = Duration::from_millis(20);
/// Rest before a key that another process is just storing is tried again.
const KEY_REST: Duration = Duration::from_secs(1);

/// What all jobs of a run have in common.
#[derive(Clone, Debug)]
pub struct JobPattern {
    pub identity: RunIdentity,
    pub tenant: TenantName,
    pub max_attempts: Option<u16>,
    pub on_unknown: OnUnknown,
}

/// Submits all of a source's requests.
pub struct Submitter {
    pub store: Store,
    pub pattern: JobPattern,
    pub outstanding: Arc<Outstanding>,
    /// Jobs whose results OUT holds.
    pub written: HashSet<JobId>,
    /// Told of jobs that were there before: they may have ended.
    pub found: mpsc::UnboundedSender<Vec<JobId>>,
}

impl Submitter {
    /// Reads and submits to the end.
    pub async fn run(self, source: Source, checked: Arc<Checked>, fill_in: FillIn) -> Result<(), CliError> {
        let ringer = Ringer::start(self.store.clone(), Doorbell::Ready, RING_GAP);
        let (batches, mut received) = mpsc::channel(READ_AHEAD);
        let reading = tokio::task::spawn_blocking(move || read_all(&source, &checked, &fill_in, &batches));
        while let Some(batch) = received.recv().await {
            self.submit(&batch).await?;
            ringer.ring();
        }
        reading.await.map_err(|error| CliError::unreachable(format!("failed to read the input: {error}")))?
    }

    /// Submits a batch until each of its requests is stored.
    async fn submit(&self, batch: &[Request]) -> Result<(), CliError> {
        let mut waiting: Vec<&Request> = batch.iter().collect();
        while !waiting.is_empty() {
            let outcomes = patiently(|| self.submit_once(&waiting)).await?;
            let mut found = Vec::new();
            let mut in_use = Vec::new();
            for (request, outcome) in waiting.into_iter().zip(outcomes) {
                match outcome {
                    SubmitOutcome::Created(_) => {}
                    SubmitOutcome::Existing(id) => found.push(id),
                    SubmitOutcome::Conflict(Conflict::KeyInUse) => in_use.push(request),
                    SubmitOutcome::Conflict(Conflict::OtherContent(id)) => {
                        return Err(CliError::usage(format!(
                            "line {} is another request than job {id}, which was submitted for it before; leave the \
                             input alone while it is read, and run again",
                            request.line_no
                        )));
                    }
                }
            }
            found.retain(|id| !self.written.contains(id));
            self.outstanding.add(found.iter().copied());
            if !found.is_empty() {
                // Nobody listens any more when the run is over.
                let _ = self.found.send(found);
            }
            if !in_use.is_empty() {
                tokio::time::sleep(KEY_REST).await;
            }
            waiting = in_use;
        }
        Ok(())
    }

    /// Each try has ids of its own: a statement whose answer was lost may have stored the ids of the one before.
    async fn submit_once(
        &self,
        requests: &[&Request],
    ) -> Result<Vec<SubmitOutcome>, sluice_store::StoreError> {
        let jobs: Vec<NewJob> = requests.iter().map(|request| self.pattern.job(request)).collect();
        self.outstanding.add(jobs.iter().map(|job| job.id));
        let outcomes = self.store.submit_many(&jobs).await;
        let is_stored = |at: usize| {
            let outcome = outcomes.as_ref().ok().and_then(|outcomes| outcomes.get(at));
            matches!(outcome, Some(SubmitOutcome::Created(_)))
        };
        self.outstanding
            .remove(jobs.iter().enumerate().filter(|(at, _)| !is_stored(*at)).map(|(_, job)| job.id));
        outcomes
    }
}

impl JobPattern {
    fn job(&self, request: &Request) -> NewJob {
        let tags = request.own_id.iter().map(|id| (CUSTOM_ID_TAG.to_owned(), id.clone())).collect();
        NewJob {
            id: JobId::generate(),
            tenant: self.tenant.clone(),
            queue: self.identity.queue(),
            path: request.path.clone(),
            model: request.model.clone(),
            priority: request.priority,
            idempotency_key: Some(self.identity.key(request.line_no)),
            run_at: None,
            deadline: None,
            max_attempts: self.max_attempts,
            on_unknown: self.on_unknown,
            // Checked by the input: its length, and that it holds no NUL.
            tags: Tags::from_stored(tags),
            webhook: None,
            traceparent: None,
            body: request.body.clone(),
        }
    }
}

/// Reads on the calling thread. Ends early, without error, when nobody receives any more.
fn read_all(
    source: &Source,
    checked: &Checked,
    fill_in: &FillIn,
    batches: &mpsc::Sender<Vec<Request>>,
) -> Result<(), CliError> {
    let mut reader = RequestReader::open(source, checked, fill_in)?;
    let (mut batch, mut bytes, mut most) = (Vec::new(), 0, FIRST_BATCH);
    while let Some(request) = reader.next_request()? {
        bytes += request.body.len();
        batch.push(request);
        if batch.len() >= most || bytes >= MAX_BATCH_BYTES {
            if batches.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
            (bytes, most) = (0, MAX_SUBMIT_BATCH);
        }
    }
    if !batch.is_empty() && batches.blocking_send(batch).is_err() {
        return Ok(());
    }
    reader.finish()
}
