//! Who asks, and what is done on its behalf.

use std::sync::Arc;

use sluice_domain::{ApiKeyHash, ApiKeyId, KeyRights, TenantName};
use tokio::time::Instant;

/// Somebody who was let in.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Whose jobs it reaches.
    pub(crate) tenant: TenantName,
    /// What it may do.
    pub(crate) rights: KeyRights,
    /// How it showed who it is.
    pub(crate) proof: Proof,
}

/// How somebody showed who it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof {
    /// Not at all: no key has been made.
    None,
    /// By an API key.
    Key {
        /// Which.
        id: ApiKeyId,
        /// By which it is looked up again.
        hash: ApiKeyHash,
        /// Until when it is valid, if nobody revokes it.
        until: Option<Instant>,
    },
    /// By a token that somebody else signed, which is good until then.
    Token {
        /// Until when.
        until: Instant,
    },
    /// By a signature over the request itself.
    Signature,
}

impl Caller {
    /// Everybody, where no key has been made.
    pub(crate) fn keyless(tenant: TenantName) -> Arc<Self> {
        Arc::new(Self { tenant, rights: KeyRights::all(), proof: Proof::None })
    }

    /// The key, by which rates are counted.
    pub(crate) const fn key(&self) -> Option<ApiKeyId> {
        match self.proof {
            Proof::Key { id, .. } => Some(id),
            Proof::None | Proof::Token { .. } | Proof::Signature => None,
        }
    }

    /// Whether what it showed is out of date.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        match self.proof {
            Proof::Key { until, .. } => until.is_some_and(|until| until <= now),
            Proof::Token { until } => until <= now,
            Proof::None | Proof::Signature => false,
        }
    }
}
