//! A job's life, command by command.

use serde_json::{Value, json};

use crate::program::{Sluice, stderr};

const BODY: &str = r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}]}"#;

fn id_of(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_job_is_submitted_worked_looked_at_and_replayed() {
    let sluice = Sluice::new().await;
    let _simulator = sluice.with_simulator(&[]);

    let submitted = sluice.json(&["submit", "--body", BODY, "--priority", "5", "--tag", "project=alpha"]);
    let id = id_of(&submitted);
    assert_eq!(submitted["state"], "queued");
    assert_eq!(submitted["priority"], 5);
    assert_eq!(submitted["tags"], json!({ "project": "alpha" }));
    assert_eq!(sluice.json(&["get", id]), submitted);
    let listed = sluice.json(&["list", "--state", "queued", "--tag", "project=alpha", "--since", "1h"]);
    assert_eq!((&listed["object"], &listed["has_more"]), (&json!("list"), &json!(false)));
    assert_eq!(listed["data"], json!([submitted]));
    let waiting = sluice.json(&["explain", id]);
    assert_eq!(waiting["blockers"][0]["kind"], "no_worker", "{waiting}");

    sluice.text(&["worker", "--until-idle"]);

    let done = sluice.json(&["get", id]);
    assert_eq!((&done["state"], &done["attempts"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(done["result"]["status_code"], 200);
    assert!(done["result"]["body"]["choices"][0]["message"]["content"].is_string(), "{done}");
    let explained = sluice.json(&["explain", id]);
    assert_eq!(explained["attempts"][0]["outcome"], "succeeded");
    assert_eq!(explained["attempts"][0]["upstream"], "sim");
    assert!(sluice.text(&["explain", id]).contains("succeeded"));
    assert!(sluice.text(&["get", id]).contains("status 200"));

    let replayed = sluice.json(&["replay", id]);
    assert_eq!((&replayed["state"], &replayed["generation"]), (&json!("queued"), &json!(2)));
    assert_eq!(sluice.json(&["cancel", id])["state"], "cancelled");
    let watched = sluice.run(&["watch", id]);
    assert_eq!(watched.status.code(), Some(1), "{}", stderr(&watched));
    let error = sluice.error(2, &["release", id]);
    assert!(error.contains("is not held"), "{error}");
}

#[tokio::test]
async fn a_file_is_submitted_once_and_its_results_are_batch_lines() {
    let sluice = Sluice::new().await;
    let _simulator = sluice.with_simulator(&[]);
    let batch = format!(r#"{{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{BODY}}}"#);
    sluice.write(
        "in.jsonl",
        &format!("{{\"prompt\":\"One\",\"id\":\"a\"}}\n\n{batch}\n{{\"prompt\":\"Three\"}}\n"),
    );
    let submit = ["submit", "in.jsonl", "--queue", "nightly", "--idempotency-key", "x"];

    let ids: Vec<String> = sluice.text(&submit).lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3);
    let again: Vec<Value> = {
        let text = sluice.text(&[&submit[..], &["--output", "json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(again[0], json!({ "object": "job", "id": ids[0], "custom_id": "a", "created": false }));

    let queues = sluice.json(&["queues"]);
    assert_eq!((&queues["data"][0]["name"], &queues["data"][0]["ready"]), (&json!("nightly"), &json!(3)));
    sluice.text(&["worker", "--until-idle", "--queue", "nightly"]);
    let said = sluice.json(&["results", "--queue", "nightly", "-o", "out.jsonl"]);
    assert_eq!(said, json!({ "object": "results", "written": 3 }));
    let mut lines = sluice.read_lines("out.jsonl");
    lines.sort_by_key(|line| line["custom_id"].as_str().unwrap().to_owned());
    let named: Vec<_> = lines.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    assert_eq!(named, ["4", "a", "b"]);
    for line in &lines {
        assert_eq!(line["response"]["status_code"], 200, "{line}");
        assert_eq!(line["sluice"]["attempts"], 1, "{line}");
    }
    assert_eq!(sluice.text(&["results", "--limit", "2", "-o", "-"]).lines().count(), 2);
    assert_eq!(sluice.text(&["watch", &ids[0]]).lines().count(), 1);
}

#[tokio::test]
async fn failed_jobs_are_replayed_by_filter() {
    let sluice = Sluice::new().await;
    let _simulator = sluice.with_simulator(&["--fault", "http_422=1"]);
    sluice.write("in.jsonl", "{\"prompt\":\"One\"}\n{\"prompt\":\"Two\"}\n{\"prompt\":\"Three\"}\n");
    sluice.text(&["submit", "in.jsonl"]);
    sluice.text(&["worker", "--until-idle"]);
    let failed = sluice.json(&["list", "--state", "failed", "--error-class", "invalid_request"]);
    assert_eq!(failed["data"].as_array().unwrap().len(), 3, "{failed}");

    let filter = ["replay", "--state", "failed", "--error-class", "invalid_request", "--since", "1h"];
    let counted = sluice.json(&[&filter[..], &["--dry-run"]].concat());
    assert_eq!(counted, json!({ "matched": 3, "changed": 0, "dry_run": true }));
    let replayed = sluice.json(&[&filter[..], &["--limit", "2", "--rate-per-minute", "1"]].concat());
    assert_eq!(replayed, json!({ "matched": 2, "changed": 2, "dry_run": false }));
    let queued = sluice.json(&["queues"]);
    assert_eq!((&queued["data"][0]["ready"], &queued["data"][0]["scheduled"]), (&json!(1), &json!(1)));

    assert_eq!(sluice.json(&["cancel", "--queue", "default"])["changed"], 2);
    assert_eq!(sluice.json(&["cancel", "--all"])["changed"], 0);
}

#[tokio::test]
async fn what_is_paused_stands_still_and_says_so() {
    let sluice = Sluice::new().await;
    let _simulator = sluice.with_simulator(&[]);
    let submitted = sluice.json(&["submit", "--body", BODY]);
    let id = id_of(&submitted);

    assert_eq!(
        sluice.json(&["pause", "default"]),
        json!({ "object": "queue", "name": "default", "paused": true })
    );
    assert!(sluice.json(&["queues"])["data"][0]["paused_at"].is_string());
    sluice.text(&["worker", "--until-idle"]);
    assert_eq!(sluice.json(&["explain", id])["blockers"][0]["kind"], "queue_paused");
    sluice.text(&["resume", "default"]);

    sluice.text(&["pause", "--upstream", "sim"]);
    assert_eq!(sluice.json(&["upstreams"])["data"][0]["paused"]["reason"], "operator");
    assert_eq!(sluice.json(&["get", id])["deferred_by"]["gate"], "upstream_paused");
    let error = sluice.error(3, &["worker", "--until-idle"]);
    assert!(error.contains("sluice resume --upstream sim"), "{error}");
    sluice.text(&["resume", "--upstream", "sim"]);

    sluice.text(&["worker", "--until-idle"]);
    assert_eq!(sluice.json(&["get", id])["state"], "succeeded");
    let error = sluice.error(2, &["cancel", id]);
    assert!(error.contains("has ended already: it succeeded"), "{error}");
}
