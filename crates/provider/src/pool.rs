//! The connections to one upstream.
//!
//! An HTTP/2 client keeps one connection to a host, and servers allow about a hundred streams on it: 2,500 calls at
//! once would stand in a line inside the client. So there are as many clients as calls under way need, filled in
//! order, so that the last ones fall idle first. Over HTTP/1.1, where each call has a connection of its own, it makes
//! no difference but for the bound of idle connections, which so grows with the calls under way.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::{ProviderError, Upstream};

/// Calls on one client at once: the least that servers of HTTP/2 are asked to allow.
const CALLS_PER_CLIENT: usize = 100;
/// Above this many clients, calls share them.
const MAX_CLIENTS: usize = 64;
/// Shorter than the servers' own (5 s is the shortest default around), so that a call is not written to a connection
/// that its server is just closing: its outcome would be unknown.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often a silent connection is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// The clients of one upstream.
pub(crate) struct Pool {
    upstream: Upstream,
    tls: rustls::ClientConfig,
    clients: RwLock<Vec<PooledClient>>,
}

#[derive(Clone)]
struct PooledClient {
    http: reqwest::Client,
    calls: Arc<AtomicUsize>,
}

/// A client that counts one call until this is dropped.
pub(crate) struct ClientPermit {
    http: reqwest::Client,
    calls: Arc<AtomicUsize>,
}

impl ClientPermit {
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(crate) fn new(upstream: Upstream) -> Result<Self, ProviderError> {
        // Other libraries in the process ask for the default; a second install only says that there is one.
        let _ = ring::default_provider().install_default();
        let tls = tls_config()
            .map_err(|source| ProviderError::Certificates { upstream: upstream.name.clone(), source })?;
        let first = PooledClient::build(&upstream, &tls)
            .map_err(|source| ProviderError::Build { upstream: upstream.name.clone(), source })?;
        Ok(Self { upstream, tls, clients: RwLock::new(vec![first]) })
    }

    /// A client with room for one more call.
    pub(crate) fn acquire(&self) -> ClientPermit {
        {
            let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(permit) = clients.iter().find_map(PooledClient::try_acquire) {
                return permit;
            }
            if clients.len() >= MAX_CLIENTS {
                return least_used(&clients).acquire();
            }
        }
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = clients.iter().find_map(PooledClient::try_acquire) {
            return permit;
        }
        if clients.len() < MAX_CLIENTS
            && let Ok(client) = PooledClient::build(&self.upstream, &self.tls)
        {
            clients.push(client);
        }
        least_used(&clients).acquire()
    }
}

fn least_used(clients: &[PooledClient]) -> &PooledClient {
    let least_used = clients.iter().min_by_key(|client| client.calls.load(Ordering::Relaxed));
    least_used.expect("the first client was built with the pool and none is ever removed")
}

impl PooledClient {
    fn build(upstream: &Upstream, tls: &rustls::ClientConfig) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .gzip(true)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE_INTERVAL)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .http2_keep_alive_timeout(KEEP_ALIVE_INTERVAL)
            .connect_timeout(upstream.timeouts.connect)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(upstream.max_idle_connections)
            .build()?;
        Ok(Self { http, calls: Arc::default() })
    }

    fn try_acquire(&self) -> Option<ClientPermit> {
        let room = |calls: usize| (calls < CALLS_PER_CLIENT).then_some(calls + 1);
        self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(ClientPermit { http: self.http.clone(), calls: Arc::clone(&self.calls) })
    }

    fn acquire(&self) -> ClientPermit {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ClientPermit { http: self.http.clone(), calls: Arc::clone(&self.calls) }
    }
}

/// The system's certificates, loaded once for all clients of an upstream; HTTP/2 where the server has it.
fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use sluice_domain::UpstreamName;

    use super::*;
    use crate::Dialect;

    #[test]
    fn clients_are_added_as_calls_need_them_and_filled_in_order() {
        let upstream = Upstream::new(UpstreamName::new("u").unwrap(), Dialect::OpenAi, "http://127.0.0.1:1");
        let pool = Pool::new(upstream).unwrap();
        let count = || pool.clients.read().unwrap().len();
        let first: Vec<_> = (0..CALLS_PER_CLIENT).map(|_| pool.acquire()).collect();
        assert_eq!(count(), 1);
        let second = pool.acquire();
        assert_eq!(count(), 2);
        drop(first);
        let third = pool.acquire();
        assert!(!Arc::ptr_eq(&second.calls, &third.calls));
        assert_eq!((count(), third.calls.load(Ordering::Relaxed)), (2, 1));
    }
}
