//! What every benchmark stands on.
//!
//! - [`Bench`]: what the caller asked for (how many runs, quick or full, which peers), and where figures go;
//! - [`Sheet`]: the figures of one benchmark, one value a run; [`Bench::publish`] prints and appends them;
//! - [`Server`] and [`Database`]: a private Postgres with the settings that hold for everybody, and databases in it;
//! - [`fixture`]: backlogs, made by SQL; [`payload`]: the jobs and answers that are stored;
//! - [`worker_side`]: what a worker does with the database, as a loop of its own;
//! - [`Peer`]: another queue, behind its adapter;
//! - [`pgbench`]: Postgres' own load generator, for limits;
//! - [`processes`]: real `sluice` processes, with their CPU time and memory; [`http`]: a client that costs little;
//! - [`simulated`]: an upstream as a process, and what its ledger says;
//! - [`Latencies`] for percentiles.
//!
//! A benchmark is a module with `pub async fn run(bench: &Bench) -> anyhow::Result<()>` and a line in the table of
//! `main.rs`. It measures everybody in turn within each run, so that what disturbs the machine disturbs all:
//!
//! ```no_run
//! # use sluice_bench::rig::{Bench, JOBS_PER_S, Server, Sheet, SLUICE};
//! # async fn run(bench: &Bench) -> anyhow::Result<()> {
//! let mut sheet = Sheet::new("X1");
//! let server = Server::start().await?;
//! for _ in 0..bench.runs {
//!     let database = server.database().await?;
//!     let jobs = bench.choose(200_000, 20_000);
//!     // … measure …
//!     sheet.note(SLUICE, "workers=1", JOBS_PER_S, f64::from(jobs) / 5.0);
//!     database.remove().await?;
//! }
//! bench.publish(&sheet)
//! # }
//! ```

mod bench;
pub mod copy;
pub mod fixture;
pub mod http;
mod latencies;
pub mod payload;
mod peers;
pub mod pgbench;
pub mod processes;
mod report;
mod server;
mod sheet;
pub mod simulated;
mod snapshot;
pub mod worker_side;

pub use bench::{Bench, Size};
pub use latencies::Latencies;
pub use peers::{Peer, PeerSelection};
pub use report::Report;
pub use server::{Database, Server};
pub use sheet::{
    CALLS_PER_S, JOBS_PER_S, LIMIT, Line, Metric, P50_MS, P99_MS, SLUICE, Sheet, Summary, USED_RATIO,
};
pub use snapshot::HeldSnapshot;
