//! The plans of the hot statements, on tables of a million rows: whatever the planner knows of them, and whether it
//! plans for the values or for any, a statement reads rows in proportion to its batch and no table from end to end.

use std::collections::BTreeMap;

use sluice_domain::{DeclaredLimit, IncarnationId, LeasedJob, LimitKind, PairFloors};
use sluice_store::{Bodies, LimitedGrant, Store};
use sluice_testkit::job;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions};

use crate::{
    fixture::{Fixture, grant, success},
    limits::{limit, slots},
};

const BATCH: u32 = 100;
/// Rows of one table that a statement may read for each of its batch.
const MOST_EACH: i64 = 8;

/// How the sessions are called whose reads are counted.
const SESSION: &str = "plans";

/// A million rows in each place, all of other jobs; nothing tells the planner until it is told.
const FILL: &[&str] = &[
    "ALTER TABLE sluice.ready SET (autovacuum_enabled = false)",
    "ALTER TABLE sluice.running SET (autovacuum_enabled = false)",
    "ALTER TABLE sluice.ready DISABLE TRIGGER USER",
    "ALTER TABLE sluice.running DISABLE TRIGGER USER",
    "ALTER TABLE sluice.done DISABLE TRIGGER USER",
    "CREATE TABLE filling AS
     SELECT sluice.uuid_v7() AS id, sluice.lane_id('default', 'q' || i % 10, 'm') AS lane, 'q' || i % 10 AS queue,
            (i % 5 + 1)::smallint AS priority, clock_timestamp() AS at
     FROM generate_series(1, 1000000) AS i",
    "INSERT INTO sluice.jobs (id, tenant, queue, model, path, lane_id, priority, created_at, hold_on_unknown, tags, body)
     SELECT id, 'default', queue, 'm', '/v1/x', lane, priority, at, false, '{}', '{}' FROM filling",
    "INSERT INTO sluice.ready (lane_id, priority, line, key, job_id, generation, lease_no, tries, crashes, refusals,
         hold_on_unknown)
     SELECT lane, priority, 1, at, id, 1, 0, 0, 0, 0, false FROM filling",
    "INSERT INTO sluice.running (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries,
         crashes, refusals, hold_on_unknown, leased_at)
     SELECT gen_random_uuid(), gen_random_uuid(), '01000000-0000-7000-8000-000000000001', lane, priority, 1, 1, 0, 0, 0,
            false, at FROM filling",
    "INSERT INTO sluice.done (job_id, generation, state, lane_id, priority, finished_at, lease_no, tries, crashes)
     SELECT sluice.uuid_v7(), 1, 'succeeded', lane, priority, at, 1, 1, 0 FROM filling",
    "DROP TABLE filling",
    // Of another limit.
    "INSERT INTO sluice.limit_slices (limit_id, at, amount)
     SELECT 4, clock_timestamp() - i * interval '1 s', 1 FROM generate_series(1, 200000) AS i",
    "INSERT INTO sluice.limit_changes (limit_id, xid, amount)
     SELECT 4, pg_current_xact_id(), 1 FROM generate_series(1, 200000) AS i",
    "INSERT INTO sluice.limit_states (limit_id, version, used, changed_at, counted_below, fallen_before, tokens_per_byte,
         output_tokens)
     SELECT 4, i, 1, now(), '1', now(), 1, 1 FROM generate_series(1, 200000) AS i",
    "ALTER TABLE sluice.ready ENABLE TRIGGER USER",
    "ALTER TABLE sluice.running ENABLE TRIGGER USER",
    "ALTER TABLE sluice.done ENABLE TRIGGER USER",
];

