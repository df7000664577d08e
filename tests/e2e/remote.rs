//! The commands of somebody who reaches a server and no database: `--remote`.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_testkit::wait_until;
use sluice_tests::{
    lab::proxy::{FaultProxy, Target},
    processes::{Process, sluice_binary},
};
use tokio::process::Command;

use crate::site::Site;

const PATIENCE: Duration = Duration::from_mins(1);
const BODY: &str = r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}]}"#;
const KEY_VARIABLE: &str = "SLUICE_API_KEY";

/// What a command ended with: its code, its standard output, its standard error.
type Ended = (i32, String, String);

/// Somebody with a folder and the environment that is given, and nothing else.
struct Person<'a> {
    site: &'a Site,
    variables: Vec<(&'static str, String)>,
}

impl Person<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(sluice_binary());
        command.current_dir(self.site.folder.path()).args(arguments);
        for name in ["DATABASE_URL", "SLUICE_REMOTE", KEY_VARIABLE, "SLUICE_API_KEY_FILE", "SLUICE_CONFIG"] {
            command.env_remove(name);
        }
        command
            .env("SLUICE_DATA_DIR", self.site.folder.path().join("nothing"))
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What a command prints that must end with code 0.
    async fn text(&self, arguments: &[&str]) -> String {
        let (code, printed, error) = self.run(arguments).await;
        assert_eq!(code, 0, "sluice {arguments:?}: {error}");
        printed
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["--output", "json"]].concat()).await).unwrap()
    }

    /// The one line of a command that must fail so.
    async fn error(&self, code: i32, arguments: &[&str]) -> String {
        let (ended, printed, error) = self.run(arguments).await;
        assert_eq!((ended, printed.as_str()), (code, ""), "sluice {arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }
}

fn grpc_url(site: &Site) -> String {
    let listen = site.variables().iter().find(|(name, _)| *name == "SLUICE_GRPC_LISTEN");
    format!("http://{}", listen.unwrap().1)
}

fn with_database(site: &Site) -> Person<'_> {
    Person { site, variables: vec![("DATABASE_URL", site.database.url())] }
}

fn with_remote(site: &Site) -> Person<'_> {
    Person { site, variables: vec![("SLUICE_REMOTE", grpc_url(site))] }
}

#[tokio::test]
async fn what_is_printed_is_the_same_as_with_a_database() {
    let mut site = Site::start(&[]).await;
    let (near, far) = (with_database(&site), with_remote(&site));
    let submit = ["submit", "--body", BODY, "--priority", "5", "--tag", "project=alpha", "--deadline", "1d"];
    let submitted = far.json(&submit).await;
    let id = submitted["id"].as_str().unwrap();
    let mut stored = near.json(&["get", id]).await;
    assert_eq!((&stored["state"], &stored["priority"]), (&json!("queued"), &json!(5)));
    assert_eq!(far.json(&["get", id]).await, stored);
    assert_eq!(stored, submitted);
    // A second one, which is cancelled: in another state.
    let printed = far.text(&["submit", "--body", BODY, "--idempotency-key", "order-17"]).await;
    let second = printed.trim();
    assert_eq!(far.text(&["submit", "--body", BODY, "--idempotency-key", "order-17"]).await, printed);
    assert_eq!(far.text(&["cancel", second]).await, format!("Job {second} is cancelled.\n"));
    assert_eq!(far.json(&["cancel", second]).await["state"], "cancelled");
    for arguments in [
        &["list"][..],
        &["list", "--limit", "1"],
        &["list", "--state", "cancelled", "--since", "1h", "--output", "json"],
        &["list", "--tag", "project=none"],
        &["list", "--output", "json"],
        &["get", id],
        &["get", second],
        &["get", second, "--wait", "1m", "--output", "json"],
        &["get", id, "--wait", "300ms"],
        &["watch", second],
        &["watch", second, "--output", "json"],
        &["get", "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"],
        &["watch", "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"],
        &["cancel", "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"],
        &["replay", "--state", "cancelled", "--dry-run"],
        &["replay", "--state", "cancelled", "--dry-run", "--output", "json"],
        &["replay", "--all"],
    ] {
        assert_eq!(far.run(arguments).await, near.run(arguments).await, "{arguments:?}");
    }
    let refused = far.error(2, &["replay", id]).await;
    assert!(refused.contains("has not ended"), "{refused}");
    assert_eq!(far.json(&["replay", second]).await["generation"], 2);
    drop((near, far));

    site.start_worker("4");
    let (near, far) = (with_database(&site), with_remote(&site));
    let done = far.json(&["get", id, "--wait", "1m"]).await;
    assert_eq!(done["state"], "succeeded");
    assert!(done["result"]["body"]["choices"].is_array(), "{done}");
    stored = near.json(&["get", id]).await;
    assert_eq!(done, stored);
    assert_eq!(far.text(&["get", id]).await, near.text(&["get", id]).await);
    assert_eq!(far.run(&["watch", second]).await.0, 0);
    assert_eq!(far.json(&["replay", "--state", "succeeded", "--limit", "1"]).await["changed"], 1);
    let ended = far.error(2, &["cancel", id]).await;
    assert!(ended.contains("succeeded"), "{ended}");
}

