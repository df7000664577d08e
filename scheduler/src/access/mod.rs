//! Who may come in, and as whom: the one place where a request becomes a [`Caller`].
//!
//! - With an API key: its tenant, its rights.
//! - With a token that a configured issuer signed, or by a signature over the request itself: the tenant and the scopes that
//!   the configuration says, or the token.
//! - Without any of these: the tenant `default` and all rights, but only while no key was ever made (not: while none is valid, or
//!   revoking the last key would open the door) and no issuer or signer is configured, and only on a loopback address or where the operator says so.
//!
//! REST and gRPC ask here before any handler runs (`server::admission`, `grpc::admission`). What a caller may do is asked
//! by the handler, by the type of what it takes ([`crate::server::MaySubmit`] and its kin): there is no other way to the
//! tenant. Pages and probes that hold nobody's data are open.
//!
//! If the database is away, nobody can be told from somebody else, and requests end with 503.

mod bounds;
mod caller;
mod credential;
mod foreign;
mod forwarded;
mod jwks;
mod key_book;
mod key_uses;
mod refusals;
mod rules;
mod signed;
mod token;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use sluice_config::Configuration;
use sluice_domain::{ApiKey, KeyRights, TenantName};
use sluice_store::Store;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    bounds::{Allowed, Bounds},
    caller::{Caller, Proof},
    refusals::{files_not_allowed, missing_key, missing_scope, not_the_operator, queue_not_named},
};
use self::{
    credential::{Credential, credential_of},
    forwarded::client_of,
    key_book::KeyBook,
    key_uses::KeyUses,
    rules::{RuleBook, Rules},
    signed::{BadSignature, Claim, NONCE_KEPT},
    token::{looks_like_token, read_token},
};
use crate::{
    server::{ApiError, Keyless, Protocol, READ_PATIENCE, asked},
    wall_clock,
};

/// A token that is good for longer is looked at again after so long, where what it opened still goes on.
const LONGEST_TOKEN: Duration = Duration::from_hours(24);

/// What a request says that is signed itself. It is not believed yet.
pub(crate) struct SignedClaim(Claim);

/// Decides who comes in.
pub(crate) struct Access {
    keys: Arc<KeyBook>,
    rules: RuleBook,
    store: Store,
    /// Whoever asks while no key has been made.
    nobody: Arc<Caller>,
    address: SocketAddr,
    keyless: Keyless,
    protocol: Protocol,
}

impl Access {
    /// `fixed`: the configuration, where it does not stand in the database. `tenant`: whose jobs are reached without a
    /// key. Then where and how the server listens.
    pub(crate) fn start(
        store: Store,
        fixed: Option<Configuration>,
        tenant: TenantName,
        (address, keyless, protocol): (SocketAddr, Keyless, Protocol),
        stopping: CancellationToken,
    ) -> Self {
        let uses = KeyUses::start(store.clone(), stopping);
        let keys = KeyBook::new(store.clone(), uses);
        let rules = RuleBook::new(store.clone(), fixed);
        Self { keys, rules, store, nobody: Caller::keyless(tenant), address, keyless, protocol }
    }

    /// Lets the sender of a request in, or says why not. `peer`: where the request comes from.
    pub(crate) async fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Arc<Caller>, ApiError> {
        match credential_of(headers)? {
            Credential::Key(key) => self.by_key(&key, headers, peer).await,
            Credential::Bearer(text) if looks_like_token(text) => self.by_token(text, headers).await,
            Credential::None | Credential::Bearer(_) | Credential::Other { .. } => {
                self.keyless(headers).await
            }
        }
    }

