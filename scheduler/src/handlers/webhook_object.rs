//! A webhook as clients see it: the end of a job that somebody is told, and how far that has come.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sluice_domain::{WebhookId, WebhookView};
use utoipa::ToSchema;

use crate::{
    job_json::{optional_time, time},
    server::{ApiError, NameInPath},
};

/// The end of a job that somebody is told.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookObject {
    /// The header `webhook-id` of each try.
    #[schema(value_type = uuid::Uuid, example = "0199a1b2-d000-7e5f-8a9b-0c1d2e3f4a5b")]
    id: WebhookId,
    /// Always `webhook`.
    #[schema(example = "webhook")]
    object: &'static str,
    /// The job.
    #[schema(value_type = uuid::Uuid, example = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f5eed")]
    job_id: sluice_domain::JobId,
    /// Which life of the job.
    generation: u32,
    /// Where to.
    #[schema(example = "https://example.com/hooks/sluice")]
    url: String,
    /// `job.succeeded`, `job.failed` or `job.cancelled`.
    #[serde(rename = "type")]
    #[schema(example = "job.succeeded")]
    kind: String,
    /// `pending`, `delivered`, `failed` (tried for days in vain) or `disabled` (the target answered 410).
    #[schema(example = "delivered")]
    state: &'static str,
    /// Tries since the job ended, or since it was sent anew.
    tries: u32,
    /// When the job ended.
    #[serde(serialize_with = "time")]
    created_at: DateTime<Utc>,
    /// When it is tried next, while it is pending.
    #[serde(serialize_with = "optional_time")]
    due_at: Option<DateTime<Utc>>,
    /// When it was tried last.
    #[serde(serialize_with = "optional_time")]
    last_try_at: Option<DateTime<Utc>>,
    /// What the target answered last.
    status_code: Option<u16>,
    /// Why the last try was in vain.
    problem: Option<String>,
    /// When it was delivered or given up.
    #[serde(serialize_with = "optional_time")]
    ended_at: Option<DateTime<Utc>>,
}

impl From<WebhookView> for WebhookObject {
    fn from(view: WebhookView) -> Self {
        Self {
            id: view.id,
            object: "webhook",
            job_id: view.job_id,
            generation: view.generation,
            url: view.url.as_str().to_owned(),
            kind: format!("job.{}", view.job_state.as_str()),
            state: view.state.as_str(),
            tries: view.tries,
            created_at: view.created_at,
            due_at: view.due_at,
            last_try_at: view.last_try_at,
            status_code: view.status_code,
            problem: view.problem,
            ended_at: view.ended_at,
        }
    }
}

impl WebhookObject {
    pub(super) fn id(&self) -> String {
        self.id.to_string()
    }
}

/// The id in a path. What is no id is an unknown webhook.
pub(super) fn id_of(name: &NameInPath) -> Result<WebhookId, ApiError> {
    name.text().parse().map_err(|_| not_found())
}

pub(super) fn not_found() -> ApiError {
    ApiError::new(http::StatusCode::NOT_FOUND, "webhook_not_found", "there is no such webhook")
}