#[tokio::test]
async fn a_file_is_submitted_once_although_the_connection_breaks() {
    const LINES: usize = 12_000;
    let site = Site::start(&[]).await;
    let server = grpc_url(&site).trim_start_matches("http://").parse().unwrap();
    let proxy = FaultProxy::start(1, Target::Tcp(server)).unwrap();
    let far =
        Person { site: &site, variables: vec![("SLUICE_REMOTE", format!("http://{}", proxy.address()))] };
    let lines: Vec<String> =
        (0..LINES).map(|number| format!("{{\"prompt\":\"{number}\",\"id\":\"line-{number}\"}}\n")).collect();
    std::fs::write(site.folder.path().join("in.jsonl"), lines.concat()).unwrap();
    let stored = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM sluice.jobs").fetch_one(site.database.pool()).await.unwrap()
    };
    let submitting = async {
        let (code, printed, error) = far.run(&["submit", "in.jsonl", "--output", "json"]).await;
        assert_eq!(code, 0, "{error}");
        printed
    };
    let breaking = async {
        wait_until("some jobs to be stored", PATIENCE, async || stored().await > 0).await;
        proxy.reset();
        assert!((stored().await as usize) < LINES, "the break came too late to be one in the middle");
    };
    let (printed, ()) = tokio::join!(submitting, breaking);
    let told: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = told.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned());
    assert!(named.eq((0..LINES).map(|number| format!("line-{number}"))), "in the file's order");
    assert!(told.iter().all(|line| line["created"] == true));
    assert_eq!(stored().await as usize, LINES);
    // With a key of its own, a file can be submitted again, too.
    let keyed = ["submit", "in.jsonl", "--idempotency-key", "x", "--queue", "nightly"];
    let first = far.text(&keyed).await;
    assert_eq!(far.text(&keyed).await, first);
    assert_eq!(stored().await as usize, 2 * LINES);
}

#[tokio::test]
async fn a_key_lets_in_and_is_never_told() {
    let site = Site::start(&[]).await;
    let create = ["keys", "create", "--scope", "submit,read", "--tenant", "search"];
    let key = Process::run(site.folder.path(), &create, site.variables()).await.unwrap();
    let key = key.trim();
    std::fs::write(site.folder.path().join("key"), format!("{key}\n")).unwrap();
    std::fs::write(site.folder.path().join("wrong"), "sluice_canary0123456789\n").unwrap();
    let url = grpc_url(&site);
    let nobody = Person { site: &site, variables: Vec::new() };
    // What a scheduler knows of keys is some seconds old.
    wait_until("the key to be asked for", PATIENCE, async || {
        nobody.run(&["list", "--remote", &url]).await.0 == 2
    })
    .await;

    let missing = nobody.error(2, &["list", "--remote", &url]).await;
    assert!(missing.contains(KEY_VARIABLE) && missing.contains("--api-key-file"), "{missing}");
    let refused = nobody.error(2, &["list", "--remote", &url, "--api-key-file", "wrong"]).await;
    assert!(refused.contains(KEY_VARIABLE) && !refused.contains("canary"), "{refused}");
    let refused = nobody.error(2, &["list", "--remote", &url, "--api-key-file", "absent"]).await;
    assert!(refused.contains("absent"), "{refused}");

    let by_file = nobody.json(&["submit", "--body", BODY, "--remote", &url, "--api-key-file", "key"]).await;
    assert_eq!(by_file["tenant"], "search");
    let variables = vec![("SLUICE_REMOTE", url.clone()), (KEY_VARIABLE, key.to_owned())];
    let by_variable = Person { site: &site, variables };
    assert_eq!(by_variable.json(&["list"]).await["data"][0]["id"], by_file["id"]);
    let forbidden = by_variable.error(2, &["cancel", by_file["id"].as_str().unwrap()]).await;
    assert!(forbidden.contains("use a key that may do this"), "{forbidden}");
    // Of many, what is refused stops none of the others.
    std::fs::write(site.folder.path().join("in.jsonl"), "{\"prompt\":\"One\"}\n{\"prompt\":\"Two\"}\n")
        .unwrap();
    let submit = ["submit", "in.jsonl", "--max-attempts", "100", "--output", "json"];
    assert_eq!(by_variable.text(&submit).await.lines().count(), 2);
}

#[tokio::test]
async fn what_can_not_be_done_says_what_to_do_next() {
    let site = Site::start(&[]).await;
    let far = with_remote(&site);
    for (arguments, expected) in [
        (&["queues"][..], "GET /v1/queues"),
        (&["explain", "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"], "GET /v1/jobs/{id}/explain"),
        (&["cancel", "--queue", "nightly"], "POST /v1/cancellations"),
        (&["release", "--all"], "POST /v1/releases"),
        (&["results", "-o", "out.jsonl"], "GET /v1/jobs/{id}/result"),
        (&["pause", "nightly"], "POST /v1/queues/{queue}/pause"),
        (&["upstreams"], "GET /v1/upstreams"),
        (&["up"], "--database-url"),
        (&["keys", "list"], "--database-url"),
        (&["list", "--remote", "127.0.0.1:8081"], "http://host:8081"),
        (&["list", "--remote", "https://me:s3cret@host"], "API key"),
        (&["list", "--remote", "http://h", "--database-url", "postgres://h/x"], "not both"),
    ] {
        let error = far.error(2, arguments).await;
        assert!(error.contains(expected) && !error.contains("s3cret"), "sluice {arguments:?} said {error:?}");
    }
    let away = far.error(3, &["list", "--remote", "http://127.0.0.1:1"]).await;
    assert!(away.contains("--remote") && away.contains("http://127.0.0.1:1"), "{away}");
    let rest = far.error(3, &["list", "--remote", &site.url]).await;
    assert!(rest.contains("not REST's"), "{rest}");
    // What is typed wins over what the environment says.
    assert_eq!(far.text(&["list", "--database-url", &site.database.url()]).await, "No job matches.\n");
    assert_eq!(far.json(&["--database-url", &site.database.url(), "queues"]).await["data"], json!([]));
}
