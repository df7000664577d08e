//! Secrets stay where they belong. Each is a canary: a text that stands nowhere else. They go through every door and every kind
//! of failure while all processes log at the level trace, and afterwards no log, no span, no metric and no error holds one.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sluice_testkit::{Collector, wait_for, wait_until};
use sluice_tests::processes::Process;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::site::Site;

const PATIENCE: Duration = Duration::from_mins(1);
const PROVIDER_KEY: &str = "sk-canaryOfTheProvider7f3a";
const SIGNER_SECRET: &str = "canary-of-the-signer-91c2";
const TOKEN_SECRET: &str = "canary-of-the-issuer-5d70-0123456789abcdef";
const WEBHOOK_SECRET: &str = "canary-of-the-webhooks-44e1";
const WEBHOOK_TOKEN: &str = "canary-in-the-url-of-a-hook-e09b";
const PROMPT: &str = "canary-of-the-prompt-2b6d";
const WRONG_KEYS: [&str; 4] = [
    "sluice_canaryOfAWrongKeyThatIsAsLongAsOneIs",
    "sk-canaryOfAnotherProvidersKey",
    "eyJhbGciOiJIUzI1NiJ9.Y2FuYXJ5T2ZBVG9rZW4.Y2FuYXJ5T2ZBU2lnbmF0dXJl",
    "canary of a text that is no key",
];

/// What is gathered: where it was found, and the text.
type Found = Vec<(String, String)>;

async fn hook() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token={WEBHOOK_TOKEN}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        // Refused first, so that the failure is told in all ways that there are.
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut read = [0; 4096];
        assert!(socket.read(&mut read).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    (url, task)
}

async fn configure(site: &Site) {
    let applied = std::fs::read_to_string(site.folder.path().join("sluice.yaml")).unwrap();
    let mut document: Value = serde_json::from_str(&applied).unwrap();
    document["access"] = json!({
        "signed": [{"id": "s", "secret": "${SIGNER_SECRET}", "tenant": "default", "scopes": ["read"]}],
        "jwt": [{"issuer": "i", "audience": "a", "algorithms": ["HS256"], "jwks": "${JWKS}",
                 "tenant": "default", "scopes": ["read"]}],
    });
    document["webhooks"] =
        json!({"secrets": [{"secret": "${HOOK_SECRET}"}], "allow_addresses": ["127.0.0.0/8"]});
    let path = site.folder.path().join("more.yaml");
    std::fs::write(&path, document.to_string()).unwrap();
    let apply = ["apply", "-f", path.to_str().unwrap()];
    Process::run(site.folder.path(), &apply, site.variables()).await.unwrap();
}

/// Sends a request and keeps what its answer says, if that is an error.
async fn send(found: &mut Found, what: &str, request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = format!("{:?}", response.headers());
    let text = response.text().await.unwrap();
    found.push((format!("the headers of {what}"), headers));
    if status >= 400 {
        found.push((format!("the error of {what}"), text.clone()));
    }
    (status, text)
}

