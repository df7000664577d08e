//! From a file to jobs. The file is read twice: nothing is stored before all of it is known to be good.

use std::{collections::HashSet, time::Duration};

use axum::body::Body;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_domain::{
    ApiPath, Batch, BatchStatus, JobId, MAX_BODY_BYTES, NewJob, Priority, QueueName, StoredFile, Tags,
};
use sluice_store::{BatchLine, Store, StoreError};

use super::claim::{Claim, Trouble, within};
use crate::{
    InvalidInput, files,
    handlers::bulk_lines::{Lines, NextLine},
    input::{CallWishes, parse_batch_line, parse_call},
};

/// The most lines of a file.
pub(crate) const MAX_LINES: u32 = 50_000;
/// The most errors that are listed.
const MAX_ERRORS: usize = 100;
/// The longest line: a body, and what stands around it.
const MAX_LINE_BYTES: usize = MAX_BODY_BYTES + 64 * 1024;
/// A page of jobs is stored when it has so many, or so many bytes of bodies.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// A chunk of the file comes from the database, which has its own bounds.
const LINE_PATIENCE: Duration = Duration::from_mins(1);

/// One validating batch: it fails, or all of its lines are jobs.
pub(super) async fn step(claim: &mut Claim, batch: &Batch) -> Result<Option<Duration>, Trouble> {
    let Some(file) = within(claim.store.file(&batch.tenant, batch.input_file)).await? else {
        let message = format!("the input file {} is gone", batch.input_file);
        return fail(claim, vec![entry("file_not_found", &message, None, None)]).await;
    };
    let checked = check(claim, batch, &file).await?;
    if !checked.errors.is_empty() {
        return fail(claim, checked.errors).await;
    }
    store_jobs(claim, batch, &file).await?;
    let beginning =
        claim.store.batch_begin_if_validating(claim.batch, claim.id, checked.total, checked.model.as_deref());
    if within(beginning).await? { Ok(Some(Duration::ZERO)) } else { Err(Trouble::Over) }
}

async fn fail(claim: &Claim, errors: Vec<Value>) -> Result<Option<Duration>, Trouble> {
    let errors = json!({"object": "list", "data": errors});
    let failing = claim.store.batch_fail_if_validating(claim.batch, claim.id, &errors);
    // One that was cancelled meanwhile is looked at again.
    Ok(if within(failing).await? { None } else { Some(Duration::ZERO) })
}

fn entry(code: &str, message: &str, param: Option<&str>, line: Option<u32>) -> Value {
    json!({"code": code, "message": message, "param": param, "line": line})
}

/// What is known of a file.
#[derive(Default)]
struct Checked {
    total: u32,
    errors: Vec<Value>,
    /// The model, while all lines ask for the same.
    model: Option<String>,
    has_many_models: bool,
    /// Hashes of all names, since half a million bytes are less than the names themselves.
    names: HashSet<[u8; 16]>,
}

