//! Tokens of others and signed requests: as whom they come in, over a configuration that is applied while the server runs.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{RequestBuilder, StatusCode};
use ring::{digest, hmac};
use serde_json::{Value, json};
use sluice_scheduler::wall_clock;
use tempfile::TempDir;

use crate::fixture::{CONFIGURATION, Fixture, answer, chat};

const SECRET: &str = "a secret of thirty-two bytes, or more";

struct Site {
    fixture: Fixture,
    folder: TempDir,
}

impl Site {
    async fn new() -> Self {
        let site = Self { fixture: Fixture::new().await, folder: TempDir::new().unwrap() };
        let keys = json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]});
        std::fs::write(site.folder.path().join("jwks.json"), format!("{keys:#}\n")).unwrap();
        std::fs::write(site.folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let at = |name: &str| site.folder.path().join(name).display().to_string();
        let access = format!(
            "access:\n  jwt: [ {{ issuer: me, audience: sluice, algorithms: [HS256], jwks: 'file:{}',\n    \
             tenant_claim: tenant, scope_claim: scope }} ]\n  signed: [ {{ id: billing, secret: 'file:{}', \
             tenant: billing, scopes: [submit, read] }} ]\n",
            at("jwks.json"),
            at("secret"),
        );
        let text = format!("{CONFIGURATION}{access}");
        site.fixture.store.configuration_apply_if_newest(1, &text, &[], "test").await.unwrap();
        sluice_testkit::wait_until("the configuration to count", Duration::from_secs(20), async || {
            answer(site.fixture.get("/v1/jobs")).await.0 == StatusCode::UNAUTHORIZED
        })
        .await;
        site
    }

    /// A request with a signature over `signed_body`, which may be another than is sent.
    fn signed(&self, path: &str, body: &str, signed_body: &str, nonce: &str) -> RequestBuilder {
        let timestamp = wall_clock().timestamp();
        let digest = hex(digest::digest(&digest::SHA256, signed_body.as_bytes()).as_ref());
        let message = format!("SLUICE-HMAC-SHA256\nPOST\n{path}\n{timestamp}\n{nonce}\n{digest}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = hex(hmac::sign(&key, message.as_bytes()).as_ref());
        let header = format!(
            "SLUICE-HMAC-SHA256 id=billing, timestamp={timestamp}, nonce={nonce}, signature={signature}"
        );
        self.fixture.post(path, body.to_owned()).header("Authorization", header)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn claims(tenant: &str, scope: &str) -> Value {
    json!({"iss": "me", "aud": "sluice", "exp": wall_clock().timestamp() + 600, "tenant": tenant, "scope": scope})
}

fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_token_comes_in_as_its_tenant_with_its_scopes() {
    let site = Site::new().await;
    let by = |request: RequestBuilder, tenant: &str, scope: &str| {
        request.bearer_auth(token(&claims(tenant, scope)))
    };
    let submit = || site.fixture.post("/v1/jobs", chat().to_string());
    let (status, job) = answer(by(submit(), "red", "openid submit")).await;
    assert_eq!((status, &job["tenant"]), (StatusCode::CREATED, &json!("red")));
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(answer(by(site.fixture.get(&path), "red", "read")).await.0, StatusCode::OK);
    assert_eq!(code(&answer(by(site.fixture.get(&path), "blue", "read")).await), (404, "job_not_found"));
    assert_eq!(code(&answer(by(submit(), "red", "read")).await), (403, "insufficient_scope"));
    let mut late = claims("red", "read");
    late["exp"] = json!(wall_clock().timestamp() - 60);
    let refused = answer(site.fixture.get(&path).bearer_auth(token(&late))).await;
    assert_eq!(code(&refused), (401, "invalid_token"));
    assert_eq!(code(&answer(site.fixture.get(&path).bearer_auth("a.b.c")).await), (401, "invalid_token"));
}

#[tokio::test]
async fn a_signed_request_comes_in_once_and_only_as_it_was_signed() {
    let site = Site::new().await;
    let body = chat().to_string();
    let nonce = "0123456789abcdef";
    let (status, job) = answer(site.signed("/v1/jobs", &body, &body, nonce)).await;
    assert_eq!((status, &job["tenant"]), (StatusCode::CREATED, &json!("billing")));
    let again = answer(site.signed("/v1/jobs", &body, &body, nonce)).await;
    assert_eq!(code(&again), (401, "invalid_signature"));
    // One that was refused did not use up its nonce.
    let other = answer(site.signed("/v1/jobs", &body, "{}", "fedcba9876543210")).await;
    assert_eq!(code(&other), (401, "invalid_signature"));
    assert_eq!(
        answer(site.signed("/v1/jobs", &body, &body, "fedcba9876543210")).await.0,
        StatusCode::CREATED
    );
    let cancel = answer(site.signed("/v1/cancellations", "{}", "{}", "00000000000000000")).await;
    assert_eq!(code(&cancel), (403, "insufficient_scope"));
}
