//! The filters that `list`, `results`, `replay`, `cancel` and `release` share.

use std::collections::BTreeMap;

use sluice_domain::{ErrorClass, InvalidName, JobFilter, JobState, ModelName, QueueName, Tags};

use crate::{
    exit::CliError,
    home::Home,
    times::{self, Moment},
};

/// Which jobs are meant. All that is given must hold.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which jobs")]
pub struct FilterArgs {
    /// In this state: queued, running, held, succeeded, failed or cancelled
    #[arg(long, value_name = "STATE")]
    pub state: Option<JobState>,
    /// In this queue
    #[arg(long, value_name = "QUEUE", value_parser = queue_name)]
    pub queue: Option<QueueName>,
    /// That ask for this model
    #[arg(long, value_name = "MODEL", value_parser = model_name)]
    pub model: Option<ModelName>,
    /// That failed with this class, such as rate_limited
    #[arg(long, value_name = "CLASS")]
    pub error_class: Option<ErrorClass>,
    /// With this tag; may be given several times, and all must be there
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub tags: Vec<(String, String)>,
    /// Submitted since then: a span back from now (1h, 30m, 2d) or a time (2026-10-01T08:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    pub since: Option<Moment>,
    /// Submitted before then, written as for --since
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    pub until: Option<Moment>,
}

impl FilterArgs {
    /// Whether nothing is said, so that all jobs are meant.
    pub const fn is_empty(&self) -> bool {
        self.state.is_none()
            && self.queue.is_none()
            && self.model.is_none()
            && self.error_class.is_none()
            && self.tags.is_empty()
            && self.since.is_none()
            && self.until.is_none()
    }

    /// The filter; spans back from now are counted by the database clock, or that of this machine over `--remote`.
    pub async fn resolve(&self, home: &Home) -> Result<JobFilter, CliError> {
        let pairs: BTreeMap<_, _> = self.tags.iter().cloned().collect();
        let tags = Tags::new(pairs).map_err(|error| CliError::usage(format!("--tag: {error}")))?;
        let (created_after, created_before) = if self.since.is_some() || self.until.is_some() {
            let now = home.now().await?;
            (self.since.map(|moment| moment.before(now)), self.until.map(|moment| moment.before(now)))
        } else {
            (None, None)
        };
        Ok(JobFilter {
            state: self.state,
            queue: self.queue.clone(),
            model: self.model.clone(),
            error_class: self.error_class,
            tags,
            created_after,
            created_before,
        })
    }
}

/// Reads a queue's name.
pub fn queue_name(text: &str) -> Result<QueueName, InvalidName> {
    QueueName::new(text)
}

/// Reads a model's name.
pub fn model_name(text: &str) -> Result<ModelName, InvalidName> {
    ModelName::new(text)
}

/// Reads `key=value`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE, such as project=alpha".to_owned()),
    }
}
