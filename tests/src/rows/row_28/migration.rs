//! A migration of an empty database that ends again and again, until nothing is left to do. What it comes to must be what a
//! migration in one go comes to.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_store::CrashPoint;
use sqlx::{
    ConnectOptions, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Order;
use crate::{
    lab::Lab,
    processes::{Process, Start},
    rows::{Case, Report},
};

/// More than there are migrations.
const MOST_ENDS: usize = 200;
const PATIENCE: Duration = Duration::from_mins(2);

/// All that a schema is made of, but for the partitions of single weeks.
const SCHEMA: &str = r"
SELECT md5(string_agg(part, E'\n' ORDER BY part)) FROM (
    SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
           || coalesce(column_default, '') AS part
    FROM information_schema.columns WHERE table_schema = 'sluice' AND table_name !~ '_\d{8}$'
    UNION ALL
    SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'sluice'::regnamespace AND prokind = 'f'
    UNION ALL
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'sluice' AND tablename !~ '_\d{8}$'
    UNION ALL
    SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'sluice'::regnamespace AND NOT t.tgisinternal AND c.relname !~ '_\d{8}$'
) parts";

/// Runs the row for the point of migrations.
pub(super) async fn run(case: &Case, order: &Order) -> Result<Report> {
    let lab = Lab::start(&case.folder, case.plan("150ms..300ms")).await?;
    sqlx::query("CREATE DATABASE migrated_in_pieces").execute(lab.pool()).await?;
    let options: PgConnectOptions = lab.cluster.url().parse()?;
    let options = options.database("migrated_in_pieces");
    let url = options.to_url_lossy().to_string();
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut ends = 0;
    loop {
        let next = Order { point: CrashPoint::MigrationApplied, passes: random.random_range(0..4) };
        let variables =
            [lab.variables.as_slice(), &[("DATABASE_URL", url.clone()), next.variable()]].concat();
        let start = Start { arguments: &["migrate"], variables: &variables, ..Start::default() };
        let mut process = Process::start_as(&format!("migrate-{ends}"), lab.folder(), &start)?;
        let status = process.wait_for_end(PATIENCE).await?;
        if status.success() {
            break;
        }
        order.check_end(status).with_context(|| process.log())?;
        ends += 1;
        ensure!(ends < MOST_ENDS, "the migration never came to its end");
    }
    let pieces = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    let (in_pieces, at_once) = (schema(&pieces).await?, schema(lab.pool()).await?);
    let mut report = Report::sound(case);
    report.ok = ends > 0 && in_pieces == at_once;
    report.detail =
        format!("ended {ends} times at {}; the schemas are the same: {}", order.point.name(), report.ok);
    Ok(report)
}

async fn schema(pool: &PgPool) -> Result<String> {
    sqlx::query_scalar(SCHEMA).fetch_one(pool).await.context("read a schema")
}
