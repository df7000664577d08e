//! One try to tell of one job's end.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::Serialize;
use sluice_domain::{JobView, WebhookDelivery};
use sluice_store::{Bodies, Store, StoreError, WebhookEnd};
use sluice_telemetry::SchedulerMetrics;
use sluice_webhook::{Message, Told, next_try};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::rules::Rules;
use crate::{BodyForm, Gates, job_json::JobObject, wall_clock};

/// How long a statement may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What came of a try is written so often, while the database is away; then the lease runs out.
const WRITES: u32 = 3;
const BETWEEN_WRITES: Duration = Duration::from_secs(2);

/// What a webhook says.
#[derive(Serialize)]
struct MessageBody<'a> {
    /// `job.succeeded`, `job.failed` or `job.cancelled`.
    #[serde(rename = "type")]
    kind: String,
    /// When the job ended.
    #[serde(serialize_with = "crate::job_json::time")]
    timestamp: DateTime<Utc>,
    /// The job, without the body of its result.
    data: JobObject<'a>,
}

/// A delivery that is being tried.
pub(super) struct Delivering {
    pub(super) store: Store,
    pub(super) rules: Arc<Rules>,
    pub(super) metrics: SchedulerMetrics,
    pub(super) delivery: WebhookDelivery,
    pub(super) lease: Uuid,
}

/// What a try came to: what is written of it.
struct Outcome {
    end: WebhookEnd,
    status_code: Option<u16>,
    problem: Option<String>,
}

impl Delivering {
    pub(super) async fn run(self) {
        let begun = Instant::now();
        let Some(outcome) = self.outcome().await else { return };
        let word = match outcome.end {
            WebhookEnd::Delivered => "delivered",
            WebhookEnd::Again(_) => "tried",
            WebhookEnd::Failed => "failed",
            WebhookEnd::Disabled => "disabled",
        };
        self.metrics.webhook_tried(word, begun.elapsed());
        let (id, tries) = (self.delivery.id, self.delivery.tries);
        if outcome.end == WebhookEnd::Delivered {
            tracing::debug!(webhook.id = %id, job.id = %self.delivery.job_id, tries, "a job's end was told");
        } else {
            let problem = outcome.problem.as_deref().unwrap_or_default();
            tracing::info!(
                webhook.id = %id, job.id = %self.delivery.job_id, tries, outcome = word, problem,
                "telling of a job's end was in vain"
            );
        }
        self.write(&outcome).await;
    }

    /// `None` where the database is away: then the lease runs out, and it is tried again.
    async fn outcome(&self) -> Option<Outcome> {
        let job = match timeout(PATIENCE, self.job()).await {
            Ok(Ok(Some(job))) => job,
            Ok(Ok(None)) => return Some(Outcome::of(WebhookEnd::Failed, None, "the job is gone")),
            Ok(Err(_)) | Err(_) => return None,
        };
        let Some(secrets) = self.rules.secrets_of(&self.delivery.tenant) else {
            return Some(self.in_vain(None, None, "no secret is configured for webhooks of the tenant"));
        };
        let id = self.delivery.id.to_string();
        let message = Message {
            id,
            timestamp: wall_clock().timestamp(),
            body: body_of(&self.delivery, &job, &self.rules.gates),
        };
        Some(match self.rules.sender.send(&self.delivery.url, message, secrets).await {
            Told::Taken(status) => {
                Outcome { end: WebhookEnd::Delivered, status_code: Some(status.as_u16()), problem: None }
            }
            Told::Gone => Outcome::of(WebhookEnd::Disabled, Some(410), "the target answered 410"),
            Told::Refused { status, retry_after } => {
                let problem = format!("the target answered {}", status.as_u16());
                self.in_vain(Some(status.as_u16()), retry_after, &problem)
            }
            Told::Unanswered(problem) => self.in_vain(None, None, problem),
        })
    }

    fn in_vain(&self, status_code: Option<u16>, retry_after: Option<Duration>, problem: &str) -> Outcome {
        let luck = rand::rng().random_range(0.0..1.0);
        let next = next_try(self.delivery.tries, retry_after, luck);
        Outcome::of(next.map_or(WebhookEnd::Failed, WebhookEnd::Again), status_code, problem)
    }

    /// The job as it ended. One that was replayed meanwhile has another life now, and of this one is known how it ended.
    async fn job(&self) -> Result<Option<JobView>, StoreError> {
        let job = self.store.job(&self.delivery.tenant, self.delivery.job_id, Bodies::LeftOut).await?;
        Ok(job.map(|job| if job.generation == self.delivery.generation { job } else { self.past_life(job) }))
    }

    fn past_life(&self, job: JobView) -> JobView {
        let delivery = &self.delivery;
        JobView {
            state: delivery.job_state,
            hold_reason: None,
            generation: delivery.generation,
            run_at: None,
            started_at: None,
            finished_at: Some(delivery.ended_at),
            result: None,
            error: None,
            ..job
        }
    }

    async fn write(&self, outcome: &Outcome) {
        for _ in 0..WRITES {
            match timeout(PATIENCE, self.write_once(outcome)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::warn!(
                        webhook.id = %self.delivery.id, error = %error,
                        "what came of a webhook could not be written"
                    );
                }
                Err(_) => {}
            }
            sleep(BETWEEN_WRITES).await;
        }
    }

    async fn write_once(&self, outcome: &Outcome) -> Result<(), StoreError> {
        let delivery = &self.delivery;
        let problem = outcome.problem.as_deref();
        let ending = self.store.webhook_delivery_end_if_leased(
            delivery.id,
            self.lease,
            &outcome.end,
            outcome.status_code,
            problem,
        );
        ending.await?;
        if outcome.end == WebhookEnd::Disabled {
            self.store.webhook_target_disable(&delivery.tenant, &delivery.url).await?;
        }
        Ok(())
    }
}

impl Outcome {
    fn of(end: WebhookEnd, status_code: Option<u16>, problem: &str) -> Self {
        Self { end, status_code, problem: Some(problem.to_owned()) }
    }
}

fn body_of(delivery: &WebhookDelivery, job: &JobView, gates: &Gates) -> Vec<u8> {
    let body = MessageBody {
        kind: format!("job.{}", delivery.job_state.as_str()),
        timestamp: delivery.ended_at,
        data: JobObject::new(job, gates, BodyForm::LeftOut),
    };
    // It is made of strings, numbers and maps with text keys.
    serde_json::to_vec(&body).expect("a message is serialisable")
}
