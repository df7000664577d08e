//! API keys: who is let in, as whom, and how far.

use std::{num::NonZeroU32, time::Duration};

use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{ApiKey, ApiKeyId, KeyName, KeyRights, Priority, QueueName, Scope, Scopes, TenantName};
use sluice_scheduler::{Keyless, SchedulerError, Server};
use sluice_store::{NewApiKey, NextApiKey, Store};

use crate::fixture::{CONFIGURATION, Fixture, answer, chat, chat_with, options};

/// A key that was made.
pub struct Made {
    pub id: ApiKeyId,
    pub key: ApiKey,
}

impl Made {
    pub fn of(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.key.expose())
    }
}

/// A key that nobody has made.
pub fn some_key() -> ApiKey {
    let (a, b) = (ApiKeyId::generate().as_uuid().into_bytes(), uuid::Uuid::new_v4().into_bytes());
    ApiKey::of_random(std::array::from_fn(|at| if at < 16 { b[at] } else { a[at - 10] }))
}

pub async fn make_key(store: &Store, tenant: &str, rights: KeyRights) -> Made {
    make_key_for(store, tenant, rights, None).await
}

async fn make_key_for(store: &Store, tenant: &str, rights: KeyRights, lifetime: Option<Duration>) -> Made {
    let (id, key) = (ApiKeyId::generate(), some_key());
    let new = NewApiKey {
        id,
        tenant: TenantName::new(tenant).unwrap(),
        name: KeyName::new("test").unwrap(),
        hash: key.hash(),
        hint: key.hint(),
        rights,
        lifetime,
    };
    store.api_key_create(&new).await.unwrap();
    Made { id, key }
}

pub fn scopes(scopes: &[Scope]) -> KeyRights {
    KeyRights::of_scopes(scopes.iter().copied().collect::<Scopes>())
}

fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["error"]["code"].as_str().unwrap_or_default())
}

