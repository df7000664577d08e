//! Jobs with two crashes behind them that did nothing: their real processes make their calls like a worker does.

use serde_json::json;
use sluice_testkit::TestDatabase;

use crate::program::{Sluice, without_environment};

#[tokio::test]
async fn an_innocent_suspect_is_called_in_a_process_of_its_own_and_ends_as_ever() {
    let database = TestDatabase::new().await;
    let pool = database.pool().clone();
    let sluice = Sluice::on(database);
    let _simulator = sluice.with_simulator(&["--seed", "1"]);
    let body = |stream: bool| {
        json!({"model": "deepseek-flash", "stream": stream, "seed": 1,
               "messages": [{"role": "user", "content": "é\u{1F980} [[sim:nul]]"}]})
        .to_string()
    };
    let submit = |stream| {
        let told = sluice.json(&["submit", "--path", "/v1/chat/completions", "--body", &body(stream)]);
        told["id"].as_str().unwrap().to_owned()
    };
    let ids = [submit(false), submit(true), submit(false), submit(true)];
    // Two are suspects, two are not.
    sqlx::query("UPDATE sluice.ready SET crashes = 2 WHERE job_id = ANY ($1::text[]::uuid[])")
        .bind(&ids[..2])
        .execute(&pool)
        .await
        .unwrap();
    sluice.text(&["worker", "--until-idle"]);
    let jobs: Vec<_> = ids.iter().map(|id| sluice.json(&["get", id])).collect();
    for (suspect, other) in [(&jobs[0], &jobs[2]), (&jobs[1], &jobs[3])] {
        assert_eq!(suspect["state"], "succeeded", "{suspect}");
        let content = |job: &serde_json::Value| {
            job["result"]["body"]["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(content(suspect), content(other));
        assert_eq!(suspect["result"]["usage"], other["result"]["usage"]);
        assert_eq!(suspect["result"]["cost_usd"], other["result"]["cost_usd"]);
        assert_eq!(suspect["attempts"], 1);
    }
    let isolates: bool = sqlx::query_scalar("SELECT bool_and(isolates_suspects) FROM sluice.incarnations")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(isolates);
}

#[tokio::test]
async fn the_process_of_a_suspect_is_no_command_and_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let help = without_environment(folder.path()).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(!help.lines().any(|line| line.trim_start().starts_with("attempt ")), "{help}");
    let mut child = without_environment(folder.path())
        .arg("attempt")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(3));
}