/// Through every door, in all the ways in which it can go wrong.
async fn knock_everywhere(site: &Site, key: &str, hook: &str) -> Found {
    let mut found = Found::new();
    let at = |path: &str| format!("{}{path}", site.url);
    let post = |path: &str, body: String| site.client.post(at(path)).bearer_auth(key).body(body);
    let prompt = json!({"model": "deepseek-flash", "messages": [{"role": "user", "content": PROMPT}]});
    for wrong in WRONG_KEYS {
        let (status, _) =
            send(&mut found, "a wrong key", site.client.get(at("/v1/jobs")).bearer_auth(wrong)).await;
        assert!(matches!(status, 401 | 403), "{status}");
    }
    let basic = site.client.get(at("/v1/jobs")).basic_auth("canary", Some(WRONG_KEYS[1]));
    send(&mut found, "a password", basic).await;
    let signed =
        format!("SLUICE-HMAC-SHA256 id=s, timestamp=1, nonce=0123456789abcdef, signature={SIGNER_SECRET}");
    send(&mut found, "a wrong signature", site.client.get(at("/v1/jobs")).header("Authorization", signed))
        .await;
    let submit = json!({"body": prompt, "webhook": hook, "idempotency_key": "k"});
    let (status, _) = send(&mut found, "a submit", post("/v1/jobs", submit.to_string())).await;
    assert_eq!(status, 201);
    let other = json!({"body": {"model": "m", "x": PROMPT}, "idempotency_key": "k"});
    send(&mut found, "a key of another content", post("/v1/jobs", other.to_string())).await;
    let (status, _) = send(&mut found, "a call", post("/v1/chat/completions", prompt.to_string())).await;
    assert_eq!(status, 200);
    let mut streamed = prompt.clone();
    streamed["stream"] = true.into();
    send(&mut found, "a stream", post("/v1/chat/completions", streamed.to_string())).await;
    let broken = format!("{{\"body\":{{\"model\":\"m\",\"messages\":[\"{PROMPT}\"");
    send(&mut found, "half of a submit", post("/v1/jobs", broken.clone())).await;
    let (_, lines) = send(&mut found, "lines", post("/v1/jobs/bulk", format!("{broken}\n"))).await;
    found.push(("the answer to a wrong line".to_owned(), lines));
    let refused = json!({"body": prompt, "webhook": format!("https://10.0.0.1/?token={WEBHOOK_TOKEN}")});
    send(&mut found, "a webhook that is refused", post("/v1/jobs", refused.to_string())).await;
    let path = format!("/v1/webhooks?state={WEBHOOK_TOKEN}");
    let (_, listed) = send(&mut Found::new(), "", site.client.get(at(&path)).bearer_auth(key)).await;
    assert!(listed.contains("invalid_value"), "{listed}");
    let (_, metrics) =
        send(&mut found, "the metrics", site.client.get(at("/metrics")).bearer_auth(key)).await;
    found.push(("the metrics".to_owned(), metrics));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_span_metric_or_error_holds_a_secret() {
    let collector = Collector::default();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.start()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("SLUICE_LOG", "trace".to_owned()),
        ("SIM_KEY", PROVIDER_KEY.to_owned()),
        ("SIGNER_SECRET", SIGNER_SECRET.to_owned()),
        ("HOOK_SECRET", format!("whsec_{}", STANDARD.encode(WEBHOOK_SECRET))),
        (
            "JWKS",
            json!({"keys": [{"kty": "oct", "kid": "1", "alg": "HS256",
                             "k": base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(TOKEN_SECRET)}]})
            .to_string(),
        ),
    ];
    let mut site = Site::start_with(&[], &variables).await;
    configure(&site).await;
    let create = ["--output", "json", "keys", "create", "--name", "canary"];
    let made = Process::run(site.folder.path(), &create, site.variables()).await.unwrap();
    let key: Value = serde_json::from_str(&made).unwrap();
    let key = key["key"].as_str().unwrap().to_owned();
    site.start_worker("4");
    let list = || site.client.get(format!("{}/v1/jobs", site.url)).bearer_auth(&key).send();
    wait_until("the key to be known", PATIENCE, async || list().await.unwrap().status() == 200).await;

    let (hook, told) = hook().await;
    let mut found = knock_everywhere(&site, &key, &hook).await;
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    let spans = wait_for("spans of all kinds", PATIENCE, async || {
        let spans = format!("{:?}", collector.spans.lock().unwrap());
        (spans.contains("chat deepseek-flash") && spans.contains("attempt ")).then_some(spans)
    })
    .await;
    found.push(("the spans".to_owned(), spans));
    found.push(("the scheduler's log".to_owned(), site.scheduler.log()));
    found.push(("the worker's log".to_owned(), site.workers[0].log()));
    for (place, text) in &found[found.len() - 2..] {
        assert!(text.contains("\"TRACE\"") || text.contains("TRACE"), "{place} is not at the level trace");
    }

    let encoded = [STANDARD.encode(WEBHOOK_SECRET), STANDARD.encode(TOKEN_SECRET)];
    let secrets =
        [PROVIDER_KEY, SIGNER_SECRET, TOKEN_SECRET, WEBHOOK_SECRET, WEBHOOK_TOKEN, PROMPT, key.as_str()];
    let secrets = secrets.into_iter().chain(WRONG_KEYS).chain(encoded.iter().map(String::as_str));
    let mut leaks = Vec::new();
    for secret in secrets {
        for (place, text) in found.iter().filter(|(_, text)| text.contains(secret)) {
            let line = text.lines().find(|line| line.contains(secret)).unwrap_or_default();
            let short: String = line.chars().take(400).collect();
            leaks.push(format!("{secret} in {place}: {short}"));
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}
