//! `sluice apply` and `sluice migrate`.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use sluice_testkit::TestDatabase;

use crate::program::{Sluice, stderr, without_environment};

#[tokio::test]
async fn a_configuration_is_compared_applied_and_left_alone_when_it_is_the_same() {
    let sluice = Sluice::new().await;
    sluice.write(
        "sluice.yaml",
        "upstreams: [{ name: a, provider: openai, base_url: \"http://127.0.0.1:1\" }]\n",
    );
    let compared = sluice.json(&["apply", "-f", "sluice.yaml", "--dry-run"]);
    assert_eq!((&compared["version"], &compared["dry_run"]), (&json!(0), &json!(true)));
    assert_eq!(compared["changes"][0]["kind"], "added");
    assert!(sluice.text(&["upstreams"]).contains("sluice apply"));

    assert_eq!(sluice.json(&["apply"])["version"], 1);
    let again = sluice.json(&["apply", "-f", "sluice.yaml"]);
    assert_eq!((&again["version"], &again["changes"]), (&json!(1), &json!([])));
    let upstreams = sluice.json(&["upstreams"]);
    assert_eq!(upstreams["data"][0]["base_url"], "http://127.0.0.1:1");
    assert_eq!(upstreams["data"][0]["paused"], serde_json::Value::Null);
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_full() {
    let sluice = Sluice::new().await;
    sluice.write(
        "bad.yaml",
        "upstreams:\n  - { name: a, provider: opnai, base_url: nowhere, api_key: sk-secret }\n",
    );
    let error = sluice.error(2, &["apply", "-f", "bad.yaml"]);
    assert!(
        error.contains("bad.yaml") && error.contains("provider") && error.contains("base_url"),
        "{error}"
    );
    assert!(!error.contains("sk-secret"), "{error}");
    assert!(sluice.error(2, &["apply"]).contains("-f FILE"));
}

#[tokio::test]
async fn a_database_without_schema_is_refused_until_it_is_migrated() {
    let sluice = Sluice::on(TestDatabase::empty().await);
    let error = sluice.error(3, &["list"]);
    assert!(error.contains("sluice migrate"), "{error}");
    assert!(sluice.json(&["migrate"])["applied"].as_u64().unwrap() > 0);
    assert_eq!(sluice.json(&["migrate"])["applied"], 0);
    assert_eq!(sluice.json(&["list"])["data"], json!([]));
}

/// Its role is called as the schema is, which must not change where applied migrations are looked for.
#[test]
fn a_private_database_is_migrated_once() {
    let folder = tempfile::tempdir().unwrap();
    // Under root the server has an account of its own, which must get through.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let applied = || {
        let output =
            without_environment(folder.path()).args(["migrate", "--output", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["applied"].as_u64().unwrap()
    };
    assert!(applied() > 0);
    assert_eq!(applied(), 0);
}
