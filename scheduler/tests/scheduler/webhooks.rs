//! Ends of jobs, told to whoever asked: signed, at least once, for days, and nowhere that they must not go.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{StatusCode, header::HeaderMap};
use ring::hmac;
use serde_json::{Value, json};
use sluice_domain::{KeyRights, WebhookUrl};
use sluice_scheduler::{Maintenance, MaintenanceHandle, MaintenanceOptions, WebhookBell};
use sluice_store::{WebhookAsk, WebhookEnd};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{job, wait_for, wait_until};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    fixture::{CONFIGURATION, Fixture, answer, chat, chat_with},
    keys::make_key,
};

const PATIENCE: Duration = Duration::from_secs(30);
const PRESENT: [u8; 32] = [1; 32];
const PREVIOUS: [u8; 32] = [2; 32];

/// One try that came to a receiver.
struct Tried {
    headers: HeaderMap,
    body: Bytes,
}

impl Tried {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What a receiver that knows one of the secrets does.
    fn is_signed_by(&self, secret: &[u8]) -> bool {
        let signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        context.update(signed.as_bytes());
        context.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(context.sign()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

type Inbox = mpsc::UnboundedSender<Tried>;

/// A receiver that answers what it is told to.
struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    inbox: Mutex<mpsc::UnboundedReceiver<Tried>>,
}

impl Receiver {
    async fn start() -> Self {
        let (send, inbox) = mpsc::unbounded_channel();
        let status = Arc::new(AtomicU16::new(204));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let take = |State((inbox, status)): State<(Inbox, Arc<AtomicU16>)>,
                    headers: HeaderMap,
                    body: Bytes| async move {
            let _ = inbox.send(Tried { headers, body });
            StatusCode::from_u16(status.load(Ordering::SeqCst)).unwrap()
        };
        let router = Router::new().route("/hook", post(take)).with_state((send, Arc::clone(&status)));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, status, inbox: Mutex::new(inbox) }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    async fn next(&self) -> Tried {
        let mut found = None;
        wait_until("a webhook", PATIENCE, async || {
            found = self.inbox.lock().unwrap().try_recv().ok();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    fn is_empty(&self) -> bool {
        self.inbox.lock().unwrap().is_empty()
    }
}

/// A server under a configuration with webhooks, and the loops beside it.
struct Hooked {
    fixture: Fixture,
    receiver: Receiver,
    bell: WebhookBell,
    _secrets: tempfile::TempDir,
}

impl Hooked {
    async fn new() -> Self {
        let bell = WebhookBell::default();
        let fixture = Fixture::with(|options| options.webhook_bell = bell.clone()).await;
        let secrets = tempfile::tempdir().unwrap();
        let path = |name: &str, secret: [u8; 32]| {
            let path = secrets.path().join(name);
            std::fs::write(&path, format!("whsec_{}\n", STANDARD.encode(secret))).unwrap();
            format!("'file:{}'", path.display())
        };
        let (present, previous) = (path("present", PRESENT), path("previous", PREVIOUS));
        let document = format!(
            "{CONFIGURATION}webhooks:\n  secrets: [ {{ secret: {present}, previous: {previous} }} ]\n  \
             allow_addresses: ['127.0.0.1']\n"
        );
        fixture.store.configuration_apply_if_newest(1, &document, &[], "test").await.unwrap();
        // What gates the server read before counts for a second.
        let hooked = Self { fixture, receiver: Receiver::start().await, bell, _secrets: secrets };
        hooked.wait_for_configuration().await;
        hooked
    }

    async fn wait_for_configuration(&self) {
        let job = self.job();
        wait_until("webhooks to be taken", PATIENCE, async || {
            self.fixture.post_json("/v1/jobs", &job).await.0 == StatusCode::CREATED
        })
        .await;
        let id = self.fixture.work_one(b"{}").await;
        sqlx::query("DELETE FROM sluice.webhook_deliveries WHERE job_id = $1")
            .bind(id.as_uuid())
            .execute(self.fixture.database.pool())
            .await
            .unwrap();
    }

    /// The loops of a scheduler.
    fn start(&self) -> MaintenanceHandle {
        let mut options = MaintenanceOptions::new("host", MetricsRegistry::new().unwrap().scheduler());
        options.webhook_bell = self.bell.clone();
        Maintenance::start(self.fixture.store.clone(), options)
    }

    fn job(&self) -> Value {
        chat_with(&json!({"webhook": self.receiver.url(), "tags": {"order": "17"}}))
    }

    async fn webhooks(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.fixture.get_json(&format!("/v1/webhooks{query}")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page["data"].as_array().unwrap().clone()
    }

    async fn wait_for_states(&self, wanted: &[&str]) -> Vec<Value> {
        let mut seen = Vec::new();
        wait_until("webhooks to come that far", PATIENCE, async || {
            seen = self.webhooks("").await;
            seen.iter().map(|webhook| webhook["state"].as_str().unwrap()).eq(wanted.iter().copied())
        })
        .await;
        seen
    }

    async fn make_due(&self) {
        sqlx::query(
            "UPDATE sluice.webhook_deliveries SET due_at = clock_timestamp() WHERE state = 'pending'",
        )
        .execute(self.fixture.database.pool())
        .await
        .unwrap();
    }
}

/// A delivery of the tenant `default`, whatever becomes of it; its id.
pub async fn ended_with_webhook(fixture: &Fixture) -> String {
    let mut job = job().build();
    job.id = sluice_domain::JobId::generate_for_webhook();
    job.webhook = Some(WebhookUrl::new("https://example.com/hook").unwrap());
    let id = fixture.store_job(job).await;
    fixture.store.job_cancel(&fixture.tenant, id).await.unwrap();
    let page = sluice_store::WebhookPage { job: Some(id), limit: 1, ..Default::default() };
    fixture.store.webhooks(&fixture.tenant, &page).await.unwrap()[0].id.to_string()
}

#[tokio::test]
async fn an_end_is_told_signed_by_both_secrets_and_without_the_answers_body() {
    let hooked = Hooked::new().await;
    let _loops = hooked.start();
    let id = hooked.fixture.submit(&hooked.job()).await;
    assert!(id.ends_with("5eed"), "{id}");
    hooked.fixture.work_one(br#"{"choices":["a secret answer"]}"#).await;
    let tried = hooked.receiver.next().await;
    assert!(tried.is_signed_by(&PRESENT) && tried.is_signed_by(&PREVIOUS) && !tried.is_signed_by(&[3; 32]));
    assert_eq!(tried.header("content-type"), "application/json");
    let age = sluice_scheduler::wall_clock().timestamp()
        - tried.header("webhook-timestamp").parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
    let said = tried.json();
    assert_eq!((&said["type"], &said["data"]["id"]), (&json!("job.succeeded"), &json!(id)));
    assert_eq!(said["data"]["tags"], json!({"order": "17"}));
    assert_eq!(said["data"]["max_attempts"], 3);
    assert_eq!(
        (&said["data"]["state"], &said["data"]["result"]["status_code"]),
        (&json!("succeeded"), &json!(200))
    );
    assert_eq!(said["data"]["finished_at"], said["timestamp"]);
    assert!(!String::from_utf8_lossy(&tried.body).contains("secret answer"));
    let [webhook] = &hooked.wait_for_states(&["delivered"]).await[..] else { panic!("one webhook") };
    assert_eq!(webhook["id"], tried.header("webhook-id"));
    assert_eq!(
        (&webhook["tries"], &webhook["status_code"], &webhook["job_id"]),
        (&json!(1), &json!(204), &json!(id))
    );
}

#[tokio::test]
async fn each_end_is_told_once_whatever_it_is_and_nobody_elses() {
    let hooked = Hooked::new().await;
    let _loops = hooked.start();
    let fixture = &hooked.fixture;
    // Nobody asked, though the id looks as if somebody had.
    let mut quiet = job().build();
    quiet.id = sluice_domain::JobId::generate_for_webhook();
    fixture.store_job(quiet).await;
    fixture.work_one(b"{}").await;
    let failed = fixture.submit(&hooked.job()).await;
    fixture.fail_one().await;
    assert_eq!(hooked.receiver.next().await.json()["type"], "job.failed");
    fixture.post_json(&format!("/v1/jobs/{failed}/replay"), &json!({})).await;
    fixture.post_json(&format!("/v1/jobs/{failed}/cancel"), &json!({})).await;
    let second = hooked.receiver.next().await.json();
    assert_eq!((&second["type"], &second["data"]["generation"]), (&json!("job.cancelled"), &json!(2)));
    assert_eq!(hooked.wait_for_states(&["delivered", "delivered"]).await[0]["job_id"], failed.as_str());
    assert!(hooked.receiver.is_empty());
}

#[tokio::test]
async fn bulk_lines_and_repeated_submits_have_webhooks_too() {
    let hooked = Hooked::new().await;
    let _loops = hooked.start();
    let keyed = chat_with(&json!({"webhook": hooked.receiver.url(), "idempotency_key": "k"}));
    let lines = format!("{}\n{keyed}\n{keyed}\n{}\n", hooked.job(), chat());
    let response = hooked.fixture.post("/v1/jobs/bulk", lines).send().await.unwrap().text().await.unwrap();
    assert_eq!(response.matches("created").count(), 3, "{response}");
    hooked.fixture.submit(&chat_with(&json!({"idempotency_key": "other"}))).await;
    for _ in 0..4 {
        hooked.fixture.work_one(b"{}").await;
    }
    hooked.wait_for_states(&["delivered", "delivered"]).await;
    let again = hooked.fixture.post_json("/v1/jobs", &keyed).await;
    assert_eq!(again.0, StatusCode::OK);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.webhooks WHERE url = $1")
        .bind(hooked.receiver.url())
        .fetch_one(hooked.fixture.database.pool())
        .await
        .unwrap();
    assert_eq!(count, 3, "two of these, and one of the beginning");
}

#[tokio::test]
async fn what_a_target_does_not_take_is_tried_again_under_the_same_id_and_then_given_up() {
    let hooked = Hooked::new().await;
    hooked.receiver.answer(503);
    let _loops = hooked.start();
    hooked.fixture.submit(&hooked.job()).await;
    hooked.fixture.work_one(b"{}").await;
    let first = hooked.receiver.next().await;
    wait_until("the try to be written", PATIENCE, async || {
        hooked.webhooks("").await[0]["problem"] == "the target answered 503"
    })
    .await;
    let pending = hooked.webhooks("?state=pending").await;
    assert_eq!((&pending[0]["status_code"], &pending[0]["tries"]), (&json!(503), &json!(1)));
    assert!(pending[0]["due_at"].is_string() && pending[0]["ended_at"].is_null());
    hooked.make_due().await;
    let second = hooked.receiver.next().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
    wait_until("the second try to be written", PATIENCE, async || {
        let written: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sluice.webhook_deliveries WHERE tries = 2 AND lease_id IS NULL",
        )
        .fetch_one(hooked.fixture.database.pool())
        .await
        .unwrap();
        written == 1
    })
    .await;
    sqlx::query("UPDATE sluice.webhook_deliveries SET tries = 9, due_at = clock_timestamp()")
        .execute(hooked.fixture.database.pool())
        .await
        .unwrap();
    let failed = hooked.wait_for_states(&["failed"]).await;
    assert!(failed[0]["due_at"].is_null() && failed[0]["ended_at"].is_string());
    hooked.receiver.answer(200);
    let path = format!("/v1/webhooks/{}/redeliver", failed[0]["id"].as_str().unwrap());
    let (status, due) = hooked.fixture.post_json(&path, &json!({})).await;
    assert_eq!((status, &due["state"], &due["tries"]), (StatusCode::OK, &json!("pending"), &json!(0)));
    hooked.wait_for_states(&["delivered"]).await;
}

#[tokio::test]
async fn a_target_that_is_gone_is_told_no_more_until_it_is_resumed() {
    let hooked = Hooked::new().await;
    hooked.receiver.answer(410);
    let _loops = hooked.start();
    hooked.fixture.submit(&hooked.job()).await;
    hooked.fixture.work_one(b"{}").await;
    hooked.receiver.next().await;
    hooked.wait_for_states(&["disabled"]).await;
    wait_until("the target to be disabled", PATIENCE, async || {
        let disabled: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.webhook_targets")
            .fetch_one(hooked.fixture.database.pool())
            .await
            .unwrap();
        disabled == 1
    })
    .await;
    hooked.fixture.submit(&hooked.job()).await;
    hooked.fixture.work_one(b"{}").await;
    hooked.wait_for_states(&["disabled", "disabled"]).await;
    assert!(hooked.receiver.is_empty());
    hooked.receiver.answer(200);
    let resume = json!({"url": hooked.receiver.url()});
    let (status, resumed) = hooked.fixture.post_json("/v1/webhooks/resume", &resume).await;
    assert_eq!((status, &resumed["resumed"]), (StatusCode::OK, &json!(2)), "{resumed}");
    hooked.wait_for_states(&["delivered", "delivered"]).await;
}

#[tokio::test]
async fn a_sender_that_dies_leaves_its_delivery_to_the_next_and_may_write_no_more() {
    let hooked = Hooked::new().await;
    hooked.fixture.submit(&hooked.job()).await;
    hooked.fixture.work_one(b"{}").await;
    let ask = WebhookAsk { most: 9, most_of_target: 9, busy: &[], lease_for: Duration::from_hours(1) };
    let lease = Uuid::new_v4();
    let store = &hooked.fixture.store;
    let leased = store.webhook_deliveries_lease(lease, ask).await.unwrap();
    assert_eq!(leased.len(), 1);
    assert!(store.webhook_deliveries_lease(Uuid::new_v4(), ask).await.unwrap().is_empty());
    let _loops = hooked.start();
    // The lease runs out.
    hooked.make_due().await;
    hooked.receiver.next().await;
    hooked.wait_for_states(&["delivered"]).await;
    let end = store.webhook_delivery_end_if_leased(leased[0].id, lease, &WebhookEnd::Failed, None, None);
    assert!(!end.await.unwrap());
    hooked.wait_for_states(&["delivered"]).await;
}

#[tokio::test]
async fn a_target_that_never_answers_holds_up_no_other() {
    let hooked = Hooked::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    for _ in 0..60 {
        hooked.fixture.submit(&chat_with(&json!({"webhook": url}))).await;
        hooked.fixture.work_one(b"{}").await;
    }
    hooked.fixture.submit(&hooked.job()).await;
    hooked.fixture.work_one(b"{}").await;
    let _loops = hooked.start();
    let begun = std::time::Instant::now();
    hooked.receiver.next().await;
    // Were they told in order, those before it would take their time-outs first.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn targets_that_are_not_theirs_to_call_are_refused_when_they_are_named() {
    let hooked = Hooked::new().await;
    let table = [
        ("https://10.0.0.1/", "invalid_value"),
        ("https://169.254.169.254/latest/meta-data/", "invalid_value"),
        ("http://example.org.invalid@127.0.0.2/", "invalid_value"),
        ("http://8.8.8.8/", "invalid_value"),
        ("https://[::ffff:10.0.0.1]/", "invalid_value"),
    ];
    for (url, code) in table {
        let (status, body) = hooked.fixture.post_json("/v1/jobs", &chat_with(&json!({"webhook": url}))).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(code)),
            "{url}"
        );
        assert_eq!(body["error"]["param"], "/webhook");
    }
    // A name that leads there is found out when it is called.
    hooked.fixture.submit(&chat_with(&json!({"webhook": "https://localhost:1/"}))).await;
    hooked.fixture.work_one(b"{}").await;
    let _loops = hooked.start();
    let refused = "it leads to an address that is not public and not allowed";
    let found = wait_for("the try to be written", PATIENCE, async || {
        let webhooks = hooked.webhooks("").await;
        webhooks.into_iter().find(|webhook| webhook["problem"].is_string())
    });
    // 127.0.0.1 is allowed here; ::1, which localhost may lead to as well, is not.
    let problem = found.await["problem"].clone();
    assert!(problem == refused || problem == "no connection could be made", "{problem}");
}

#[tokio::test]
async fn a_tenant_sees_and_acts_on_its_own_webhooks_alone() {
    let hooked = Hooked::new().await;
    let id = ended_with_webhook(&hooked.fixture).await;
    let other = make_key(&hooked.fixture.store, "other", KeyRights::all()).await;
    let (status, page) = answer(other.of(hooked.fixture.get("/v1/webhooks"))).await;
    assert_eq!((status, &page["data"]), (StatusCode::OK, &json!([])));
    let resume = hooked.fixture.post("/v1/webhooks/resume", r#"{"url":"https://example.com/hook"}"#);
    assert_eq!(answer(other.of(resume)).await.1["resumed"], 0);
    let redeliver = hooked.fixture.post(&format!("/v1/webhooks/{id}/redeliver"), "");
    assert_eq!(answer(other.of(redeliver)).await.0, StatusCode::NOT_FOUND);
    // Nor can it have webhooks, since nobody gave it a secret.
    let submit = hooked.fixture.post("/v1/jobs", hooked.job().to_string());
    assert_eq!(answer(other.of(submit)).await.1["error"]["code"], "webhooks_not_configured");
}
