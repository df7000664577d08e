//! What all endpoints share.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, PoisonError},
    time::Duration,
};

use sluice_config::Configuration;
use sluice_domain::{JobFilter, JobId, JobView, NewJob, NotPermitted, QueueName, Scope, TenantName};
use sluice_store::{Bodies, Doorbell, Ringer, Store};
use sluice_telemetry::{MetricsRegistry, SchedulerMetrics};
use sluice_webhook::Guard;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{ApiError, Protocol, READ_PATIENCE, ServerLimits, ServerOptions, asked};
use crate::{
    BatchBell, Gates, InvalidInput, SchedulerError, WebhookBell,
    access::{Access, Allowed, Bounds, Caller, files_not_allowed, missing_scope, queue_not_named},
    door::LeftCalls,
    gates,
    handlers::answers,
    hub::JobHub,
    streams::StreamHub,
    submitter::Submitter,
};

/// Bells ring at most this often.
const BELL_GAP: Duration = Duration::from_millis(20);
/// How old the gates may be that are shown with a job.
const GATES_AGE: Duration = Duration::from_secs(1);
/// Tenants whose gates are remembered.
const MOST_TENANTS: usize = 10_000;

/// The server's state; clones share it. It belongs to no caller, and so knows no tenant.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) bounds: Bounds,
    /// The operator's tenant, which is also that of whoever comes without a key.
    pub(crate) home_tenant: TenantName,
    pub(crate) limits: ServerLimits,
    pub(crate) hub: Arc<JobHub>,
    pub(crate) submitter: Submitter,
    pub(crate) left_calls: LeftCalls,
    pub(crate) streams: Arc<StreamHub>,
    pub(crate) batch_bell: BatchBell,
    pub(crate) webhook_bell: WebhookBell,
    pub(crate) ready_bell: Ringer,
    pub(crate) ended_bell: Ringer,
    pub(crate) cancelled_bell: Ringer,
    pub(crate) registry: MetricsRegistry,
    pub(crate) metrics: SchedulerMetrics,
    /// Ends waits and streams when the server stops.
    pub(crate) stopping: CancellationToken,
    /// When the depths of queues may be counted again for `/metrics`.
    pub(crate) next_count: Mutex<Option<Instant>>,
    fixed_configuration: Option<Configuration>,
    gates: std::sync::Mutex<HashMap<TenantName, Arc<Mutex<Option<ReadGates>>>>>,
}

/// Gates, and when they were read.
type ReadGates = (Instant, Arc<Gates>);

/// The server's state as one caller may use it.
#[derive(Clone)]
pub(crate) struct App {
    shared: Shared,
    /// Whose jobs are reached.
    pub(crate) tenant: TenantName,
    /// Who asks.
    pub(crate) caller: Arc<Caller>,
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.shared
    }
}

impl Shared {
    pub(crate) fn start(
        options: ServerOptions,
        address: SocketAddr,
        protocol: Protocol,
        stopping: CancellationToken,
    ) -> Self {
        let store = options.store;
        let bell = |bell| Ringer::start(store.clone(), bell, BELL_GAP);
        let ready_bell = bell(Doorbell::Ready);
        let place = (address, options.keyless, protocol);
        let fixed = options.fixed_configuration;
        Self(Arc::new(Parts {
            access: Access::start(
                store.clone(),
                fixed.clone(),
                options.tenant.clone(),
                place,
                stopping.clone(),
            ),
            bounds: Bounds::new(store.clone()),
            home_tenant: options.tenant,
            limits: options.limits,
            hub: JobHub::start(store.clone(), stopping.clone()),
            submitter: Submitter::start(&store, ready_bell.clone()),
            left_calls: LeftCalls::start(store.clone()),
            streams: StreamHub::start(store.clone(), stopping.clone()),
            batch_bell: options.batch_bell,
            webhook_bell: options.webhook_bell,
            ready_bell,
            ended_bell: bell(Doorbell::Ended),
            cancelled_bell: bell(Doorbell::Cancelled),
            metrics: options.metrics.scheduler(),
            registry: options.metrics,
            stopping,
            next_count: Mutex::new(None),
            fixed_configuration: fixed,
            gates: std::sync::Mutex::default(),
            store,
        }))
    }

    /// The state as a caller may use it who has a scope.
    pub(crate) fn app_of(&self, caller: &Arc<Caller>, scope: Scope) -> Result<App, ApiError> {
        if !caller.rights.allow(scope) {
            return Err(missing_scope(scope));
        }
        let (tenant, caller) = (caller.tenant.clone(), Arc::clone(caller));
        Ok(App { shared: self.clone(), tenant, caller })
    }
}

impl App {
    /// What belongs to no caller.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The gates, at most a second old. Whoever comes while they are read waits for the same reading.
    pub(crate) async fn gates(&self) -> Result<Arc<Gates>, ApiError> {
        asked(READ_PATIENCE, self.gates_of_now()).await
    }

