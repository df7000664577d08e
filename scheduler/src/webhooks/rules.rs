//! What the configuration says of webhooks, with the secrets that it refers to: read again now and then, since files are
//! replaced when secrets are rotated.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_config::{Configuration, SecretRef};
use sluice_domain::TenantName;
use sluice_store::Store;
use sluice_webhook::{Guard, Sender, SigningSecret, SigningSecrets};
use tokio::time::{Instant, timeout};

use crate::{Gates, SchedulerError, gates};

/// Rules are read again when they are so old.
const RENEW_AFTER: Duration = Duration::from_secs(30);
/// How long reading them may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How ends of jobs are told.
pub(super) struct Rules {
    pub(super) sender: Sender,
    /// What jobs are shown with.
    pub(super) gates: Gates,
    secrets: HashMap<TenantName, SigningSecrets>,
}

impl Rules {
    /// By what a tenant's deliveries are signed.
    pub(super) fn secrets_of(&self, tenant: &TenantName) -> Option<&SigningSecrets> {
        self.secrets.get(tenant)
    }
}

/// Keeps the rules.
pub(super) struct RuleBook {
    store: Store,
    fixed: Option<Configuration>,
    known: Option<Arc<Rules>>,
    read_at: Option<Instant>,
}

impl RuleBook {
    pub(super) fn new(store: Store, fixed: Option<Configuration>) -> Self {
        Self { store, fixed, known: None, read_at: None }
    }

    /// The rules; `None` where no tenant has a secret, so that nothing can be sent.
    pub(super) async fn rules(&mut self) -> Option<Arc<Rules>> {
        if self.read_at.is_none_or(|at| at.elapsed() >= RENEW_AFTER) {
            self.read_at = Some(Instant::now());
            match timeout(PATIENCE, self.read()).await {
                Ok(Ok(configuration)) => self.known = rules_of(configuration).await.map(Arc::new),
                // What was known goes on to count.
                Ok(Err(error)) => tracing::debug!(error = %error, "the rules of webhooks could not be read"),
                Err(_) => tracing::debug!("the rules of webhooks could not be read in time"),
            }
        }
        self.known.clone()
    }

    /// Has them read at the next look: a job was submitted under rules that may be newer.
    pub(super) fn renew(&mut self) {
        if self.known.is_none() {
            self.read_at = None;
        }
    }

    async fn read(&self) -> Result<Configuration, SchedulerError> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        Ok(gates::configuration(&self.store).await?.unwrap_or_default())
    }
}

async fn rules_of(configuration: Configuration) -> Option<Rules> {
    if configuration.webhooks.secrets.is_empty() {
        return None;
    }
    // Reading small files may take long where a file system hangs; what is under way goes on meanwhile.
    let resolving = tokio::task::spawn_blocking(move || resolve(configuration));
    resolving.await.ok().flatten()
}

fn resolve(configuration: Configuration) -> Option<Rules> {
    let webhooks = configuration.webhooks.clone();
    let sender = match Sender::new(Guard::new(webhooks.allow_addresses)) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(error = %error, "webhooks can't be sent");
            return None;
        }
    };
    let mut secrets = HashMap::new();
    for of_tenant in webhooks.secrets {
        let previous = of_tenant.previous.as_ref().and_then(secret_of);
        if let Some(present) = secret_of(&of_tenant.secret) {
            secrets.insert(of_tenant.tenant, SigningSecrets { present, previous });
        }
    }
    Some(Rules { sender, gates: Gates::of_ended(configuration), secrets })
}

/// Where it can't be had, the tenant's deliveries wait; the others go on.
fn secret_of(reference: &SecretRef) -> Option<SigningSecret> {
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(reference = %reference, error = %error, "the secret of webhooks can't be used");
    };
    match reference.resolve(|name| std::env::var(name).ok()) {
        Ok(secret) => SigningSecret::parse(secret.expose()).inspect_err(|error| failed(error)).ok(),
        Err(error) => {
            failed(&error);
            None
        }
    }
}
