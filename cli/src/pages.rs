//! The jobs that a filter means, page by page, newest first.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sluice_domain::{JobFilter, JobId, TenantName};
use sluice_store::Store;

use crate::exit::CliError;

/// Jobs that are looked up in one statement.
const PAGE: u32 = 1_000;

/// The ids that a filter means.
#[derive(Debug)]
pub struct Pages<'a> {
    store: &'a Store,
    tenant: &'a TenantName,
    filter: &'a JobFilter,
    size: u32,
    after: Option<JobId>,
    left: u64,
}

impl<'a> Pages<'a> {
    /// Pages of at most `limit` ids in all.
    pub const fn new(store: &'a Store, tenant: &'a TenantName, filter: &'a JobFilter, limit: u64) -> Self {
        Self { store, tenant, filter, size: PAGE, after: None, left: limit }
    }

    /// Smaller pages, for jobs that are read with their bodies.
    #[must_use]
    pub const fn of(mut self, size: u32) -> Self {
        self.size = size;
        self
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<JobId>>, CliError> {
        let wanted = u32::try_from(self.left).unwrap_or(self.size).min(self.size);
        if wanted == 0 {
            return Ok(None);
        }
        let ids = self.store.job_ids_matching(self.tenant, self.filter, self.after, wanted).await?;
        self.after = ids.last().copied();
        self.left = if ids.len() < wanted as usize { 0 } else { self.left - u64::from(wanted) };
        Ok((!ids.is_empty()).then_some(ids))
    }
}

/// A counter on standard error that shows itself on a terminal only.
pub fn counter(what: &str) -> ProgressBar {
    spinner(&format!("{{spinner}} {{human_pos}} {what}, {{per_sec}}, {{elapsed}}"))
}

/// Shows on a terminal that something is under way, and for how long.
pub fn waiting(what: &str) -> ProgressBar {
    spinner(&format!("{{spinner}} {what} {{elapsed}}"))
}

/// Shows on a terminal how many of `total` are done.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = format!("{{wide_bar}} {{human_pos}} of {{human_len}} {what}, {{per_sec}}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

fn spinner(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