    async fn gates_of_now(&self) -> Result<Arc<Gates>, SchedulerError> {
        let place = {
            let mut places = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            if places.len() >= MOST_TENANTS && !places.contains_key(&self.tenant) {
                places.clear();
            }
            Arc::clone(places.entry(self.tenant.clone()).or_default())
        };
        let mut known = place.lock().await;
        if let Some((read_at, gates)) = known.as_ref()
            && read_at.elapsed() < GATES_AGE
        {
            return Ok(Arc::clone(gates));
        }
        let configuration = self.configuration().await?;
        let gates = Arc::new(Gates::read_with(&self.store, &self.tenant, configuration).await?);
        *known = Some((Instant::now(), Arc::clone(&gates)));
        Ok(gates)
    }

    /// Gates that are read anew: after they were changed.
    pub(crate) fn forget_gates(&self) {
        // Of all tenants: an upstream is everybody's.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The job as its caller may submit it. Its queue and its priority are the caller's, too.
    pub(crate) fn permitted(&self, job: NewJob) -> Result<NewJob, ApiError> {
        Ok(self.caller.rights.permit(job)?)
    }

    /// Refuses a job whose webhook could never be told, and says that one is coming.
    pub(crate) async fn check_webhook(&self, job: &NewJob) -> Result<(), ApiError> {
        let Some(url) = &job.webhook else { return Ok(()) };
        let gates = self.gates().await?;
        let webhooks = gates.configuration().map(|known| &known.webhooks);
        let Some(webhooks) = webhooks.filter(|known| known.secret_of(&self.tenant).is_some()) else {
            let message = "webhooks are signed, and no secret is configured for this tenant (webhooks.secrets in sluice.yaml)";
            return Err(InvalidInput::at("/webhook", "webhooks_not_configured", message).into());
        };
        let guard = Guard::new(webhooks.allow_addresses.clone());
        guard.check(url).map_err(|refused| InvalidInput::value("/webhook", refused))?;
        self.webhook_bell.ring();
        Ok(())
    }

    /// How many of so many jobs may be submitted now; they count as submitted.
    pub(crate) async fn allowance(&self, jobs: usize) -> Result<Allowed, ApiError> {
        self.bounds.take(&self.caller, jobs).await
    }

    /// Refuses to go on for a caller whose key was revoked, or ran out, while it was served.
    pub(crate) async fn still_admitted(&self) -> Result<(), ApiError> {
        self.access.still_admits(&self.caller).await
    }

    /// Whether the caller may see a job of its tenant.
    pub(crate) fn may_see(&self, job: &JobView) -> bool {
        job.tenant == self.tenant && self.caller.rights.allow_queue(&job.queue)
    }

    /// Answers 404 for a job that stands in a queue which is not the caller's. For actions that are done by id; a job of
    /// another tenant is unknown to them anyway.
    pub(crate) async fn must_see(&self, id: JobId) -> Result<(), ApiError> {
        if self.caller.rights.queues.is_none() {
            return Ok(());
        }
        answers::job(self, id, Bodies::LeftOut).await.map(|_| ())
    }

    /// A filter that means no job in a queue which is not the caller's.
    pub(crate) fn narrowed(&self, filter: JobFilter) -> Result<JobFilter, ApiError> {
        let Some(queues) = &self.caller.rights.queues else { return Ok(filter) };
        match (&filter.queue, queues.as_slice()) {
            (Some(queue), _) => {
                self.must_use(queue)?;
                Ok(filter)
            }
            (None, [only]) => Ok(JobFilter { queue: Some(only.clone()), ..filter }),
            (None, _) => Err(queue_not_named()),
        }
    }

    /// Refuses a queue that is not the caller's.
    pub(crate) fn must_use(&self, queue: &QueueName) -> Result<(), ApiError> {
        let is_allowed = self.caller.rights.allow_queue(queue);
        if is_allowed { Ok(()) } else { Err(NotPermitted::Queue(queue.clone()).into()) }
    }

    /// Refuses files and batches to a caller who is bound to queues or by quotas. A file may hold what jobs of any queue
    /// said, and the lines of a batch become jobs when nobody is there any more whom they could be counted to.
    pub(crate) fn must_reach_files(&self) -> Result<(), ApiError> {
        let rights = &self.caller.rights;
        let is_bound =
            rights.queues.is_some() || rights.submits_per_minute.is_some() || rights.max_waiting.is_some();
        if is_bound { Err(files_not_allowed()) } else { Ok(()) }
    }

    /// The configuration that workers follow.
    pub(crate) async fn configuration(&self) -> Result<Option<Configuration>, SchedulerError> {
        match &self.fixed_configuration {
            Some(fixed) => Ok(Some(fixed.clone())),
            None => gates::configuration(&self.store).await,
        }
    }

    /// The configuration, where it does not stand in the database.
    pub(crate) fn fixed_configuration(&self) -> Option<&Configuration> {
        self.fixed_configuration.as_ref()
    }
}
