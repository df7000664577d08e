//! Reading jobs for answers.

use std::sync::Arc;

use futures::{Stream, stream};
use sluice_domain::JobId;
use sluice_proto::v1;
use sluice_store::Bodies;
use tokio::time::Instant;
use tonic::Status;

use super::{deadline, message::job_message};
use crate::{
    handlers::{answers, job_events::Watch},
    server::{ApiError, App},
};

/// An id that a client gave. What is no id is an unknown job.
pub(super) fn id_of(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| ApiError::job_not_found())
}

/// The job as it stands now, with its result.
pub(super) async fn job_now(app: &App, id: JobId) -> Result<v1::Job, ApiError> {
    let job = answers::job(app, id, Bodies::Included).await?;
    Ok(job_message(job, &*app.gates().await?, Bodies::Included))
}

/// Somebody who watches a job over gRPC.
pub(super) struct Watcher {
    pub(super) app: App,
    pub(super) watch: Watch,
    /// The call's deadline.
    pub(super) until: Option<Instant>,
}

impl Watcher {
    /// The job's states until it has ended. Dropping the stream frees its place in the hub.
    pub(super) fn states(self) -> impl Stream<Item = Result<v1::Job, Status>> + Send {
        stream::unfold(Some(self), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next_state().await {
                Ok(Some(job)) => Some((Ok(job), Some(watcher))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next_state(&mut self) -> Result<Option<v1::Job>, Status> {
        let next = match self.until {
            Some(until) => tokio::time::timeout_at(until, self.watch.next_job())
                .await
                .map_err(|_| deadline::exceeded())?,
            None => self.watch.next_job().await,
        };
        let Some(job) = next else {
            // An end without an error says that the job has ended.
            let stops = || Status::unavailable("the server stops; watch the job again");
            return if self.watch.is_over() { Ok(None) } else { Err(stops()) };
        };
        let gates = self.app.gates().await?;
        Ok(Some(job_message(Arc::unwrap_or_clone(job), &gates, Bodies::LeftOut)))
    }
}
