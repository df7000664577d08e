//! Everything in the database is explained where its readers look: in the database.

use sluice_testkit::TestDatabase;

use crate::repository::assert_none;

async fn without_comment(statement: &'static str) -> Vec<String> {
    let database = TestDatabase::new().await;
    sqlx::query_scalar(statement).fetch_all(database.pool()).await.expect("the catalogue is readable")
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    // Partitions are copies of what is explained at their parent.
    let problems = without_comment(
        "SELECT relation.relname::text || coalesce('.' || attribute.attname::text, '')
         FROM pg_class relation
         JOIN pg_namespace namespace ON namespace.oid = relation.relnamespace AND namespace.nspname = 'sluice'
         CROSS JOIN LATERAL (
             SELECT 0::smallint AS attnum, NULL::name AS attname
             UNION ALL
             SELECT attnum, attname FROM pg_attribute
             WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
         ) attribute
         WHERE relation.relkind IN ('r', 'p', 'v', 'm') AND NOT relation.relispartition
           AND NOT EXISTS (
               SELECT FROM pg_description
               WHERE classoid = 'pg_class'::regclass AND objoid = relation.oid AND objsubid = attribute.attnum)
         ORDER BY 1
         LIMIT 1000",
    )
    .await;
    assert_none("tables and columns without a comment", &problems);
}

#[tokio::test]
async fn every_function_and_type_has_a_comment() {
    let problems = without_comment(
        "SELECT routine.oid::regprocedure::text
         FROM pg_proc routine
         JOIN pg_namespace namespace ON namespace.oid = routine.pronamespace AND namespace.nspname = 'sluice'
         WHERE obj_description(routine.oid, 'pg_proc') IS NULL
         UNION ALL
         SELECT kind.oid::regtype::text
         FROM pg_type kind
         JOIN pg_namespace namespace ON namespace.oid = kind.typnamespace AND namespace.nspname = 'sluice'
         LEFT JOIN pg_class relation ON relation.oid = kind.typrelid
         WHERE kind.typtype IN ('c', 'd', 'e', 'r') AND (relation.oid IS NULL OR relation.relkind = 'c')
           AND obj_description(kind.oid, 'pg_type') IS NULL
         ORDER BY 1
         LIMIT 1000",
    )
    .await;
    assert_none("functions and types without a comment", &problems);
}
