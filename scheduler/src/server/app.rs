//! What all endpoints share.

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use sluice_config::Configuration;
use sluice_domain::TenantName;
use sluice_store::{Doorbell, Ringer, Store};
use sluice_telemetry::{MetricsRegistry, SchedulerMetrics};
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{ApiError, Keyless, READ_PATIENCE, ServerLimits, ServerOptions, asked};
use crate::{Gates, SchedulerError, gates, hub::JobHub, submitter::Submitter};

/// Bells ring at most this often.
const BELL_GAP: Duration = Duration::from_millis(20);
/// How old the gates may be that are shown with a job.
const GATES_AGE: Duration = Duration::from_secs(1);

/// The server's state; clones share it.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) tenant: TenantName,
    pub(crate) address: SocketAddr,
    pub(crate) keyless: Keyless,
    pub(crate) limits: ServerLimits,
    pub(crate) hub: Arc<JobHub>,
    pub(crate) submitter: Submitter,
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
    gates: Mutex<Option<(Instant, Arc<Gates>)>>,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    pub(crate) fn start(options: ServerOptions, address: SocketAddr, stopping: CancellationToken) -> Self {
        let store = options.store;
        let bell = |bell| Ringer::start(store.clone(), bell, BELL_GAP);
        let ready_bell = bell(Doorbell::Ready);
        Self(Arc::new(Parts {
            tenant: options.tenant,
            address,
            keyless: options.keyless,
            limits: options.limits,
            hub: JobHub::start(store.clone(), stopping.clone()),
            submitter: Submitter::start(&store, ready_bell.clone()),
            ready_bell,
            ended_bell: bell(Doorbell::Ended),
            cancelled_bell: bell(Doorbell::Cancelled),
            metrics: options.metrics.scheduler(),
            registry: options.metrics,
            stopping,
            next_count: Mutex::new(None),
            fixed_configuration: options.fixed_configuration,
            gates: Mutex::new(None),
            store,
        }))
    }

    /// The gates, at most a second old. Whoever comes while they are read waits for the same reading.
    pub(crate) async fn gates(&self) -> Result<Arc<Gates>, ApiError> {
        asked(READ_PATIENCE, self.gates_of_now()).await
    }

    async fn gates_of_now(&self) -> Result<Arc<Gates>, SchedulerError> {
        let mut known = self.gates.lock().await;
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
    pub(crate) async fn forget_gates(&self) {
        *self.gates.lock().await = None;
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
