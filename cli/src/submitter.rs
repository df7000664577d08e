//! Submits jobs in batches and prints the id of each as soon as it is stored.

use indicatif::ProgressBar;
use serde_json::json;
use sluice_domain::{Conflict, JobId, NewJob, SubmitOutcome, TenantName};
use sluice_store::{Bodies, MAX_SUBMIT_BATCH, Store};

use crate::{
    args::OutputFormat,
    exit::{CliError, Exit},
    jobs, pages, stdout,
};

/// A batch's bodies together, at most.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Takes jobs, stores them batch by batch.
pub struct Submitter<'a> {
    store: &'a Store,
    output: OutputFormat,
    batch: Vec<NewJob>,
    custom_ids: Vec<String>,
    batch_bytes: usize,
    progress: ProgressBar,
    exit: Exit,
}

impl<'a> Submitter<'a> {
    /// A submitter without jobs.
    pub fn new(store: &'a Store, output: OutputFormat) -> Self {
        let progress = pages::counter("jobs submitted");
        let (batch, custom_ids) = (Vec::new(), Vec::new());
        Self { store, output, batch, custom_ids, batch_bytes: 0, progress, exit: Exit::Done }
    }

    /// Stores a single job and shows it.
    pub async fn one(self, job: NewJob) -> Result<Exit, CliError> {
        let outcome = self.store.submit(&job).await?;
        self.progress.finish_and_clear();
        let id = accepted(outcome, "--idempotency-key").map_err(|(_, error)| error)?;
        self.store.wake_sleepers().await?;
        match self.output {
            OutputFormat::Table => stdout::line(&id.to_string())?,
            OutputFormat::Json => {
                let job = self.store.job(&TenantName::default_tenant(), id, Bodies::Included).await?;
                let job = job.ok_or_else(|| jobs::no_such_job(id))?;
                stdout::bytes(&jobs::json_with_body(&job, &jobs::gates(self.store).await?))?;
            }
        }
        Ok(Exit::Done)
    }

    /// Takes one more job; `custom_id` is what its line is called.
    pub async fn add(&mut self, job: NewJob, custom_id: String) -> Result<(), CliError> {
        let is_full =
            self.batch_bytes + job.body.len() > MAX_BATCH_BYTES || self.batch.len() == MAX_SUBMIT_BATCH;
        if is_full && !self.batch.is_empty() {
            self.flush().await?;
        }
        self.batch_bytes += job.body.len();
        self.batch.push(job);
        self.custom_ids.push(custom_id);
        Ok(())
    }

    /// Stores what is left. 2 where some were refused: the others are stored.
    pub async fn finish(mut self) -> Result<Exit, CliError> {
        self.flush().await?;
        self.progress.finish_and_clear();
        Ok(self.exit)
    }

    async fn flush(&mut self) -> Result<(), CliError> {
        let outcomes = self.store.submit_many(&self.batch).await?;
        self.store.wake_sleepers().await?;
        self.progress.inc(outcomes.len() as u64);
        let mut lines = Vec::with_capacity(outcomes.len());
        for (outcome, custom_id) in outcomes.into_iter().zip(&self.custom_ids) {
            match accepted(outcome, &format!("the key of {custom_id:?}")) {
                Ok(id) => lines.push(match self.output {
                    OutputFormat::Table => id.to_string(),
                    OutputFormat::Json => json!({
                        "object": "job", "id": id, "custom_id": custom_id,
                        "created": matches!(outcome, SubmitOutcome::Created(_)),
                    })
                    .to_string(),
                }),
                Err((exit, error)) => {
                    self.exit = exit;
                    self.progress.suspend(|| eprintln!("error: {error}"));
                }
            }
        }
        self.batch.clear();
        self.custom_ids.clear();
        self.batch_bytes = 0;
        if lines.is_empty() {
            return Ok(());
        }
        self.progress.suspend(|| stdout::line(&lines.join("\n")))
    }
}

/// The id of a job that was taken, or why it was not.
fn accepted(outcome: SubmitOutcome, key: &str) -> Result<JobId, (Exit, CliError)> {
    match outcome {
        SubmitOutcome::Created(id) | SubmitOutcome::Existing(id) => Ok(id),
        SubmitOutcome::Conflict(Conflict::OtherContent(id)) => {
            let text =
                format!("{key} was used with another path, model or body by job {id}; use another key");
            Err((Exit::WrongUsage, CliError::usage(text)))
        }
        SubmitOutcome::Conflict(Conflict::KeyInUse) => {
            let text = format!("{key} is being submitted by somebody else at this moment; submit again");
            Err((Exit::Unreachable, CliError::unreachable(text)))
        }
    }
}
