//! B1: what the size of bodies and answers costs.
//!
//! For each size: jobs are submitted in batches over one connection, then leased and settled by two workers. Beside the
//! rates: what a job adds to the write-ahead log, full pages included, and to the database's files.

use anyhow::Result;

use crate::{
    progress,
    rig::{
        Bench, JOBS_PER_S, Metric, SLUICE, Server, Sheet,
        worker_side::{Workers, check_done_once},
    },
    s1, w1,
};

const WAL_BYTES: Metric = Metric::new("wal_bytes_per_job", "B");
const DISK_BYTES: Metric = Metric::new("disk_bytes_per_job", "B");

struct Size {
    body: usize,
    answer: usize,
    /// How many such jobs take a few seconds.
    jobs: u64,
}

const SIZES: [Size; 4] = [
    Size { body: 300, answer: 600, jobs: 100_000 },
    Size { body: 3_000, answer: 3_000, jobs: 40_000 },
    Size { body: 30_000, answer: 6_000, jobs: 10_000 },
    Size { body: 300_000, answer: 12_000, jobs: 1_500 },
];

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("B1");
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        for size in &SIZES {
            cost(&server, size, bench.choose(size.jobs, size.jobs / 5), &mut sheet).await?;
            progress!("B1 run {run}: bodies of {} bytes are measured", size.body);
        }
    }
    bench.publish(&sheet)
}

async fn cost(server: &Server, size: &Size, jobs: u64, sheet: &mut Sheet) -> Result<()> {
    let variant = |part: &str| format!("{part} body={} answer={}", size.body, size.answer);
    let database = server.database().await?;
    let on_disk = "SELECT pg_database_size(current_database())";
    let (files, log) = (database.number(on_disk).await?, w1::wal_position(&database).await?);
    let submitted = s1::submit_sized(&database, jobs as usize, size.body).await?;
    let workers = Workers::connect(&database, 2).await?.answering(size.answer);
    let worked = workers.work(jobs).await?;
    let log = w1::wal_position(&database).await? - log;
    check_done_once(&database, jobs).await?;
    sheet.note(SLUICE, &variant("submit"), JOBS_PER_S, submitted);
    sheet.note(SLUICE, &variant("lease+settle"), JOBS_PER_S, worked.rate());
    sheet.note(SLUICE, &variant("all"), WAL_BYTES, log as f64 / jobs as f64);
    let files = database.number(on_disk).await? - files;
    sheet.note(SLUICE, &variant("all"), DISK_BYTES, files as f64 / jobs as f64);
    database.remove().await
}
