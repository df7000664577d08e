//! L4: lease and settle of jobs whose lanes all take of one account's limits, which never bind: what exact limits over
//! all workers cost.
//!
//! Two workers' database side ([`worker_side`]) on a backlog of 200,000 in 1, 10 and 1,000 lanes: without any limit, with
//! one of the calls under way, and with limits of requests and tokens a minute besides. The *limit* is the rate without.

use anyhow::Result;
use sluice_domain::{DeclaredLimit, LimitId, LimitKind, LimitSubject};

use crate::{
    progress,
    rig::{
        Bench, JOBS_PER_S, LIMIT, SLUICE, Server, Sheet, fixture,
        worker_side::{self, Workers},
    },
};

const WORKERS: usize = 2;
const LANES: [u32; 3] = [1, 10, 1_000];
/// So much that it never binds.
const CAP: u64 = 1_000_000_000_000;

/// Which limits a lane has.
#[derive(Clone, Copy)]
enum Limits {
    None,
    Slots,
    All,
}

impl Limits {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Slots => "slots",
            Self::All => "slots+requests+tokens",
        }
    }

    fn declared(self) -> Vec<DeclaredLimit> {
        let limit = |kind, window_s| {
            let subject = LimitSubject::Account { account: "main".to_owned(), model: None };
            DeclaredLimit { subject, kind, window_s, cap: CAP, floor: None }
        };
        match self {
            Self::None => Vec::new(),
            Self::Slots => vec![limit(LimitKind::Concurrency, 0)],
            Self::All => vec![
                limit(LimitKind::Concurrency, 0),
                limit(LimitKind::Requests, 60),
                limit(LimitKind::Tokens, 60),
            ],
        }
    }
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("L4");
    let backlog = bench.choose(200_000, 50_000);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        for lanes in LANES {
            let free = drained(&server, backlog, lanes, Limits::None).await?;
            progress!("L4 run {run}: {lanes} lanes without a limit: {free:.0} jobs/s");
            for limits in [Limits::Slots, Limits::All] {
                let variant = format!("lanes={lanes} limits={}", limits.word());
                let rate = drained(&server, backlog, lanes, limits).await?;
                progress!("L4 run {run}: {variant}: {rate:.0} jobs/s");
                sheet.note(LIMIT, &variant, JOBS_PER_S, free);
                sheet.note(SLUICE, &variant, JOBS_PER_S, rate);
                sheet.note_used(&variant, rate, free);
            }
        }
    }
    bench.publish(&sheet)
}

async fn drained(server: &Server, backlog: u64, lanes: u32, limits: Limits) -> Result<f64> {
    let database = server.database().await?;
    fixture::fill_lanes(&database, backlog, lanes).await?;
    let declared = limits.declared();
    let store = database.store(1).await?;
    store.limits_declare(&declared).await?;
    let mut ids: Vec<LimitId> = declared.iter().map(DeclaredLimit::id).collect();
    ids.sort_unstable();
    let workers = Workers::connect(&database, WORKERS).await?.limited(&ids).await;
    let worked = workers.work(backlog).await?;
    worker_side::check_done_once(&database, backlog).await?;
    drop((workers, store));
    database.remove().await?;
    Ok(worked.rate())
}
