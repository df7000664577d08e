//! From the ends of jobs to the files of a batch. Lines are written in the order of the input.

use std::{collections::HashMap, time::Duration};

use serde_json::json;
use sluice_domain::{Batch, BatchCounts, BatchStatus, ErrorClass, FileId, JobId, JobView, Usage};
use sluice_store::{BatchEnd, BatchLine, Bodies, NewFile, WrittenFile};

use super::{
    claim::{Claim, Trouble, within},
    output_line::{self, Place},
};
use crate::{
    files::{FileWriter, USUAL_LIFE},
    wall_clock,
};

/// Lines of one look: their results are in memory together.
const PAGE: u32 = 100;

/// Writes the files of a batch whose lines have all ended, and ends it.
pub(super) async fn finish(claim: &mut Claim, batch: &Batch) -> Result<(), Trouble> {
    let is_past_window = wall_clock() >= batch.times.expires_at;
    if batch.status == BatchStatus::InProgress && !is_past_window {
        within(claim.store.batch_finalize_if_in_progress(claim.batch, claim.id)).await?;
    }
    let mut files = Files::of(batch);
    let mut after = 0;
    loop {
        claim.hold().await?;
        let lines = within(claim.store.batch_lines(claim.batch, after, PAGE)).await?;
        let Some(last) = lines.last() else { break };
        after = last.line_no;
        files.write(claim, &lines).await?;
    }
    let status = match claim.hold().await? {
        BatchStatus::Cancelling => BatchStatus::Cancelled,
        _ if is_past_window && files.has_expired_lines => BatchStatus::Expired,
        _ => BatchStatus::Completed,
    };
    let end = files.end(status).await?;
    let finishing = claim.store.batch_finish_if_claimed(claim.batch, claim.id, &end);
    if !within(finishing).await? {
        return Err(Trouble::Over);
    }
    tracing::info!(batch.id = %claim.batch, status = %status, lines = end.counts.total, "a batch has ended");
    Ok(())
}

/// The two files of a batch, each of which is begun with its first line.
struct Files<'a> {
    batch: &'a Batch,
    output: Option<FileWriter>,
    errors: Option<FileWriter>,
    counts: BatchCounts,
    usage: Usage,
    has_expired_lines: bool,
}

impl<'a> Files<'a> {
    fn of(batch: &'a Batch) -> Self {
        Self {
            batch,
            output: None,
            errors: None,
            counts: BatchCounts::default(),
            usage: Usage::default(),
            has_expired_lines: false,
        }
    }

    async fn write(&mut self, claim: &Claim, lines: &[BatchLine]) -> Result<(), Trouble> {
        let ids: Vec<JobId> = lines.iter().map(|line| line.job).collect();
        let jobs = within(claim.store.jobs_by_id(&ids, Bodies::Included)).await?;
        let jobs: HashMap<JobId, JobView> = jobs.into_iter().map(|job| (job.id, job)).collect();
        for line in lines {
            let job = jobs.get(&line.job);
            self.note(job);
            let (place, text) = output_line::of(line, job);
            self.counts.total += 1;
            let file = match place {
                Place::Output => {
                    self.counts.completed += 1;
                    writer(&mut self.output, claim, self.batch, "output").await?
                }
                Place::Errors => {
                    self.counts.failed += 1;
                    writer(&mut self.errors, claim, self.batch, "error").await?
                }
            };
            file.write(&text).await?;
        }
        Ok(())
    }

    fn note(&mut self, job: Option<&JobView>) {
        let class = job.and_then(|job| job.error.as_ref()).map(|error| error.class);
        self.has_expired_lines |= class == Some(ErrorClass::DeadlineExceeded);
        if let Some(used) = job.and_then(|job| job.result.as_ref()).and_then(|result| result.usage) {
            self.usage.input_tokens += used.input_tokens;
            self.usage.cached_input_tokens += used.cached_input_tokens;
            self.usage.output_tokens += used.output_tokens;
            self.usage.reasoning_tokens += used.reasoning_tokens;
        }
    }

    async fn end(self, status: BatchStatus) -> Result<BatchEnd, Trouble> {
        // Lines that never became jobs, in a batch that was cancelled before.
        let total = self.counts.total.max(self.batch.counts.total);
        Ok(BatchEnd {
            status,
            counts: BatchCounts { total, ..self.counts },
            usage: json!({
                "input_tokens": self.usage.input_tokens,
                "input_tokens_details": {"cached_tokens": self.usage.cached_input_tokens},
                "output_tokens": self.usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": self.usage.reasoning_tokens},
                "total_tokens": self.usage.input_tokens + self.usage.output_tokens,
            }),
            output: written(self.output).await?,
            errors: written(self.errors).await?,
        })
    }
}

async fn writer<'a>(
    file: &'a mut Option<FileWriter>,
    claim: &Claim,
    batch: &Batch,
    kind: &str,
) -> Result<&'a mut FileWriter, Trouble> {
    if file.is_none() {
        let life = batch.output_expires_s.map_or(USUAL_LIFE, |seconds| Duration::from_secs(seconds.into()));
        let new = NewFile {
            id: FileId::generate(),
            tenant: batch.tenant.clone(),
            purpose: "batch_output".to_owned(),
            filename: format!("{}_{kind}.jsonl", batch.id),
            expires_in: Some(life),
        };
        *file = Some(FileWriter::begin(&claim.store, &new).await?);
    }
    Ok(file.as_mut().expect("it was made where it was missing"))
}

async fn written(file: Option<FileWriter>) -> Result<Option<WrittenFile>, Trouble> {
    match file {
        Some(file) => Ok(Some(file.finish().await?)),
        None => Ok(None),
    }
}
