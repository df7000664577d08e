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
    for about in
        ["database", "clocks", "schema", "configuration", "secrets", "upstreams", "workers", "queues"]
    {
        assert_eq!(verdict(&well, about), Some("ok"), "{about}: {well}");
    }
    drop(simulator);
    let (code, gone) = checkup(&sluice, &[]);
    assert_eq!((code, verdict(&gone, "upstreams")), (Some(1), Some("fail")), "{gone}");
    assert_eq!(verdict(&checkup(&sluice, &["--offline"]).1, "upstreams"), Some("ok"));
}

#[tokio::test]
async fn a_missing_schema_and_a_missing_database_are_failures() {
    let sluice = Sluice::on(TestDatabase::empty().await);
    let (code, empty) = checkup(&sluice, &["--offline"]);
    assert_eq!((code, verdict(&empty, "schema")), (Some(1), Some("fail")), "{empty}");
    let gone = ["--offline", "--database-url", "postgres://nobody@127.0.0.1:1/none"];
    let (code, gone) = checkup(&sluice, &gone);
    assert_eq!((code, verdict(&gone, "database")), (Some(1), Some("fail")), "{gone}");
}
