//! `GET /v1/jobs/{id}/events`: the changes of one job as they happen (server-sent events).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use sluice_domain::{JobId, JobView};
use sluice_store::Bodies;
use tokio::sync::watch;

use super::answers::job;
use crate::{
    BodyForm,
    hub::has_changed,
    job_json,
    server::{ApiError, App, ErrorBody, JobIdInPath, MayRead},
};

/// So often a comment shows that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Watch a job
///
/// Server-sent events named `job`, each with the job as it then stands (without the body of its result), the first at
/// once. The stream ends when the job has ended. Changes that follow each other closely may come as one.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    security(("api_key" = ["read"])),
    params(("id" = uuid::Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The changes", body = String, content_type = "text/event-stream",
         example = json!("event: job\ndata: {\"id\":\"0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\",\"object\":\"job\",\"state\":\"running\"}\n\n")),
        (status = 404, description = "No such job", body = ErrorBody),
        (status = 503, description = "The database is away", body = ErrorBody),
    )
)]
pub(crate) async fn events(
    MayRead(app): MayRead,
    JobIdInPath(id): JobIdInPath,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let watch = Watch::begin(app, id).await?;
    let events = futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next_event().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Somebody who follows a job. Dropping it frees its place in the hub.
pub(crate) struct Watch {
    app: App,
    id: JobId,
    changes: watch::Receiver<Option<Arc<JobView>>>,
    told: Option<Arc<JobView>>,
    /// The state that is known and not told yet.
    next: Option<Arc<JobView>>,
}

impl Watch {
    /// Looks at the job, and follows it from there.
    pub(crate) async fn begin(app: App, id: JobId) -> Result<Self, ApiError> {
        // Registered before the look, so that no change in between is missed.
        let changes = app.hub.changes_of(id);
        let first = job(&app, id, Bodies::LeftOut).await?;
        Ok(Self { app, id, changes, told: None, next: Some(Arc::new(first)) })
    }

    /// Whether the job has ended and that was told.
    pub(crate) fn is_over(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.state.is_terminal())
    }

    /// The next change; `None` when the job has ended and that was told, the server stops, or the caller's key is not
    /// valid any more.
    pub(crate) async fn next_job(&mut self) -> Option<Arc<JobView>> {
        if self.is_over() {
            return None;
        }
        let job = if let Some(first) = self.next.take() {
            first
        } else {
            let job = self.next_change().await?;
            // A stream may last for hours, and its key be revoked meanwhile.
            self.app.still_admitted().await.ok()?;
            job
        };
        self.told = Some(Arc::clone(&job));
        Some(job)
    }

    async fn next_event(&mut self) -> Option<Event> {
        let job = self.next_job().await?;
        let gates = self.app.gates().await.ok()?;
        let data = String::from_utf8(job_json(&job, &gates, BodyForm::LeftOut)).ok()?;
        Some(Event::default().event("job").id(self.id.to_string()).data(data))
    }

    async fn next_change(&mut self) -> Option<Arc<JobView>> {
        let stopping = self.app.stopping.clone();
        loop {
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = stopping.cancelled() => return None,
            }
            let now = self.changes.borrow_and_update().clone();
            match (now, &self.told) {
                (Some(now), Some(told)) if !has_changed(told, &now) => {}
                (Some(now), _) => return Some(now),
                (None, _) => {}
            }
        }
    }
}
