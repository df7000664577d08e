//! What a worker is told at its start. Not here: where the values come from (flags, environment), which is `cli`'s.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sluice_config::Configuration;
use sluice_domain::{QueueName, TenantName};
use sluice_store::Store;
use sluice_telemetry::MetricsRegistry;
use tokio::sync::mpsc;

use crate::{SettledJob, SuspectCommand, host_and_boot};

/// Where upstreams, routes and retry policies come from.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one or two of them")]
pub enum ConfigurationSource {
    /// This one, for as long as the worker lives.
    Fixed(Configuration),
    /// The newest in the database, loaded again whenever the beat tells of a newer one.
    Database,
}

/// Looks up the environment variable that a secret refers to.
pub type SecretLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How often, and for how long. The TTL must be the reapers' own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How old the last beat may be before reapers end the leases. Default 15 s.
    pub lease_ttl: Duration,
    /// Between two beats. Default 3 s.
    pub beat_interval: Duration,
    /// Between two looks for work while there is none; a fifth more or less by jitter. Default 2 s.
    pub poll_interval: Duration,
    /// How long calls under way may take to end when the worker is drained. Default 30 s.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(15),
            beat_interval: Duration::from_secs(3),
            poll_interval: Duration::from_secs(2),
            grace: Duration::from_secs(30),
        }
    }
}

impl Timing {
    /// How old the sending of the last acknowledged beat may be for a call to start: a fifth of the TTL is left for
    /// what lies between the decision and the first byte.
    pub(crate) fn start_within(&self) -> Duration {
        self.lease_ttl.mul_f64(0.8)
    }

    /// For how long an attempt may do nothing but compute. An answer is read and judged in a fraction of a second; the
    /// rest is for hosts that are overloaded.
    pub(crate) fn stuck_after(&self) -> Duration {
        #[cfg(feature = "failpoints")]
        if let Some(ordered) = crate::faults::stuck_after() {
            return ordered;
        }
        self.lease_ttl * 2
    }
}

/// When a worker ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WorkMode {
    /// Never.
    #[default]
    Forever,
    /// When nothing is left to do: no job of its queues waits, now or for a time, and none is in flight. What is
    /// blocked (a paused queue or upstream, a missing secret) does not count, see
    /// [`crate::WorkerHandle::blocked`].
    UntilIdle,
}

/// Where outcomes wait on the disk while the database is away, and how much of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpoolOptions {
    /// The folder of all spools of this host. It is made where it is missing, for its owner's eyes only.
    pub folder: PathBuf,
    /// Above so many bytes no call is started. Default 1 GiB.
    pub max_bytes: u64,
    /// Above so many outcomes no call is started. Default 100,000.
    pub max_outcomes: u64,
}

impl SpoolOptions {
    /// Options with the defaults.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), max_bytes: 1024 * 1024 * 1024, max_outcomes: 100_000 }
    }
}

/// All that a worker is told.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The database.
    pub store: Store,
    /// Where the configuration comes from.
    pub configuration: ConfigurationSource,
    /// Where secrets come from. Default: the process's environment.
    pub secrets: SecretLookup,
    /// The worker's name, for people. Default: `worker`.
    pub name: String,
    /// Which host and boot it runs on; reapers judge lock files of their own host only. Default: [`host_and_boot`].
    pub host: String,
    /// Where lock files lie; without one, the worker's death is noticed by its beat alone.
    pub lock_dir: Option<PathBuf>,
    /// Where outcomes wait while the database is away; default in memory alone.
    pub spool: Option<SpoolOptions>,
    /// Calls under way at once. Default 500.
    pub concurrency: usize,
    /// Works only this tenant's jobs; default all.
    pub tenant: Option<TenantName>,
    /// Works only these queues; default all but those of single runs.
    pub queues: Option<Vec<QueueName>>,
    /// Intervals and limits of time.
    pub timing: Timing,
    /// When it ends by itself.
    pub mode: WorkMode,
    /// Starts the process that a suspect has to itself: a job with two crashes behind it. With it, this process counts as
    /// the worker's own: it is drained and ended where an attempt in it is stuck. Default: none; then suspects are worked
    /// in this process like any job, a third crash holds them, whoever's doing it was, and nothing ends the process.
    pub suspect_command: Option<SuspectCommand>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; default nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The process's metrics.
    pub metrics: MetricsRegistry,
    /// Hears of every attempt that was settled, in groups as they were written.
    pub settled: Option<mpsc::UnboundedSender<Vec<SettledJob>>>,
}

impl WorkerOptions {
    /// Options with the defaults.
    pub fn new(store: Store, configuration: ConfigurationSource, metrics: MetricsRegistry) -> Self {
        Self {
            store,
            configuration,
            secrets: Arc::new(|name| std::env::var(name).ok()),
            name: "worker".to_owned(),
            host: host_and_boot(),
            lock_dir: None,
            spool: None,
            concurrency: 500,
            tenant: None,
            queues: None,
            timing: Timing::default(),
            mode: WorkMode::Forever,
            suspect_command: None,
            metrics_listen: None,
            metrics,
            settled: None,
        }
    }
}