/// Rows that were read of each table so far: by scans from end to end, and by indexes or places.
async fn read(f: &Fixture) -> BTreeMap<String, (i64, i64)> {
    // The sessions tell what they counted about once a second, or when they end.
    let statement = "SELECT relname, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0)
         FROM pg_stat_user_tables WHERE schemaname = 'sluice'";
    let rows = sqlx::query(statement).fetch_all(f.database.pool()).await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// Blocks of `ready` and its indexes that were looked at so far. Entries of an index that a scan passes over count as no
/// row anywhere.
async fn blocks_of_ready(f: &Fixture) -> i64 {
    let statement = "SELECT (heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint
         FROM pg_statio_user_tables WHERE schemaname = 'sluice' AND relname = 'ready'";
    sqlx::query_scalar(statement).fetch_one(f.database.pool()).await.unwrap()
}

/// What a step reads, by a store of its own: its sessions have told all once they are closed.
async fn reads_in_proportion<T>(f: &Fixture, what: &str, step: impl AsyncFnOnce(&Store) -> T) -> T {
    let before = read(f).await;
    let options = f.database.connect_options().application_name(SESSION);
    let own = Store::from_pool(PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap());
    let result = step(&own).await;
    own.close().await;
    let is_there = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1)";
    while sqlx::query_scalar(is_there).bind(SESSION).fetch_one(f.database.pool()).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let after = read(f).await;
    for (table, (scanned, fetched)) in &after {
        let (scanned_before, fetched_before) = before.get(table).copied().unwrap_or_default();
        // Tables that hold a handful of rows may be read whole.
        let (scanned, fetched) = (scanned - scanned_before, fetched - fetched_before);
        assert!(scanned <= 1_000, "{what} read {scanned} rows of {table} from end to end");
        let most = MOST_EACH * i64::from(BATCH);
        assert!(fetched <= most, "{what} read {fetched} rows of {table} for a batch of {BATCH}");
    }
    result
}

async fn all_statements(f: &Fixture, worker: IncarnationId, case: &str) {
    let name = |what: &str| format!("{what} ({case})");
    let new = job().queue("q1").times(BATCH as usize - 1);
    reads_in_proportion(f, &name("submit"), async |store| store.submit_many(&new).await.unwrap()).await;
    let many = job().queue("q1").times(BATCH as usize);
    reads_in_proportion(f, &name("submit by COPY"), async |store| store.submit_many(&many).await.unwrap())
        .await;
    let board =
        reads_in_proportion(f, &name("board"), async |store| store.board(None, None).await.unwrap()).await;
    assert_eq!(board.len(), 11, "ten that were there, and the one of this test");
    let known: Vec<_> =
        board.iter().map(|entry| (entry.lane_id, entry.priority, PairFloors::default())).collect();
    let before = blocks_of_ready(f).await;
    let look = reads_in_proportion(f, &name("board of known pairs"), async |store| {
        store.board_above(None, None, &known).await.unwrap()
    })
    .await;
    assert_eq!(look.entries.len(), 11, "the same");
    let blocks = blocks_of_ready(f).await - before;
    assert!(blocks <= 1_000, "a look at eleven pairs that are known looked at {blocks} blocks ({case})");
    let leased: Vec<LeasedJob> = reads_in_proportion(f, &name("lease"), async |store| {
        let grants: Vec<_> = board.iter().take(2).map(|entry| grant(entry, BATCH / 2)).collect();
        store.lease_many(worker, &grants, BATCH).await.unwrap()
    })
    .await;
    assert_eq!(leased.len(), BATCH as usize);
    let (settled, handed_back) = leased.split_at(90);
    reads_in_proportion(f, &name("settle"), async |store| {
        let settlements: Vec<_> = settled.iter().map(|leased| success(worker, leased, b"{}")).collect();
        store.settle_many(&settlements).await.unwrap()
    })
    .await;
    let unused: Vec<_> = handed_back.iter().map(|leased| (leased.job_id, leased.lease_id)).collect();
    reads_in_proportion(f, &name("hand-back"), async |store| {
        store.lease_hand_back_many(worker, &unused).await.unwrap()
    })
    .await;
    limited(f, worker, &name).await;
    losses(f, &name).await;
    reads_in_proportion(f, &name("reads and cancels"), async |store| {
        for id in [settled[0].job_id, handed_back[0].job_id, many[0].id] {
            store.job(&f.tenant, id, Bodies::Included).await.unwrap().unwrap();
            store.job_cancel(&f.tenant, id).await.unwrap();
        }
    })
    .await;
}

