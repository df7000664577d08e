//! Submits jobs in batches and prints the id of each as soon as it is stored.

use indicatif::ProgressBar;
use serde_json::json;
use sluice_domain::{Conflict, JobId, NewJob};
use sluice_store::Bodies;

use crate::{
    args::OutputFormat,
    exit::{CliError, Exit},
    home::{Fate, Home},
    jobs, pages, stdout,
};

/// A batch's bodies together, at most.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Stores a single job and shows it.
pub async fn one(home: &Home, job: NewJob, output: OutputFormat) -> Result<Exit, CliError> {
    let fate = home.submit(&[job]).await?.pop();
    let fate =
        fate.ok_or_else(|| CliError::unreachable("failed to hear what became of the job; submit again"))?;
    let (id, _) = accepted(fate, "--idempotency-key")?;
    match output {
        OutputFormat::Table => stdout::line(&id.to_string())?,
        OutputFormat::Json => stdout::bytes(&jobs::json_with_body(&home.job(id, Bodies::Included).await?))?,
    }
    Ok(Exit::Done)
}

/// Takes jobs, stores them batch by batch.
pub struct Submitter<'a> {
    home: &'a Home,
    output: OutputFormat,
    batch: Vec<NewJob>,
    custom_ids: Vec<String>,
    batch_bytes: usize,
    progress: ProgressBar,
    exit: Exit,
}

impl<'a> Submitter<'a> {
    /// A submitter without jobs, which expects `total` of them.
    pub fn new(home: &'a Home, output: OutputFormat, total: u64) -> Self {
        let progress = pages::bar(total, "jobs submitted");
        let (batch, custom_ids) = (Vec::new(), Vec::new());
        Self { home, output, batch, custom_ids, batch_bytes: 0, progress, exit: Exit::Done }
    }

    /// Takes one more job; `custom_id` is what its line is called.
    pub async fn add(&mut self, job: NewJob, custom_id: String) -> Result<(), CliError> {
        let is_full =
            self.batch_bytes + job.body.len() > MAX_BATCH_BYTES || self.batch.len() == self.home.batch_size();
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
        let fates = self.home.submit(&self.batch).await?;
        self.progress.inc(fates.len() as u64);
        let mut lines = Vec::with_capacity(fates.len());
        for (fate, custom_id) in fates.into_iter().zip(&self.custom_ids) {
            let fate = match fate {
                Fate::Refused(error) => Fate::Refused(error.about(&format!("the job {custom_id:?}"))),
                fate => fate,
            };
            match accepted(fate, &format!("the key of {custom_id:?}")) {
                Ok((id, is_new)) => lines.push(match self.output {
                    OutputFormat::Table => id.to_string(),
                    OutputFormat::Json => {
                        json!({ "object": "job", "id": id, "custom_id": custom_id, "created": is_new })
                            .to_string()
                    }
                }),
                Err(error) => {
                    self.exit = error.exit();
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

/// The id of a job that was taken and whether it is new, or why it was not.
fn accepted(fate: Fate, key: &str) -> Result<(JobId, bool), CliError> {
    match fate {
        Fate::Created(id) => Ok((id, true)),
        Fate::Existing(id) => Ok((id, false)),
        Fate::Conflict(Conflict::OtherContent(id)) => Err(CliError::usage(format!(
            "{key} was used with another path, model or body by job {id}; use another key"
        ))),
        Fate::Conflict(Conflict::KeyInUse) => Err(CliError::unreachable(format!(
            "{key} is being submitted by somebody else at this moment; submit again"
        ))),
        Fate::Refused(error) => Err(error),
    }
}
