//! The same two statements in SQL alone, driven by `pgbench`: the limit of what a worker's database side can reach.
//!
//! Both return what the worker gets; the bodies are read, and not sent. A client starts its next lease where the one
//! before it found its oldest job: that is as good as any floor can be.

use anyhow::Result;
use sluice_domain::LeaseId;

use super::start_incarnation;
use crate::rig::{Database, pgbench};

/// Takes most of a backlog with so many clients: at its very end batches are not full any more. Jobs a second.
pub async fn same_sql(database: &Database, backlog: u64, clients: usize, batch: u32) -> Result<f64> {
    let store = database.store(1).await?;
    let incarnation = start_incarnation(&store, 0).await?;
    store.close().await;
    let script = pgbench::Script {
        text: SCRIPT,
        clients,
        transactions: backlog * 95 / 100 / u64::from(batch) / clients as u64,
        variables: vec![
            ("incarnation", incarnation.to_string()),
            ("batch", batch.to_string()),
            ("floor", "-infinity".to_owned()),
            ("lease_ids", lease_ids(batch)),
        ],
    };
    let measured = pgbench::run(database, &script).await?;
    let done = database.number("SELECT count(*) FROM sluice.done").await?;
    Ok(done as f64 / measured.seconds())
}

/// An array of so many ids, the same for each lease: making them is the worker's work and not the server's.
fn lease_ids(batch: u32) -> String {
    let ids: Vec<String> = (0..batch).map(|_| LeaseId::generate().to_string()).collect();
    format!("{{{}}}", ids.join(","))
}

const SCRIPT: &str = "\
SELECT coalesce(array_agg(job_id ORDER BY job_id), '{}') AS jobs, \
coalesce(array_agg(lease_id ORDER BY job_id), '{}') AS leases, count(*) AS got, \
coalesce(sum(length(body)), 0) AS bytes, \
coalesce((statement_timestamp() - (max(waited_ms) + 1) * interval '1 ms')::text, :floor) AS floor \
FROM sluice.lease(:incarnation::uuid, \
ARRAY[sluice.lane_id('default', 'default', 'no-op')], ARRAY[3]::smallint[], ARRAY[:batch::int], \
ARRAY[NULL]::timestamptz[], ARRAY[:floor::timestamptz], \
:lease_ids::uuid[]) \\gset
SELECT count(*) FROM sluice.settle(:jobs::uuid[], :leases::uuid[], \
array_fill('succeeded'::text, ARRAY[:got::int]), array_fill('succeeded'::text, ARRAY[:got::int]), \
array_fill(0::bigint, ARRAY[:got::int]), array_fill(1::smallint, ARRAY[:got::int]), \
array_fill(0::smallint, ARRAY[:got::int]), array_fill(NULL::text, ARRAY[:got::int]), \
array_fill(NULL::text, ARRAY[:got::int]), array_fill(NULL::text, ARRAY[:got::int]), \
array_fill(false, ARRAY[:got::int]), array_fill(200::smallint, ARRAY[:got::int]), \
array_fill(convert_to(repeat('answer', 100), 'UTF8'), ARRAY[:got::int]), \
array_fill(false, ARRAY[:got::int]), array_fill(false, ARRAY[:got::int]), \
array_fill(60, ARRAY[:got::int]), array_fill(0, ARRAY[:got::int]), \
array_fill(120, ARRAY[:got::int]), array_fill(0, ARRAY[:got::int]), \
array_fill(12345::bigint, ARRAY[:got::int]), :leases::uuid[], \
array_fill('bench'::text, ARRAY[:got::int]), array_fill('no-op'::text, ARRAY[:got::int]), \
array_fill(NULL::text, ARRAY[:got::int]), array_fill(NULL::text, ARRAY[:got::int]), \
array_fill(50, ARRAY[:got::int]), array_fill(49, ARRAY[:got::int]));
";