impl Checked {
    fn take(&mut self, line: &[u8], batch: &Batch) -> Result<(), InvalidInput> {
        self.total += 1;
        let (custom_id, job) = job_of(line, batch)?;
        let hash = Sha256::digest(custom_id.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        if !self.names.insert(short) {
            let message = format!("the custom_id {custom_id:?} stands in an earlier line, too");
            return Err(InvalidInput::at("custom_id", "duplicate_custom_id", message));
        }
        let model = job.model.as_str();
        match &self.model {
            None if !self.has_many_models => self.model = Some(model.to_owned()),
            Some(known) if known != model => (self.model, self.has_many_models) = (None, true),
            _ => {}
        }
        Ok(())
    }

    fn refuse(&mut self, line_no: u32, error: &InvalidInput) {
        self.errors.push(entry(error.code, &error.message, error.pointer.as_deref(), Some(line_no)));
    }
}

async fn check(claim: &mut Claim, batch: &Batch, file: &StoredFile) -> Result<Checked, Trouble> {
    let mut lines = FileLines::of(&claim.store, file);
    let mut checked = Checked::default();
    while let Some((line_no, line)) = lines.next().await? {
        if checked.total >= MAX_LINES {
            let message = format!("the file has more than {MAX_LINES} lines");
            checked.errors.push(entry("too_many_lines", &message, None, Some(line_no)));
            break;
        }
        let taken = line.and_then(|line| checked.take(&line, batch));
        if let Err(error) = taken {
            checked.refuse(line_no, &error);
            if checked.errors.len() >= MAX_ERRORS {
                break;
            }
        }
        if claim.hold().await? != BatchStatus::Validating {
            return Err(Trouble::Changed);
        }
    }
    if checked.total == 0 && checked.errors.is_empty() {
        checked.errors.push(entry("empty_file", "the file has no lines", None, None));
    }
    Ok(checked)
}

/// A line and its job.
fn job_of(line: &[u8], batch: &Batch) -> Result<(String, NewJob), InvalidInput> {
    let request = parse_batch_line(line, &batch.endpoint)?;
    let wishes = CallWishes {
        queue: QueueName::from_stored(batch.queue.clone()),
        priority: Priority::new(i64::from(batch.priority)).unwrap_or_default(),
        deadline: Some(batch.times.expires_at),
        tags: Tags::from_stored(
            [
                ("batch_id".to_owned(), batch.id.to_string()),
                ("custom_id".to_owned(), request.custom_id.clone()),
            ]
            .into(),
        ),
        ..CallWishes::default()
    };
    let path = ApiPath::from_stored(batch.endpoint.clone());
    let call = parse_call(request.body.get().as_bytes(), path, &batch.tenant, wishes).map_err(|error| {
        let pointer = error.pointer.map(|pointer| format!("body{}", pointer.replace('/', ".")));
        InvalidInput { pointer, ..error }
    })?;
    Ok((request.custom_id, call.job))
}

/// Stores the jobs of all lines that have none yet.
async fn store_jobs(claim: &mut Claim, batch: &Batch, file: &StoredFile) -> Result<(), Trouble> {
    let mut lines = FileLines::of(&claim.store, file);
    let mut page = Page::default();
    while let Some((line_no, line)) = lines.next().await? {
        // It was good a moment ago, and files don't change.
        let Ok((custom_id, job)) = line.and_then(|line| job_of(&line, batch)) else { continue };
        page.push(line_no, custom_id, job);
        if page.is_full() {
            page.store(claim).await?;
        }
    }
    page.store(claim).await
}

/// Lines whose jobs are stored together.
#[derive(Default)]
struct Page {
    lines: Vec<BatchLine>,
    jobs: Vec<NewJob>,
    bytes: usize,
}

impl Page {
    fn push(&mut self, line_no: u32, custom_id: String, job: NewJob) {
        self.bytes += job.body.len();
        self.lines.push(BatchLine { line_no, custom_id, job: job.id });
        self.jobs.push(job);
    }

    fn is_full(&self) -> bool {
        self.jobs.len() >= PAGE || self.bytes >= PAGE_BYTES
    }

    async fn store(&mut self, claim: &mut Claim) -> Result<(), Trouble> {
        let Self { lines, mut jobs, .. } = std::mem::take(self);
        if lines.is_empty() {
            return Ok(());
        }
        if claim.hold().await? != BatchStatus::Validating {
            // Cancelled: what is stored is cancelled next.
            return Err(Trouble::Changed);
        }
        let named = within(claim.store.batch_lines_name(claim.batch, &lines)).await?;
        let is_known = named.iter().zip(&lines).any(|(named, line)| *named != line.job);
        if is_known {
            // Somebody was here before, and came as far as this.
            let stored: HashSet<JobId> =
                within(claim.store.jobs_stored_among(&named)).await?.into_iter().collect();
            for (job, named) in jobs.iter_mut().zip(named) {
                job.id = named;
            }
            jobs.retain(|job| !stored.contains(&job.id));
        }
        // Of two that store the same job, the key lets one through.
        within(claim.store.submit_many(&jobs)).await?;
        within(claim.store.wake_sleepers()).await?;
        Ok(())
    }
}

/// The lines of a file that are not empty, with their numbers.
struct FileLines {
    lines: Lines,
    line_no: u32,
}

impl FileLines {
    fn of(store: &Store, file: &StoredFile) -> Self {
        let content = Body::from_stream(files::content(store.clone(), file)).into_data_stream();
        Self { lines: Lines::new(content, MAX_LINE_BYTES, LINE_PATIENCE), line_no: 0 }
    }

    /// The next line, or why it can't be taken; `None` at the end.
    async fn next(&mut self) -> Result<Option<(u32, Result<bytes::Bytes, InvalidInput>)>, Trouble> {
        loop {
            self.line_no += 1;
            match self.lines.next().await {
                NextLine::Line(line) if line.trim_ascii().is_empty() => {}
                NextLine::Line(line) => return Ok(Some((self.line_no, Ok(line)))),
                NextLine::TooLong => {
                    let message = format!("the line has more than {MAX_LINE_BYTES} bytes");
                    let error = InvalidInput::malformed("line_too_large", message);
                    return Ok(Some((self.line_no, Err(error))));
                }
                NextLine::End => return Ok(None),
                NextLine::Broken(_) => return Err(StoreError::timed_out().into()),
            }
        }
    }
}
