//! The endpoints, one a file: what it answers, its documentation, and the handler.

pub(crate) mod account_resume;
pub(crate) mod budgets_list;
pub(crate) mod cancellations;
pub(crate) mod healthz;
pub(crate) mod job_attempts;
pub(crate) mod job_cancel;
pub(crate) mod job_events;
pub(crate) mod job_explain;
pub(crate) mod job_get;
pub(crate) mod job_release;
pub(crate) mod job_replay;
pub(crate) mod job_result;
pub(crate) mod jobs_bulk;
pub(crate) mod jobs_list;
pub(crate) mod jobs_submit;
pub(crate) mod limits_list;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod page;
pub(crate) mod queue_pause;
pub(crate) mod queue_resume;
pub(crate) mod queues_list;
pub(crate) mod readyz;
pub(crate) mod releases;
pub(crate) mod replays;
pub(crate) mod upstream_pause;
pub(crate) mod upstream_resume;
pub(crate) mod upstreams_list;
pub(crate) mod workers_list;

pub(crate) mod answers;
mod bulk_lines;
mod upstreams;
