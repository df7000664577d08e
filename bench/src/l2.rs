//! L2: lease and settle with few, many and very many jobs waiting: what waits must not slow down what runs.
//!
//! Two workers' database side ([`worker_side`](crate::rig::worker_side)) take 100,000 jobs in ten rounds of 10,000. Before each round the backlog is
//! brought back to its size, without a clock running: of 10,000 waiting jobs a single round takes all. The rounds are the
//! same for every size, so that what a round's begin and end cost is in each figure alike. The ratio is to the smallest
//! backlog of the same run.

use anyhow::Result;

use crate::{
    progress,
    rig::{
        Bench, JOBS_PER_S, Latencies, Metric, SLUICE, Server, Sheet, fixture,
        worker_side::{Worked, Workers},
    },
};

const WORKERS: usize = 2;
const ROUNDS: u64 = 10;
const JOBS_A_ROUND: u64 = 10_000;

const LEASE_P99_MS: Metric = Metric::new("lease_p99_ms", "ms");
const RATIO: Metric = Metric::new("rate_ratio", "1");

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("L2");
    let backlogs = bench.choose(vec![10_000, 1_000_000, 10_000_000], vec![10_000, 1_000_000]);
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let mut smallest = None;
        for backlog in &backlogs {
            let worked = sluice(&server, *backlog).await?;
            let (rate, variant) = (worked.rate(), format!("backlog={backlog}"));
            progress!("L2 run {run}: {backlog} waiting: {rate:.0} jobs/s");
            sheet.note(SLUICE, &variant, JOBS_PER_S, rate);
            sheet.note(SLUICE, &variant, LEASE_P99_MS, worked.leases.percentile_ms(99.0));
            sheet.note(SLUICE, &variant, RATIO, rate / *smallest.get_or_insert(rate));
        }
    }
    bench.publish(&sheet)
}

async fn sluice(server: &Server, backlog: u64) -> Result<Worked> {
    let database = server.database().await?;
    fixture::fill(&database, backlog).await?;
    let workers = Workers::connect(&database, WORKERS).await?;
    let (mut sum, mut leases) = (Worked::default(), Latencies::default());
    for round in 0..ROUNDS {
        if round > 0 && backlog < 10 * JOBS_A_ROUND {
            fixture::fill(&database, JOBS_A_ROUND).await?;
        }
        let worked = workers.work(JOBS_A_ROUND).await?;
        sum.jobs += worked.jobs;
        sum.seconds += worked.seconds;
        leases.merge(&worked.leases);
    }
    database.remove().await?;
    Ok(Worked { leases, ..sum })
}
