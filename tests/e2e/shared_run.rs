//! `sluice run` on a database that others use: it works its own jobs only, by the configured upstream, and the
//! simulator never stands in.

use serde_json::{Value, json};
use sluice_domain::JobState;
use sluice_testkit::TestDatabase;
use sluice_tests::{facts, processes::Process};

use crate::site::Site;

const INPUT: &str = "{\"prompt\":\"one\"}\n{\"prompt\":\"two\"}\n{\"prompt\":\"three\"}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_works_its_own_jobs_and_nobody_elses() {
    let site = Site::start(&[]).await;
    let body =
        json!({"model": "deepseek-flash", "messages": [{"role": "user", "content": "somebody else's"}]});
    site.submit_bulk(&[json!({"body": body})]).await;
    let (input, output) = (site.folder.path().join("in.jsonl"), site.folder.path().join("out.jsonl"));
    std::fs::write(&input, INPUT).unwrap();
    let arguments = ["run", input.to_str().unwrap(), "-o", output.to_str().unwrap()];
    Process::run(site.folder.path(), &arguments, site.variables()).await.unwrap();

    let results = std::fs::read_to_string(&output).unwrap();
    let lines: Vec<Value> = results.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["response"]["status_code"] == 200), "{lines:?}");
    assert_eq!(facts::calls(&site.ledger()).unwrap().len(), 3, "by the upstream that is configured");
    let places = facts::places(site.database.pool()).await.unwrap();
    let waiting = places.iter().filter(|place| place.state == JobState::Queued).count();
    assert_eq!((places.len(), waiting), (4, 1), "the other's job still waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_upstream_a_shared_database_is_refused() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    std::fs::write(&input, INPUT).unwrap();
    let arguments = ["run", input.to_str().unwrap(), "-o", output.to_str().unwrap()];
    let variables = [("DATABASE_URL", database.url())];
    let refused = Process::run(folder.path(), &arguments, &variables).await.unwrap_err().to_string();
    assert!(refused.contains("exit status: 2"), "{refused}");
    assert_eq!(facts::places(database.pool()).await.unwrap(), []);
}
