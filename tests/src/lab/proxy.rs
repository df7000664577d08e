//! A TCP proxy that breaks connections when it is told to: silence either way, resets, refusals, cuts, drips, delays and
//! losses, switched while connections are open.
//!
//! Silence is what a network that loses every packet looks like to a program: bytes are taken by the kernel and nothing
//! comes. What was sent meanwhile arrives after [`FaultProxy::heal`], as TCP's retransmissions would bring it; after
//! [`FaultProxy::abandon`] it never does, as where a router forgot the connection or the other host is gone. One thing
//! differs from a real network: a new connection to a silent proxy is accepted, since the kernel does that by itself.
//! For an address that accepts nobody see [`super::unreachable`].
//!
//! Not here: what is sent. The proxy never looks into the bytes.

mod connection;
mod flow;
mod listening;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use tokio::{sync::watch, task::JoinHandle};

pub use self::flow::Flow;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From whoever connected to the server behind the proxy.
    ToServer,
    /// Back.
    ToClient,
}

impl Direction {
    /// Both ways.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    const fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }
}

/// The server behind a proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// At an address.
    Tcp(SocketAddr),
    /// At a socket in the file system.
    Unix(PathBuf),
}

impl Target {
    /// The server of a database.
    pub async fn database(options: &PgConnectOptions) -> Result<Self> {
        let (host, port) = (options.get_host(), options.get_port());
        let folder =
            options.get_socket().cloned().or_else(|| host.starts_with('/').then(|| PathBuf::from(host)));
        Ok(match folder {
            Some(folder) => Self::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            None => Self::Tcp(
                tokio::net::lookup_host((host, port)).await?.next().context("find the database's address")?,
            ),
        })
    }
}

/// What the proxy does to connections now. Connections are numbered in the order in which they came.
#[derive(Clone, PartialEq, Debug, Default)]
struct Plan {
    flows: [Flow; 2],
    is_refusing: bool,
    /// Connections with a lower number are reset,
    reset_below: u64,
    /// and of these nothing is heard any more.
    abandoned_below: u64,
}

impl Plan {
    fn is_silent(&self, number: u64, direction: Direction) -> bool {
        number < self.abandoned_below || self.flows[direction.index()].is_silent
    }
}

#[derive(Debug)]
struct Shared {
    seed: u64,
    /// Where new connections lead.
    target: Mutex<Target>,
    plan: watch::Sender<Plan>,
    /// Whether connections are taken at this moment.
    is_listening: watch::Sender<bool>,
    accepted: AtomicU64,
    open: AtomicU64,
    passed: [AtomicU64; 2],
}

impl Shared {
    fn target(&self) -> Target {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running proxy; dropping it ends it and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultProxy {
    /// Starts a proxy before `target` on a free port; without a fault. `seed` decides what is lost.
    pub fn start(seed: u64, target: Target) -> io::Result<Self> {
        let listener = listening::listen(None)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seed,
            target: Mutex::new(target),
            plan: watch::Sender::new(Plan::default()),
            is_listening: watch::Sender::new(true),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            passed: [const { AtomicU64::new(0) }; 2],
        });
        let task = tokio::spawn(listening::run(Arc::clone(&shared), listener, address));
        Ok(Self { address, shared, task })
    }

    /// Starts a proxy before a database.
    pub async fn before_database(seed: u64, options: &PgConnectOptions) -> Result<Self> {
        Ok(Self::start(seed, Target::database(options).await?)?)
    }

    /// The URL of that database by way of this proxy.
    pub fn database_url(&self, options: &PgConnectOptions) -> String {
        let mut url = options.to_url_lossy();
        let ours = ["host", "port", "statement-cache-capacity"];
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| !ours.contains(&name.as_str())).collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        // A URL of the scheme postgres has a host and a port, empty or not.
        let _ = url.set_ip_host(self.address.ip());
        let _ = url.set_port(Some(self.address.port()));
        url.to_string()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead to another server from now on, as an address that moves at a fail-over. Those that are open
    /// stay where they are.
    pub fn lead_to(&self, target: Target) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Nothing passes that way from now on; what is sent waits.
    pub fn black_hole(&self, direction: Direction) {
        self.set(direction, Flow { is_silent: true, ..Flow::default() });
    }

    /// Nothing passes at all.
    pub fn black_hole_both(&self) {
        for direction in Direction::BOTH {
            self.black_hole(direction);
        }
    }

    /// Bytes that way are treated so from now on.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.shared.plan.send_modify(|plan| plan.flows[direction.index()] = flow);
    }

    /// Each piece is lost with this probability and comes later, as with TCP's own retransmissions.
    pub fn lose(&self, probability: f64) {
        for direction in Direction::BOTH {
            self.set(direction, Flow { loss: probability, ..Flow::default() });
        }
    }

    /// Each connection is reset when so many more bytes went that way.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.set(direction, Flow { cut_after: Some(bytes), ..Flow::default() });
    }

    /// So many bytes a second, on each connection.
    pub fn drip(&self, direction: Direction, bytes_per_second: u32) {
        self.set(direction, Flow { bytes_per_second: Some(bytes_per_second), ..Flow::default() });
    }

    /// Each piece comes later by this.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.set(direction, Flow { delay, ..Flow::default() });
    }

    /// Resets all connections that are open now (RST, not FIN, on both sides).
    pub fn reset(&self) {
        let below = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.plan.send_modify(|plan| plan.reset_below = below);
    }

    /// Of the connections that are open now nothing is ever heard again; new ones are not concerned.
    pub fn abandon(&self) {
        let below = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.plan.send_modify(|plan| plan.abandoned_below = below);
    }

    /// Refuses new connections, from the moment at which this returns.
    pub async fn refuse(&self) {
        self.shared.plan.send_modify(|plan| plan.is_refusing = true);
        self.until_listening(false).await;
    }

    /// Ends all faults but those that ended connections: what was held is delivered, new connections are taken.
    pub async fn heal(&self) {
        self.shared.plan.send_modify(|plan| {
            plan.flows = [Flow::default(); 2];
            plan.is_refusing = false;
        });
        self.until_listening(true).await;
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections that were ever taken.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that went that way, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.passed[direction.index()].load(Ordering::SeqCst)
    }

    async fn until_listening(&self, expected: bool) {
        // The sender lives as long as this.
        let _ = self.shared.is_listening.subscribe().wait_for(|is| *is == expected).await;
    }
}