    /// As [`Self::admit`], for `/metrics`: whoever looks why the database is away must not be kept out by its being away.
    /// Then what was last known of the caller counts.
    pub(crate) async fn admit_to_metrics(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<Arc<Caller>, ApiError> {
        let refusal = match self.admit(headers, peer).await {
            Err(refusal) if refusal.status() == StatusCode::SERVICE_UNAVAILABLE => refusal,
            admitted => return admitted,
        };
        match credential_of(headers)? {
            Credential::Key(key) => {
                let known = self.keys.last_seen(key.hash());
                let client = client_of(headers, peer, &self.rules.last_seen_proxies());
                let is_good = |caller: &Arc<Caller>| {
                    !caller.has_expired(Instant::now()) && caller.rights.allow_address(client)
                };
                known.filter(is_good).ok_or(refusal)
            }
            _ if self.keys.last_seen_any_made() || self.rules.last_seen_anybody_named() => Err(refusal),
            _ => self.admit_nobody(headers),
        }
    }

    /// Whether somebody who was let in a while ago still would be: for what takes long.
    pub(crate) async fn still_admits(&self, caller: &Caller) -> Result<(), ApiError> {
        let is_good = match caller.proof {
            Proof::None => !self.is_closed().await?,
            Proof::Key { hash, .. } => self.keys.find(hash).await?.is_some(),
            Proof::Token { .. } | Proof::Signature => !caller.has_expired(Instant::now()),
        };
        if is_good { Ok(()) } else { Err(refusals::invalid_key()) }
    }

    /// Refuses what a foreign web page sends to a page that is open to all, while there are no keys.
    pub(crate) async fn admit_to_open_page(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let refusal = match self.refuse_foreign(headers) {
            Err(refusal) if self.address.ip().is_loopback() => refusal,
            // Who reaches another address needs no help of a page, and probes name it as they like.
            _ => return Ok(()),
        };
        if self.is_closed().await.is_ok_and(|is_closed| is_closed) { Ok(()) } else { Err(refusal) }
    }

    async fn by_key(&self, key: &ApiKey, headers: &HeaderMap, peer: IpAddr) -> Result<Arc<Caller>, ApiError> {
        let caller = self.keys.find(key.hash()).await?.ok_or_else(refusals::invalid_key)?;
        // Only where it matters: all others may come from anywhere.
        if caller.rights.networks.is_some() {
            let client = client_of(headers, peer, &self.rules().await?.trusted_proxies);
            if !caller.rights.allow_address(client) {
                return Err(refusals::foreign_address());
            }
        }
        Ok(caller)
    }

    async fn keyless(&self, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
        if self.is_closed().await? {
            return Err(refusals::missing_key());
        }
        self.admit_nobody(headers)
    }

    /// Lets a request in that shows nothing, where nobody has to show anything.
    fn admit_nobody(&self, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
        if self.keyless == Keyless::LoopbackOnly && !self.address.ip().is_loopback() {
            return Err(refusals::no_key_made());
        }
        self.refuse_foreign(headers)?;
        Ok(Arc::clone(&self.nobody))
    }

    /// Whether everybody has to prove who it is.
    async fn is_closed(&self) -> Result<bool, ApiError> {
        let general = self.keys.general().await?;
        if general.is_any_made {
            return Ok(true);
        }
        Ok(self.rules.rules(general.configuration_version).await?.is_anybody_named)
    }

    async fn rules(&self) -> Result<Arc<Rules>, ApiError> {
        let version = self.keys.general().await?.configuration_version;
        self.rules.rules(version).await
    }

    async fn by_token(&self, token: &str, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
        let rules = self.rules().await?;
        if rules.issuers.is_empty() {
            // It may be the key of another API that merely has dots.
            return self.keyless(headers).await;
        }
        let says = read_token(token, &rules.issuers, wall_clock()).map_err(refusals::bad_token)?;
        let until = Instant::now() + Duration::from_secs(says.remaining_s).min(LONGEST_TOKEN);
        let rights = KeyRights::of_scopes(says.scopes);
        Ok(Arc::new(Caller { tenant: says.tenant, rights, proof: Proof::Token { until } }))
    }

    /// What a request says that is signed itself; `None` for all others. Whoever gets a claim reads the body and goes on
    /// with [`Self::admit_signed`].
    pub(crate) fn signed_claim(headers: &HeaderMap) -> Result<Option<SignedClaim>, ApiError> {
        match credential_of(headers)? {
            Credential::Other { scheme, parameters } if scheme == signed::SCHEME => {
                Claim::read(parameters, wall_clock())
                    .map(|claim| Some(SignedClaim(claim)))
                    .map_err(refusals::bad_signature)
            }
            _ => Ok(None),
        }
    }

    /// Lets the sender of a signed request in, once.
    pub(crate) async fn admit_signed(
        &self,
        SignedClaim(claim): SignedClaim,
        method: &str,
        target: &str,
        body_sha256: &[u8],
    ) -> Result<Arc<Caller>, ApiError> {
        let rules = self.rules().await?;
        let signer = rules.signers.iter().find(|signer| signer.rules.id == claim.signer);
        let signer = signer.ok_or_else(|| refusals::bad_signature(BadSignature::Signer))?;
        claim.verify(signer, method, target, body_sha256).map_err(refusals::bad_signature)?;
        // Only now: nonces of others take no room.
        let noting = self.store.nonce_note_if_new(&claim.signer, &claim.nonce, NONCE_KEPT);
        if !asked(READ_PATIENCE, noting).await? {
            return Err(refusals::bad_signature(BadSignature::Repeated));
        }
        let (tenant, rights) = (signer.rules.tenant.clone(), KeyRights::of_scopes(signer.rules.scopes));
        Ok(Arc::new(Caller { tenant, rights, proof: Proof::Signature }))
    }

    /// Browsers don't speak HTTP/2 in clear text, so that no page can reach gRPC.
    fn refuse_foreign(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.protocol {
            Protocol::Rest => foreign::refuse_foreign(headers, self.address, self.keyless),
            Protocol::Grpc => Ok(()),
        }
    }
}
