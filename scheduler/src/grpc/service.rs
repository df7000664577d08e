//! The methods of `sluice.v1.JobService`.

use futures::stream::BoxStream;
use sluice_domain::Scope;
use sluice_proto::v1::{
    CancelRequest, GetRequest, Job, ListRequest, ListResponse, ReplayManyRequest, ReplayManyResponse,
    ReplayRequest, SubmitManyResponse, SubmitRequest, SubmitResponse, SubmitStatus, WatchRequest,
    job_service_server::JobService,
};
use sluice_store::Bodies;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    deadline, filter,
    jobs::{Watcher, id_of, job_now},
    message::job_message,
    submission, submit_many, time,
};
use crate::{
    DryRun, InvalidInput,
    handlers::{
        job_cancel::cancel_job,
        job_events::Watch,
        job_get::{MAX_WAIT, wait_for_end},
        job_replay::replay_job,
        jobs_list::{DEFAULT_LIMIT, MAX_LIMIT, Page, page_of},
        jobs_submit::{Submitted, submit_job, traceparent_header},
    },
    replay_matching,
    server::{ApiError, App, Shared, app_for},
};

/// How jobs came in, for spans and metrics.
pub(super) const PROTOCOL: &str = "grpc";

/// The service.
pub(super) struct Jobs {
    shared: Shared,
}

impl Jobs {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// The state as the caller may use it who makes this call.
    fn app<T>(&self, request: &Request<T>, scope: Scope) -> Result<App, ApiError> {
        app_for(&self.shared, request.extensions(), scope)
    }
}

#[tonic::async_trait]
impl JobService for Jobs {
    type WatchStream = BoxStream<'static, Result<Job, Status>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let app = self.app(&request, Scope::Submit)?;
        let traceparent = traceparent_header(request.metadata().as_ref());
        let job = submission::job_of(request.get_ref(), &app.tenant)?;
        drop(request);
        let (job, submitted) = submit_job(&app, job, PROTOCOL, traceparent).await?;
        let status = match submitted {
            Submitted::Created => SubmitStatus::Created,
            Submitted::Existing => SubmitStatus::Existing,
        };
        let job = job_message(job, &*app.gates().await?, Bodies::Included);
        Ok(Response::new(SubmitResponse { status: status.into(), job: Some(job) }))
    }

    async fn submit_many(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<SubmitManyResponse>, Status> {
        let app = self.app(&request, Scope::Submit)?;
        let traceparent = traceparent_header(request.metadata().as_ref());
        let response = submit_many::submit_many(&app, request.into_inner(), traceparent).await;
        Ok(Response::new(response))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Job>, Status> {
        let app = self.app(&request, Scope::Read)?;
        let request = request.into_inner();
        let id = id_of(&request.id)?;
        if let Some(wait) = request.wait {
            wait_for_end(&app, id, time::duration("/wait", wait)?.min(MAX_WAIT)).await?;
        }
        Ok(Response::new(job_now(&app, id).await?))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let app = self.app(&request, Scope::Read)?;
        let request = request.into_inner();
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            let message = format!("limit must be a whole number from 1 to {MAX_LIMIT}");
            return Err(InvalidInput::value("/limit", message).into());
        }
        let after = request.after.map(|id| id.parse()).transpose();
        let after = after.map_err(|_| InvalidInput::value("/after", "after must be a job's id"))?;
        let filter = filter::filter_of(request.filter)?;
        let Page { jobs, has_more } = page_of(&app, &filter, limit, after).await?;
        let gates = app.gates().await?;
        let last_id = jobs.last().map(|job| job.id.to_string());
        let jobs = jobs.into_iter().map(|job| job_message(job, &gates, Bodies::LeftOut)).collect();
        Ok(Response::new(ListResponse { jobs, last_id, has_more }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let app = self.app(&request, Scope::Read)?;
        let until = deadline::timeout_of(request.metadata().as_ref())
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let id = id_of(&request.get_ref().id)?;
        let watch = Watch::begin(app.clone(), id).await?;
        let watcher = Watcher { app, watch, until };
        Ok(Response::new(Box::pin(watcher.states())))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<Job>, Status> {
        let app = self.app(&request, Scope::Cancel)?;
        let id = id_of(&request.get_ref().id)?;
        cancel_job(&app, id).await?;
        Ok(Response::new(job_now(&app, id).await?))
    }

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<Job>, Status> {
        let app = self.app(&request, Scope::Replay)?;
        let id = id_of(&request.get_ref().id)?;
        replay_job(&app, id).await?;
        Ok(Response::new(job_now(&app, id).await?))
    }

    async fn replay_many(
        &self,
        request: Request<ReplayManyRequest>,
    ) -> Result<Response<ReplayManyResponse>, Status> {
        let app = self.app(&request, Scope::Replay)?;
        let request = filter::match_request_of(request.get_ref())?;
        let dry_run = if request.is_dry_run { DryRun::Yes } else { DryRun::No };
        let (limit, rate) = (request.limit, request.rate_per_minute);
        let filter = app.narrowed(request.filter)?;
        let replaying = replay_matching(&app.store, &app.tenant, &filter, limit, rate, dry_run);
        let report = replaying.await.map_err(ApiError::from)?;
        Ok(Response::new(ReplayManyResponse {
            matched: report.matched,
            changed: report.changed,
            dry_run: report.dry_run,
        }))
    }
}