/// Leases that take of limits, and what gives it back.
async fn limited(f: &Fixture, worker: IncarnationId, name: impl Fn(&str) -> String) {
    let limits =
        [slots(1_000), limit(LimitKind::Requests, 60, 10_000), limit(LimitKind::Tokens, 60, 10_000_000)];
    f.store.limits_declare(&limits).await.unwrap();
    let board = f.store.board(None, None).await.unwrap();
    let mut ids: Vec<_> = limits.iter().map(DeclaredLimit::id).collect();
    ids.sort_unstable();
    let grants: Vec<_> = board
        .iter()
        .take(2)
        .map(|entry| LimitedGrant { grant: grant(entry, BATCH / 2), limits: ids.clone().into() })
        .collect();
    for round in ["first", "second"] {
        let lease = reads_in_proportion(f, &name(&format!("{round} lease with limits")), async |store| {
            store.lease_limited_many(worker, &grants, BATCH).await.unwrap()
        })
        .await;
        assert_eq!(lease.jobs.len(), BATCH as usize);
        reads_in_proportion(f, &name(&format!("{round} settle with limits")), async |store| {
            let settlements: Vec<_> =
                lease.jobs.iter().map(|leased| success(worker, leased, b"{}")).collect();
            store.settle_many(&settlements).await.unwrap()
        })
        .await;
    }
    reads_in_proportion(f, &name("list of limits"), async |store| store.limits().await.unwrap()).await;
}

/// A worker's death, and its late words: of a few of the million leases.
async fn losses(f: &Fixture, name: impl Fn(&str) -> String) {
    let dead = f.incarnation().await;
    let board = f.store.board(None, None).await.unwrap();
    let lost = f.store.lease_many(dead, &[grant(&board[0], BATCH / 2)], BATCH / 2).await.unwrap();
    let listed = reads_in_proportion(f, &name("list of a worker's leases"), async |store| {
        store.leases_older_than(dead, std::time::Duration::ZERO).await.unwrap()
    })
    .await;
    assert_eq!(listed.len(), lost.len());
    let ended = reads_in_proportion(f, &name("end of a worker"), async |store| {
        store.incarnation_end(dead).await.unwrap()
    })
    .await;
    assert_eq!(ended as usize, lost.len());
    reads_in_proportion(f, &name("late words"), async |store| {
        let late: Vec<_> = lost.iter().map(|leased| success(dead, leased, b"{}")).collect();
        store.settle_many(&late).await.unwrap()
    })
    .await;
}

async fn fill(f: &Fixture) -> PgPool {
    let filler = PgPoolOptions::new().max_connections(1);
    let filler = filler.connect_with(f.database.connect_options()).await.unwrap();
    for statement in FILL {
        sqlx::query(*statement).execute(&filler).await.unwrap();
    }
    // Lanes become known at the first look.
    f.store.board(None, None).await.unwrap();
    filler
}

/// All statements, with plans for any values and plans for the very ones.
async fn both_kinds_of_plans(f: &Fixture, worker: IncarnationId, filler: &PgPool, statistics: &str) {
    for mode in ["force_generic_plan", "force_custom_plan"] {
        let alter = format!(
            "DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT p.oid FROM pg_proc p
                      WHERE p.pronamespace = 'sluice'::regnamespace AND p.proconfig::text LIKE '%plan_cache_mode%'
             LOOP EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = {mode}', f); END LOOP; END $$"
        );
        sqlx::query(AssertSqlSafe(alter)).execute(filler).await.unwrap();
        all_statements(f, worker, &format!("{statistics}, {mode}")).await;
    }
}

#[tokio::test]
async fn hot_statements_read_in_proportion_to_their_batch_whatever_the_planner_knows() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let filler = fill(&f).await;
    both_kinds_of_plans(&f, worker, &filler, "no statistics").await;
    sqlx::query("ANALYZE").execute(&filler).await.unwrap();
    both_kinds_of_plans(&f, worker, &filler, "statistics").await;
    filler.close().await;
}

#[tokio::test]
async fn hot_statements_read_in_proportion_though_the_planner_takes_the_tables_for_nearly_empty() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    f.store.submit_many(&job().queue("q1").times(3)).await.unwrap();
    f.lease(worker, 2).await;
    sqlx::query("ANALYZE").execute(f.database.pool()).await.unwrap();
    let filler = fill(&f).await;
    both_kinds_of_plans(&f, worker, &filler, "statistics of nearly empty tables").await;
    filler.close().await;
}
