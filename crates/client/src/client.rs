//! The client: a method for each of the service's.

use std::{sync::Arc, time::Duration};

use futures::{Stream, stream::BoxStream};
use sluice_proto::v1::{
    CancelRequest, GetRequest, Job, JobFilter, JobState, ListRequest, ListResponse, ReplayManyRequest,
    ReplayManyResponse, ReplayRequest, SubmitRequest, SubmitStatus, job_service_client::JobServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{
    ClientBuilder, Error, MissingKey,
    retry::{Repeat, Tries},
    streams,
    submit_many::{self, Submission},
};

/// The longest wait that the server grants one call.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

pub(crate) type Service = JobServiceClient<Channel>;

/// A client of one server. Clones share its connection, which is made again by itself when it breaks.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) service: Service,
    pub(crate) settings: Arc<Settings>,
}

/// What all calls of a client have in common.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) authorization: Option<MetadataValue<Ascii>>,
    pub(crate) timeout: Duration,
    pub(crate) patience: Duration,
    pub(crate) missing_key: MissingKey,
}

/// A job that was taken.
#[derive(Clone, PartialEq, Debug)]
pub struct SubmittedJob {
    /// The job as it stands now.
    pub job: Job,
    /// Whether it is new; else its idempotency key was used before with the same content. A submit with a key that was
    /// repeated after an outage can't tell its own first try from another's.
    pub is_new: bool,
}

impl Client {
    /// Says where the server is: `http://host:8081`, or `https://host` where something in front of it speaks TLS.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// Connects without a key, with all settings as they are.
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    pub(crate) const fn new(service: Service, settings: Arc<Settings>) -> Self {
        Self { service, settings }
    }

    /// Stores one job. With the idempotency key of an earlier one and the same content it answers with that one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the codes of REST's `POST /v1/jobs`: a field can't be used ([`Error::field`]), the key was used
    /// with another content, a limit is reached ([`Error::retry_after`]).
    pub async fn submit(&self, mut job: SubmitRequest) -> Result<SubmittedJob, Error> {
        let keyed = key_of(&mut job, self.settings.missing_key);
        let repeat = keyed.repeat();
        let submitting =
            self.call(job, self.settings.timeout, repeat, |mut service: Service, job| async move {
                service.submit(job).await
            });
        let answer = submitting.await?;
        let is_new = keyed == Keyed::ByUs || answer.status() == SubmitStatus::Created;
        let job = answer.job.ok_or(Error::Malformed("it holds no job"))?;
        Ok(SubmittedJob { job, is_new })
    }

