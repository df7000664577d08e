//! Who may come in beside those with API keys, as the configuration says: kept until another configuration is applied,
//! or what it refers to may have changed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_config::{Access, Configuration};
use sluice_domain::Network;
use sluice_store::Store;
use tokio::time::Instant;

use super::{jwks, signed::Signer, token::Issuer};
use crate::{
    SchedulerError, gates,
    server::{ApiError, READ_PATIENCE, asked},
};

/// Secrets and keys are read again so often: files are replaced when keys are rotated.
const RENEW_AFTER: Duration = Duration::from_secs(30);

/// The rules of one configuration, with the keys that they refer to.
pub(super) struct Rules {
    pub(super) issuers: Vec<Issuer>,
    pub(super) signers: Vec<Signer>,
    /// Who says in `X-Forwarded-For` where a request comes from.
    pub(super) trusted_proxies: Vec<Network>,
    /// Whether anybody is named, with a key or without.
    pub(super) is_anybody_named: bool,
    version: i64,
    read_at: Instant,
}

/// Keeps the rules.
pub(super) struct RuleBook {
    store: Store,
    fixed: Option<Configuration>,
    known: Mutex<Option<Arc<Rules>>>,
    turn: tokio::sync::Mutex<()>,
}

impl RuleBook {
    pub(super) fn new(store: Store, fixed: Option<Configuration>) -> Self {
        Self { store, fixed, known: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The rules of the newest configuration, which has this version.
    pub(super) async fn rules(&self, version: i64) -> Result<Arc<Rules>, ApiError> {
        if let Some(known) = self.known(version) {
            return Ok(known);
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(version) {
            return Ok(known);
        }
        let access = asked(READ_PATIENCE, self.access()).await?;
        // Reading small files may take long where a file system hangs; others are served meanwhile.
        let reading = tokio::task::spawn_blocking(move || Rules::of(access, version));
        let rules = Arc::new(reading.await.map_err(|_| ApiError::internal())?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&rules));
        Ok(rules)
    }

    /// Whether anybody was named by the rules that were last read.
    pub(super) fn last_seen_anybody_named(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|rules| rules.is_anybody_named)
    }

    /// The proxies of the rules that were last read.
    pub(super) fn last_seen_proxies(&self) -> Vec<Network> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|rules| rules.trusted_proxies.clone()).unwrap_or_default()
    }

    fn known(&self, version: i64) -> Option<Arc<Rules>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let is_fresh = !known.is_anybody_named || known.read_at.elapsed() < RENEW_AFTER;
        (known.version == version && is_fresh).then_some(known)
    }

    async fn access(&self) -> Result<Access, SchedulerError> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.access.clone());
        }
        Ok(gates::configuration(&self.store).await?.map(|known| known.access).unwrap_or_default())
    }
}

impl Rules {
    /// Gets what the configuration refers to. Whoever's key can't be had is not let in; the others are.
    fn of(access: Access, version: i64) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let is_anybody_named = !access.names_nobody();
        let trusted_proxies = access.trusted_proxies;
        let mut issuers = Vec::new();
        for rules in access.jwt {
            let failed = |error: &dyn std::error::Error| {
                tracing::error!(issuer = rules.issuer, error = %error, "the keys of a token issuer can't be used");
            };
            match rules.jwks.resolve_document(variable) {
                Ok(document) => match jwks::read_keys(document.expose()) {
                    Ok(keys) => issuers.push(Issuer { rules, keys }),
                    Err(error) => failed(&error),
                },
                Err(error) => failed(&error),
            }
        }
        let mut signers = Vec::new();
        for rules in access.signed {
            match rules.secret.resolve(variable) {
                Ok(secret) => signers.push(Signer::new(rules, &secret)),
                Err(error) => {
                    tracing::error!(signer = rules.id, error = %error, "the secret of a signer can't be used");
                }
            }
        }
        Self { issuers, signers, trusted_proxies, is_anybody_named, version, read_at: Instant::now() }
    }
}
