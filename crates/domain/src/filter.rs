//! Which jobs a list, a replay or a cancel is about.

use chrono::{DateTime, Utc};

use crate::{ErrorClass, JobId, JobState, ModelName, QueueName, Tags};

/// Which jobs are meant. An empty filter means all of the tenant's.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// In this queue.
    pub queue: Option<QueueName>,
    /// Asking for this model.
    pub model: Option<ModelName>,
    /// That failed with this class.
    pub error_class: Option<ErrorClass>,
    /// With all of these tags.
    pub tags: Tags,
    /// Submitted at or after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Submitted before this time.
    pub created_before: Option<DateTime<Utc>>,
}

/// Where a page begins: after this job, newest first.
pub type PageCursor = JobId;
