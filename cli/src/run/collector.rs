//! Fetches results of jobs that ended and hands them to the writer, each once.

use std::{collections::BTreeSet, sync::Arc};

use sluice_domain::{JobId, JobState};
use sluice_store::{Bodies, Store};
use sluice_worker::SettledJob;

use super::{outstanding::Outstanding, patience::patiently, tally::Tally, writer::ResultWriter};
use crate::{exit::CliError, output_line};

/// Results that are fetched at once, where they are small.
const MAX_PAGE: usize = 250;
/// Above so many bytes the next page is smaller.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Jobs that one sweep asks about while results keep coming, and when none came since the last one.
const SWEEP_PAGE: usize = 2_000;
const QUIET_SWEEP_PAGE: usize = 20_000;

/// Collects results.
pub struct Collector {
    store: Store,
    outstanding: Arc<Outstanding>,
    writer: ResultWriter,
    /// What was done so far.
    pub tally: Tally,
    held: BTreeSet<JobId>,
    page: usize,
    swept_to: Option<JobId>,
    written_at_sweep: u64,
}

impl Collector {
    /// Collects what is outstanding into `writer`.
    pub fn new(store: Store, outstanding: Arc<Outstanding>, writer: ResultWriter, tally: Tally) -> Self {
        let held = BTreeSet::new();
        Self { store, outstanding, writer, tally, held, page: MAX_PAGE, swept_to: None, written_at_sweep: 0 }
    }

    /// Whether every job has its result or is held.
    pub fn is_complete(&self) -> bool {
        self.outstanding.len() == self.held.len()
    }

    /// Takes a worker's word on what it settled.
    pub async fn heard(&mut self, settled: Vec<SettledJob>) -> Result<(), CliError> {
        let ended =
            settled.iter().filter(|job| job.state.is_some_and(JobState::is_terminal)).map(|job| job.job_id);
        let held = settled.iter().filter(|job| job.state == Some(JobState::Held)).map(|job| job.job_id);
        self.held.extend(self.outstanding.among(held));
        self.tally.held = self.held.len() as u64;
        self.write_results(self.outstanding.among(ended)).await
    }

    /// Looks whether these jobs have ended, by whomever, and writes those that have.
    pub async fn look_at(&mut self, ids: &[JobId]) -> Result<(), CliError> {
        // Of jobs that an earlier run left waiting, a worker may have told already: those are written.
        let ids = self.outstanding.among(ids.iter().copied());
        let ended = patiently(|| self.store.jobs_ended_among(&ids)).await?;
        let held = patiently(|| self.store.jobs_held_among(&ids)).await?;
        for id in &ids {
            self.held.remove(id);
        }
        self.held.extend(held);
        self.tally.held = self.held.len() as u64;
        self.write_results(ended).await
    }

    /// Looks at some of what is outstanding, and at the next some the next time.
    pub async fn sweep(&mut self) -> Result<(), CliError> {
        let is_quiet = self.tally.written() == self.written_at_sweep;
        let limit = if is_quiet { QUIET_SWEEP_PAGE } else { SWEEP_PAGE };
        let page = self.outstanding.page(self.swept_to, limit);
        self.swept_to = page.last().copied().filter(|_| page.len() == limit);
        if !page.is_empty() {
            self.look_at(&page).await?;
        }
        self.written_at_sweep = self.tally.written();
        Ok(())
    }

    /// Looks at all that is outstanding.
    pub async fn sweep_all(&mut self) -> Result<(), CliError> {
        let mut after = None;
        loop {
            let page = self.outstanding.page(after, QUIET_SWEEP_PAGE);
            let Some(last) = page.last().copied() else { return Ok(()) };
            self.look_at(&page).await?;
            after = Some(last);
        }
    }

    /// Asks for what was written to reach the disk.
    pub async fn sync(&self) -> Result<(), CliError> {
        self.hand_over(Vec::new()).await
    }

    /// Waits until all is on the disk, and gives the counts.
    pub async fn finish(self) -> (Tally, std::io::Result<()>) {
        (self.tally, self.writer.finish().await)
    }

    async fn write_results(&mut self, ids: Vec<JobId>) -> Result<(), CliError> {
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let (page, after) = rest.split_at(self.page.min(rest.len()));
            rest = after;
            let jobs = patiently(|| self.store.jobs_by_id(page, Bodies::Included)).await?;
            let mut lines = Vec::new();
            // One that was replayed meanwhile has not ended: its next end is awaited.
            let ended: Vec<_> = jobs.iter().filter(|job| job.state.is_terminal()).collect();
            for job in &ended {
                output_line::push_line(&mut lines, job);
            }
            self.page = match lines.len() {
                bytes if bytes > MAX_PAGE_BYTES => (self.page / 4).max(1),
                _ => (self.page * 2).min(MAX_PAGE),
            };
            self.hand_over(lines).await?;
            // No await from here on: a result that was handed over is no longer outstanding.
            self.outstanding.remove(ended.iter().map(|job| job.id));
            for job in ended {
                self.held.remove(&job.id);
                self.tally.add(job);
            }
        }
        self.tally.held = self.held.len() as u64;
        Ok(())
    }

    async fn hand_over(&self, lines: Vec<u8>) -> Result<(), CliError> {
        if self.writer.write(lines).await {
            return Ok(());
        }
        Err(CliError::unreachable("failed to write the results"))
    }
}