/// Asks until the answer has a status: what schedulers remember of keys is some seconds old.
async fn until_status(request: impl Fn() -> RequestBuilder, wanted: StatusCode) -> Duration {
    let begun = tokio::time::Instant::now();
    while answer(request()).await.0 != wanted {
        assert!(begun.elapsed() < Duration::from_secs(30), "never {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn once_a_key_was_made_nobody_gets_in_without_one() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let made = make_key(&fixture.store, "default", KeyRights::all()).await;
    until_status(|| fixture.get("/v1/jobs"), StatusCode::UNAUTHORIZED).await;
    let refused = fixture.get("/v1/jobs").send().await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(code(&answer(fixture.get("/v1/jobs")).await), (401, "missing_api_key"));
    for (sent, expected) in [
        ("Bearer sk-of-another-api".to_owned(), "missing_api_key"),
        (format!("Bearer {}x", made.key.expose()), "invalid_api_key"),
        (format!("Bearer {}", some_key().expose()), "invalid_api_key"),
        ("Basic dXNlcjpwYXNz".to_owned(), "missing_api_key"),
    ] {
        let request = fixture.get("/v1/jobs").header("Authorization", &sent);
        assert_eq!(code(&answer(request).await), (401, expected), "{sent}");
    }
    // Beside health and the API's description.
    for open in ["/healthz", "/readyz", "/openapi.json", "/"] {
        assert_eq!(fixture.get(open).send().await.unwrap().status(), StatusCode::OK, "{open}");
    }
    assert_eq!(fixture.get("/metrics").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // A page of somebody else's has no key, so that neither Host nor Origin matters with one.
    let request = made.of(fixture.get(&format!("/v1/jobs/{id}"))).header("Origin", "https://app.example");
    assert_eq!(answer(request.header("Host", "api.example")).await.0, StatusCode::OK);
    // It stays so when the last key is revoked.
    fixture.store.api_key_revoke(made.id).await.unwrap().unwrap();
    until_status(|| made.of(fixture.get("/v1/jobs")), StatusCode::UNAUTHORIZED).await;
    assert_eq!(code(&answer(fixture.get("/v1/jobs")).await), (401, "missing_api_key"));
}

#[tokio::test]
async fn without_any_key_what_clients_of_other_apis_send_does_not_matter() {
    let fixture = Fixture::new().await;
    let request = fixture.get("/v1/jobs").bearer_auth("sk-anything");
    assert_eq!(answer(request).await.0, StatusCode::OK);
    // Whoever sends a key of ours means to be known by it.
    let request = fixture.get("/v1/jobs").bearer_auth(some_key().expose());
    assert_eq!(code(&answer(request).await), (401, "invalid_api_key"));
}

#[tokio::test]
async fn another_tenants_jobs_are_unknown() {
    let fixture = Fixture::new().await;
    let ours = make_key(&fixture.store, "ours", KeyRights::all()).await;
    let theirs = make_key(&fixture.store, "theirs", KeyRights::all()).await;
    let (status, job) = answer(ours.of(fixture.post("/v1/jobs", chat().to_string()))).await;
    assert_eq!((status, &job["tenant"]), (StatusCode::CREATED, &json!("ours")));
    let id = job["id"].as_str().unwrap();
    let at = |rest: &str| format!("/v1/jobs/{id}{rest}");
    for path in ["", "?wait=1s", "/attempts", "/events", "/explain", "/result"] {
        assert_eq!(code(&answer(theirs.of(fixture.get(&at(path)))).await), (404, "job_not_found"), "{path}");
    }
    for path in ["/cancel", "/replay", "/release"] {
        let request = theirs.of(fixture.post(&at(path), ""));
        assert_eq!(code(&answer(request).await), (404, "job_not_found"), "{path}");
    }
    let (_, list) = answer(theirs.of(fixture.get("/v1/jobs"))).await;
    assert_eq!(list["data"], json!([]));
    let all = json!({"filter": {}}).to_string();
    let (_, report) = answer(theirs.of(fixture.post("/v1/cancellations", all.clone()))).await;
    assert_eq!(report["matched"], json!(0));
    let (_, queues) = answer(theirs.of(fixture.get("/v1/queues"))).await;
    assert_eq!(queues["data"], json!([]));
    // A key's idempotency keys are its tenant's.
    let keyed = chat_with(&json!({"idempotency_key": "same"})).to_string();
    let first = answer(ours.of(fixture.post("/v1/jobs", keyed.clone()))).await;
    let second = answer(theirs.of(fixture.post("/v1/jobs", keyed))).await;
    assert_eq!((first.0, second.0), (StatusCode::CREATED, StatusCode::CREATED));
    let (_, report) = answer(ours.of(fixture.post("/v1/cancellations", all))).await;
    assert_eq!(report["changed"], json!(2));
}

#[tokio::test]
async fn a_scope_opens_what_it_is_for_and_nothing_else() {
    let fixture = Fixture::new().await;
    let admin = make_key(&fixture.store, "default", KeyRights::all()).await;
    let (_, job) = answer(admin.of(fixture.post("/v1/jobs", chat().to_string()))).await;
    let id = job["id"].as_str().unwrap();
    let all = json!({"filter": {}, "dry_run": true}).to_string();
    let table = [
        (Scope::Submit, fixture.post("/v1/jobs", chat().to_string())),
        (Scope::Read, fixture.get("/v1/jobs")),
        (Scope::Read, fixture.get(&format!("/v1/jobs/{id}/attempts"))),
        (Scope::Read, fixture.get("/v1/limits")),
        (Scope::Cancel, fixture.post("/v1/cancellations", all.clone())),
        (Scope::Replay, fixture.post("/v1/replays", all.clone())),
        (Scope::Replay, fixture.post("/v1/releases", all)),
        (Scope::Admin, fixture.post("/v1/queues/q/pause", "")),
        (Scope::Admin, fixture.get("/v1/workers")),
        (Scope::Admin, fixture.post("/v1/upstreams/up/pause", "")),
    ];
    for scope in Scope::ALL {
        let made = make_key(&fixture.store, "default", scopes(&[scope])).await;
        for (needed, request) in &table {
            let request = made.of(request.try_clone().unwrap());
            let answered = answer(request).await;
            if scope == Scope::Admin || scope == *needed {
                assert!(answered.0.is_success(), "{scope} {needed}: {answered:?}");
            } else {
                assert_eq!(code(&answered), (403, "insufficient_scope"), "{scope} {needed}");
            }
        }
    }
    // What all tenants share is the operator's.
    let other = make_key(&fixture.store, "other", KeyRights::all()).await;
    for request in [fixture.get("/v1/workers"), fixture.post("/v1/upstreams/up/resume", "")] {
        assert_eq!(code(&answer(other.of(request)).await), (403, "operator_only"));
    }
    assert_eq!(answer(other.of(fixture.post("/v1/queues/q/pause", ""))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_of_some_queues_reaches_no_other() {
    let fixture = Fixture::new().await;
    let all = make_key(&fixture.store, "default", KeyRights::all()).await;
    let queue = |name: &str| QueueName::new(name).unwrap();
    let rights = |queues: &[&str]| KeyRights {
        queues: Some(queues.iter().map(|name| queue(name)).collect()),
        top_priority: Priority::new(2).unwrap(),
        ..KeyRights::all()
    };
    let one = make_key(&fixture.store, "default", rights(&["nightly"])).await;
    let two = make_key(&fixture.store, "default", rights(&["nightly", "bulk"])).await;
    let submit =
        |made: &Made, more: Value| answer(made.of(fixture.post("/v1/jobs", chat_with(&more).to_string())));
    let (_, foreign) = submit(&all, json!({})).await;
    let foreign = foreign["id"].as_str().unwrap();
    assert_eq!(code(&submit(&one, json!({})).await), (403, "queue_not_allowed"));
    assert_eq!(
        code(&submit(&one, json!({"queue": "nightly", "priority": 4})).await),
        (403, "priority_not_allowed")
    );
    let (status, own) = submit(&one, json!({"queue": "nightly"})).await;
    // The usual priority is lowered to the key's.
    assert_eq!((status, &own["priority"]), (StatusCode::CREATED, &json!(2)));
    for (path, method) in
        [("", "GET"), ("/attempts", "GET"), ("/explain", "GET"), ("/cancel", "POST"), ("/replay", "POST")]
    {
        let path = format!("/v1/jobs/{foreign}{path}");
        let request = if method == "GET" { fixture.get(&path) } else { fixture.post(&path, "") };
        assert_eq!(code(&answer(one.of(request)).await), (404, "job_not_found"), "{path}");
    }
    let (_, list) = answer(one.of(fixture.get("/v1/jobs"))).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(code(&answer(two.of(fixture.get("/v1/jobs"))).await), (403, "queue_not_allowed"));
    assert_eq!(answer(two.of(fixture.get("/v1/jobs?queue=bulk"))).await.0, StatusCode::OK);
    assert_eq!(
        code(&answer(two.of(fixture.get("/v1/jobs?queue=default"))).await),
        (403, "queue_not_allowed")
    );
    assert_eq!(
        code(&answer(one.of(fixture.post("/v1/queues/default/pause", ""))).await),
        (403, "queue_not_allowed")
    );
    // In bulk, line by line.
    let lines = format!("{}\n{}\n", chat(), chat_with(&json!({"queue": "nightly"})));
    let answers = one.of(fixture.post("/v1/jobs/bulk", lines)).send().await.unwrap().text().await.unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["error"]["code"], json!("queue_not_allowed"));
    assert_eq!(answers[1]["status"], json!("created"));
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_five_seconds_by_every_server_and_for_what_goes_on() {
    let fixture = Fixture::new().await;
    let second = Server::start(options(fixture.store.clone())).await.unwrap();
    let made = make_key(&fixture.store, "default", KeyRights::all()).await;
    let urls = [fixture.base.clone(), format!("http://{}", second.addr())];
    for url in &urls {
        let (status, _) = answer(made.of(fixture.client.get(format!("{url}/v1/jobs")))).await;
        assert_eq!(status, StatusCode::OK);
    }
    let (_, job) = answer(made.of(fixture.post("/v1/jobs", chat().to_string()))).await;
    let events = format!("/v1/jobs/{}/events", job["id"].as_str().unwrap());
    let watching = made.of(fixture.get(&events)).send().await.unwrap();
    fixture.store.api_key_revoke(made.id).await.unwrap().unwrap();
    let revoked_at = tokio::time::Instant::now();
    for url in &urls {
        until_status(|| made.of(fixture.client.get(format!("{url}/v1/jobs"))), StatusCode::UNAUTHORIZED)
            .await;
        assert!(revoked_at.elapsed() < Duration::from_secs(6), "{:?}", revoked_at.elapsed());
    }
    // The stream ends at the next change without telling it.
    fixture.work_one(b"{\"secret\":\"answer\"}").await;
    let told = watching.text().await.unwrap();
    assert!(told.contains("queued") && !told.contains("succeeded"), "{told}");
}

#[tokio::test]
async fn keys_end_by_themselves_and_are_replaced_while_both_are_valid() {
    let fixture = Fixture::new().await;
    let short = make_key_for(&fixture.store, "t", KeyRights::all(), Some(Duration::from_secs(2))).await;
    assert_eq!(answer(short.of(fixture.get("/v1/jobs"))).await.0, StatusCode::OK);
    until_status(|| short.of(fixture.get("/v1/jobs")), StatusCode::UNAUTHORIZED).await;
    let old = make_key(&fixture.store, "t", scopes(&[Scope::Read])).await;
    let key = some_key();
    let next = |key: &ApiKey, overlap| NextApiKey {
        id: ApiKeyId::generate(),
        hash: key.hash(),
        hint: key.hint(),
        lifetime: None,
        overlap,
    };
    let replaced = fixture.store.api_key_replace_if_valid(old.id, &next(&key, Duration::from_hours(1))).await;
    let view = replaced.unwrap().unwrap();
    assert_eq!(
        (view.tenant.as_str(), view.rights.scopes, view.expires_at),
        ("t", scopes(&[Scope::Read]).scopes, None)
    );
    for key in [&old.key, &key] {
        assert_eq!(answer(fixture.get("/v1/jobs").bearer_auth(key.expose())).await.0, StatusCode::OK);
    }
    let ended =
        fixture.store.api_key_replace_if_valid(short.id, &next(&some_key(), Duration::ZERO)).await.unwrap();
    assert_eq!(ended, None);
}

#[tokio::test]
async fn a_rate_is_kept_over_all_servers_and_says_when_there_is_more() {
    let fixture = Fixture::new().await;
    let second = Server::start(options(fixture.store.clone())).await.unwrap();
    let rights = KeyRights { submits_per_minute: NonZeroU32::new(5), ..KeyRights::all() };
    let made = make_key(&fixture.store, "default", rights).await;
    let mut created = 0;
    for at in 0..12 {
        let base = if at % 2 == 0 { fixture.base.clone() } else { format!("http://{}", second.addr()) };
        let request = fixture.client.post(format!("{base}/v1/jobs")).body(chat().to_string());
        let response = made.of(request).send().await.unwrap();
        match response.status() {
            StatusCode::CREATED => created += 1,
            status => {
                assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
                let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=12).contains(&wait), "{wait}");
                let error: Value = response.json().await.unwrap();
                assert_eq!(error["error"]["code"], json!("rate_limit_exceeded"));
            }
        }
    }
    // The bucket fills by one in 12 s.
    assert!((5..=7).contains(&created), "{created}");
    assert_eq!(answer(made.of(fixture.get("/v1/jobs"))).await.0, StatusCode::OK);
}

#[tokio::test]
async fn no_more_is_accepted_than_may_wait() {
    let fixture = Fixture::new().await;
    let rights = KeyRights { max_waiting: NonZeroU32::new(3), ..KeyRights::all() };
    let made = make_key(&fixture.store, "default", rights).await;
    let lines = format!("{}\n", chat()).repeat(5);
    let answers = made.of(fixture.post("/v1/jobs/bulk", lines)).send().await.unwrap().text().await.unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused =
        answers.iter().filter(|answer| answer["error"]["code"] == json!("too_many_waiting")).count();
    assert_eq!((answers.len(), refused), (5, 2), "{answers:?}");
    assert_eq!(
        code(&answer(made.of(fixture.post("/v1/jobs", chat().to_string()))).await),
        (429, "too_many_waiting")
    );
    fixture.work_one(b"{}").await;
    until_status(|| made.of(fixture.post("/v1/jobs", chat().to_string())), StatusCode::CREATED).await;
}

#[tokio::test]
async fn a_key_may_be_bound_to_addresses() {
    let fixture = Fixture::new().await;
    let from = |networks: &[&str]| KeyRights {
        networks: Some(networks.iter().map(|text| text.parse().unwrap()).collect()),
        ..KeyRights::all()
    };
    let here = make_key(&fixture.store, "default", from(&["10.0.0.0/8", "127.0.0.0/8"])).await;
    let elsewhere = make_key(&fixture.store, "default", from(&["203.0.113.7", "::/0"])).await;
    assert_eq!(answer(here.of(fixture.get("/v1/jobs"))).await.0, StatusCode::OK);
    assert_eq!(code(&answer(elsewhere.of(fixture.get("/v1/jobs"))).await), (403, "address_not_allowed"));
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_key_is_bound_to_whom_the_proxy_names() {
    let fixture = Fixture::new().await;
    let rights = KeyRights { networks: Some(vec!["203.0.113.0/24".parse().unwrap()]), ..KeyRights::all() };
    let made = make_key(&fixture.store, "default", rights).await;
    let through = |said: &'static str| {
        let request = made.of(fixture.get("/v1/jobs")).header("X-Forwarded-For", said);
        async move { answer(request).await }
    };
    // Nobody said that whoever comes from here is a proxy.
    assert_eq!(code(&through("203.0.113.7").await), (403, "address_not_allowed"));
    let document = format!("{CONFIGURATION}access: {{ trusted_proxies: ['127.0.0.0/8'] }}\n");
    fixture.store.configuration_apply_if_newest(1, &document, &[], "test").await.unwrap();
    until_status(
        || made.of(fixture.get("/v1/jobs")).header("X-Forwarded-For", "203.0.113.7"),
        StatusCode::OK,
    )
    .await;
    assert_eq!(code(&through("198.51.100.1").await), (403, "address_not_allowed"));
    // What the client itself wrote stands before what the proxy adds.
    assert_eq!(code(&through("203.0.113.7, 198.51.100.1").await), (403, "address_not_allowed"));
    assert_eq!(code(&through("nonsense").await), (403, "address_not_allowed"));
    // Proxies are nobody who may come in.
    assert_eq!(answer(fixture.get("/v1/jobs")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn with_a_key_other_addresses_may_be_listened_on() {
    let fixture = Fixture::new().await;
    let mut open = options(fixture.store.clone());
    open.listen = "0.0.0.0:0".parse().unwrap();
    let refused = Server::start(open.clone()).await.unwrap_err();
    assert!(matches!(refused, SchedulerError::KeylessElsewhere(_)), "{refused}");
    let made = make_key(&fixture.store, "default", KeyRights::all()).await;
    let server = Server::start(open).await.unwrap();
    let url = format!("http://127.0.0.1:{}/v1/jobs", server.addr().port());
    let with_host = |request: RequestBuilder| request.header("Host", "sluice.example");
    assert_eq!(answer(made.of(with_host(fixture.client.get(&url)))).await.0, StatusCode::OK);
    assert_eq!(code(&answer(with_host(fixture.client.get(&url))).await), (401, "missing_api_key"));
    let ready = fixture.client.get(url.replace("/v1/jobs", "/readyz"));
    assert_eq!(with_host(ready).send().await.unwrap().status(), StatusCode::OK);
    // Where the operator lets everybody in while there are no keys, keys count all the same once there are some.
    let mut allowed = options(fixture.store.clone());
    allowed.keyless = Keyless::AnyAddress;
    let server = Server::start(allowed).await.unwrap();
    let request = fixture.client.get(format!("http://{}/v1/jobs", server.addr()));
    assert_eq!(code(&answer(request).await), (401, "missing_api_key"));
}

#[tokio::test]
async fn when_a_key_was_last_used_is_noted_when_the_server_stops() {
    let fixture = Fixture::new().await;
    let made = make_key(&fixture.store, "default", KeyRights::all()).await;
    assert_eq!(answer(made.of(fixture.get("/v1/jobs"))).await.0, StatusCode::OK);
    let Fixture { server, store, database, .. } = fixture;
    server.shutdown(Duration::from_secs(5)).await;
    let begun = tokio::time::Instant::now();
    while store.api_keys(None).await.unwrap()[0].last_used_at.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(database);
}

#[tokio::test]
async fn nothing_that_is_stored_or_answered_holds_a_key() {
    let fixture = Fixture::new().await;
    let made = make_key(&fixture.store, "default", KeyRights::all()).await;
    let (_, refused) = answer(fixture.get("/v1/jobs").bearer_auth(format!("{}0", made.key.expose()))).await;
    assert!(!refused.to_string().contains(made.key.expose()), "{refused}");
    let stored: String = sqlx::query_scalar("SELECT string_agg(k::text, ' ') FROM sluice.api_keys k")
        .fetch_one(fixture.database.pool())
        .await
        .unwrap();
    let digits = made.key.expose().trim_start_matches(ApiKey::PREFIX);
    assert!(!stored.contains(digits) && !stored.contains(&digits[4..20]), "{stored}");
}

#[tokio::test]
async fn a_key_that_is_bound_has_no_files_and_batches() {
    let fixture = Fixture::new().await;
    let all = make_key(&fixture.store, "default", KeyRights::all()).await;
    assert_eq!(answer(all.of(fixture.get("/v1/batches"))).await.0, StatusCode::OK);
    let bound = [
        KeyRights { queues: Some(vec![QueueName::new("a").unwrap()]), ..KeyRights::all() },
        KeyRights { submits_per_minute: NonZeroU32::new(5), ..KeyRights::all() },
        KeyRights { max_waiting: NonZeroU32::new(5), ..KeyRights::all() },
    ];
    for rights in bound {
        let made = make_key(&fixture.store, "default", rights).await;
        let batch = json!({"input_file_id": "file-0", "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        for request in [
            fixture.get("/v1/files"),
            fixture.get("/v1/files/file-0/content"),
            fixture.get("/v1/batches"),
            fixture.post("/v1/batches", batch.to_string()),
        ] {
            let (status, body) = answer(made.of(request)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
            assert_eq!(body["error"]["code"], "files_not_allowed");
        }
    }
}
