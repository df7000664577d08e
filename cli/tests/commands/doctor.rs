//! `sluice doctor`.

use serde_json::Value;
use sluice_testkit::TestDatabase;

use crate::program::Sluice;

/// What a check-up says about something.
fn verdict<'a>(checkup: &'a Value, about: &str) -> Option<&'a str> {
    let checks = checkup["checks"].as_array()?;
    checks.iter().find(|check| check["about"] == about)?["verdict"].as_str()
}

fn checkup(sluice: &Sluice, args: &[&str]) -> (Option<i32>, Value) {
    let output = sluice.run(&[&["doctor", "--output", "json"], args].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn an_upstream_that_answers_is_well_and_one_that_is_gone_is_not() {
    let sluice = Sluice::new().await;
    let (_, before) = checkup(&sluice, &[]);
    assert_eq!(verdict(&before, "configuration"), Some("warn"));
    let simulator = sluice.with_simulator(&[]);
    let (_, well) = checkup(&sluice, &[]);
    for about in [
        "database",
        "clocks",
        "pooler",
        "doorbells",
        "schema",
        "compression",
        "configuration",
        "secrets",
        "upstreams",
        "workers",
        "queues",
        "leases",
    ] {
        assert_eq!(verdict(&well, about), Some("ok"), "{about}: {well}");
    }
    drop(simulator);
    let (code, gone) = checkup(&sluice, &[]);
    assert_eq!((code, verdict(&gone, "upstreams")), (Some(3), Some("fail")), "{gone}");
    assert_eq!(verdict(&checkup(&sluice, &["--offline"]).1, "upstreams"), Some("ok"));
}

#[tokio::test]
async fn a_missing_schema_and_a_missing_database_are_failures() {
    let sluice = Sluice::on(TestDatabase::empty().await);
    let (code, empty) = checkup(&sluice, &["--offline"]);
    assert_eq!((code, verdict(&empty, "schema")), (Some(1), Some("fail")), "{empty}");
    let gone = ["--offline", "--database-url", "postgres://nobody@127.0.0.1:1/none"];
    let (code, gone) = checkup(&sluice, &gone);
    assert_eq!((code, verdict(&gone, "database")), (Some(3), Some("fail")), "{gone}");
}

async fn run(database: &TestDatabase, statement: &'static str) {
    sqlx::raw_sql(statement).execute(database.pool()).await.unwrap();
}

#[tokio::test]
async fn leases_that_nobody_takes_from_a_dead_worker_are_a_failure() {
    let database = TestDatabase::new().await;
    run(
        &database,
        "INSERT INTO sluice.incarnations (id, worker, host, pid, version, started_at, beat_at)
         VALUES (gen_random_uuid(), 'w', 'h', 1, '0', now(), now() - interval '10 minutes');
         INSERT INTO sluice.running (job_id, lease_id, incarnation_id, lane_id, priority, generation, lease_no, tries,
                                     crashes, refusals, hold_on_unknown, leased_at)
         SELECT gen_random_uuid(), gen_random_uuid(), i.id, 1, 3, 1, 1, 0, 0, 0, false, now() FROM sluice.incarnations i",
    )
    .await;
    let sluice = Sluice::on(database);
    let (code, checkup) = checkup(&sluice, &["--offline"]);
    let leases =
        checkup["checks"].as_array().unwrap().iter().find(|check| check["about"] == "leases").unwrap();
    // On a server that was started this very moment, the brake holds.
    if leases["verdict"] != "ok" {
        assert_eq!((code, leases["verdict"].as_str()), (Some(1), Some("fail")), "{checkup}");
        assert!(leases["finding"].as_str().unwrap().contains("start a scheduler"), "{leases}");
    }
}

#[tokio::test]
async fn what_makes_jobs_unsafe_and_what_is_newer_is_told() {
    let database = TestDatabase::new().await;
    run(
        &database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$;
         INSERT INTO public._sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of a newer program', true, '', 0)",
    )
    .await;
    let sluice = Sluice::on(database);
    let (_, checkup) = checkup(&sluice, &["--offline"]);
    let checks = checkup["checks"].as_array().unwrap();
    let is_told = |check: &Value| check["finding"].as_str().unwrap().contains("synchronous_commit is off");
    assert!(checks.iter().any(|check| check["about"] == "settings" && is_told(check)), "{checkup}");
    assert_eq!(verdict(&checkup, "schema"), Some("warn"), "{checkup}");
}