    /// Stores many jobs as they come, and tells what became of each, in their order. What can't be used stops none of the
    /// others. Jobs go out in chunks, several at once; a chunk that met an outage is sent again, and none of its jobs is stored
    /// twice (but see [`MissingKey::SendOnce`]).
    ///
    /// After an error the stream ends. Of the jobs whose answer it did not tell, it is not known which were stored: submit
    /// them again with the same idempotency keys. Nothing happens before the stream is polled.
    pub fn submit_many(
        &self,
        jobs: impl Stream<Item = SubmitRequest> + Send + 'static,
    ) -> BoxStream<'static, Result<Submission, Error>> {
        submit_many::submit_many(self.clone(), Box::pin(jobs))
    }

    /// Reads one job as it stands, with the body of its result when there is one.
    pub async fn get(&self, id: &str) -> Result<Job, Error> {
        self.get_within(id, Duration::ZERO).await
    }

    /// Waits until a job has ended, however long that takes. A job that is held waits for a person.
    pub async fn wait(&self, id: &str) -> Result<Job, Error> {
        loop {
            let job = self.get_within(id, LONGEST_WAIT).await?;
            if has_ended(&job) {
                return Ok(job);
            }
        }
    }

    /// Waits until a job has ended or `most` has passed, and reads it as it then stands.
    pub async fn wait_for(&self, id: &str, most: Duration) -> Result<Job, Error> {
        let until = tokio::time::Instant::now().checked_add(most);
        loop {
            let left = until
                .map_or(LONGEST_WAIT, |until| until.saturating_duration_since(tokio::time::Instant::now()));
            let job = self.get_within(id, left.min(LONGEST_WAIT)).await?;
            if has_ended(&job) || left <= LONGEST_WAIT {
                return Ok(job);
            }
        }
    }

    async fn get_within(&self, id: &str, most: Duration) -> Result<Job, Error> {
        // At most a minute, which a message holds.
        let wait = if most.is_zero() { None } else { most.try_into().ok() };
        let request = GetRequest { id: id.to_owned(), wait };
        let timeout = self.settings.timeout.saturating_add(most);
        self.call(request, timeout, Repeat::Safe, |mut service: Service, request| async move {
            service.get(request).await
        })
        .await
    }

    /// The jobs that a filter means, newest first, without the bodies of their results. Pages are read as the stream is.
    /// After an error it ends.
    pub fn list(&self, filter: JobFilter) -> BoxStream<'static, Result<Job, Error>> {
        streams::list(self.clone(), filter)
    }

    /// One page of jobs, newest first, without the bodies of their results.
    pub async fn list_page(&self, request: ListRequest) -> Result<ListResponse, Error> {
        self.call(request, self.settings.timeout, Repeat::Safe, |mut service: Service, request| async move {
            service.list(request).await
        })
        .await
    }

    /// The job as it stands, and again at each change, without the body of its result. Ends after its last state; states that
    /// were short may be left out. It goes on by itself after an outage.
    pub fn watch(&self, id: impl Into<String>) -> BoxStream<'static, Result<Job, Error>> {
        streams::watch(self.clone(), id.into())
    }

    /// Ends a job. Cancelling twice answers as the first time.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `not_possible_in_state` where it has ended otherwise.
    pub async fn cancel(&self, id: &str) -> Result<Job, Error> {
        let request = CancelRequest { id: id.to_owned() };
        self.call(request, self.settings.timeout, Repeat::Safe, |mut service: Service, request| async move {
            service.cancel(request).await
        })
        .await
    }

    /// Starts an ended job again, as its next generation. It is called and paid for again.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `not_possible_in_state` where it has not ended. After [`Error::Unreachable`] and
    /// [`Error::TimedOut`] read the job: its generation says whether it was replayed.
    pub async fn replay(&self, id: &str) -> Result<Job, Error> {
        let request = ReplayRequest { id: id.to_owned() };
        let timeout = self.settings.timeout;
        self.call(
            request,
            timeout,
            Repeat::OnlyIfNothingHappened,
            |mut service: Service, request| async move { service.replay(request).await },
        )
        .await
    }

    /// Starts all ended jobs again that a filter means; without a state, failed jobs. `within`: how long that may take, since
    /// it may be many.
    pub async fn replay_many(
        &self,
        request: ReplayManyRequest,
        within: Duration,
    ) -> Result<ReplayManyResponse, Error> {
        let repeat = if request.dry_run { Repeat::Safe } else { Repeat::OnlyIfNothingHappened };
        self.call(request, within, repeat, |mut service: Service, request| async move {
            service.replay_many(request).await
        })
        .await
    }

    /// Makes a call, again where that is worth it.
    async fn call<Q, A, F>(
        &self,
        message: Q,
        timeout: Duration,
        repeat: Repeat,
        send: impl Fn(Service, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut tries = self.tries();
        loop {
            let request = self.request(message.clone(), Some(timeout));
            match send(self.service.clone(), request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => tries.again(&status, repeat).await?,
            }
        }
    }

    /// A request with who asks, and its deadline if it has one.
    pub(crate) fn request<Q>(&self, message: Q, timeout: Option<Duration>) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        if let Some(authorization) = &self.settings.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries::new(self.settings.patience)
    }
}

/// Whether a submit has an idempotency key, and whose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keyed {
    /// The caller's.
    ByCaller,
    /// One of ours, which nobody else can have used.
    ByUs,
    /// It has none.
    Not,
}

impl Keyed {
    pub(crate) const fn repeat(self) -> Repeat {
        match self {
            Self::ByCaller | Self::ByUs => Repeat::Safe,
            Self::Not => Repeat::OnlyIfNothingHappened,
        }
    }
}

/// Sees to the key of a submit.
pub(crate) fn key_of(job: &mut SubmitRequest, missing_key: MissingKey) -> Keyed {
    match (&job.idempotency_key, missing_key) {
        (Some(_), _) => Keyed::ByCaller,
        (None, MissingKey::MakeUp) => {
            job.idempotency_key = Some(uuid::Uuid::new_v4().to_string());
            Keyed::ByUs
        }
        (None, MissingKey::SendOnce) => Keyed::Not,
    }
}

/// Whether a job has ended.
pub(crate) fn has_ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}
