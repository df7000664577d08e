//! Credentials of every kind, against a simulator that checks them.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use sluice_config::Configuration;
use sluice_domain::JobState;
use sluice_simulator::{CredentialCheck, SimulatorConfig};
use sluice_store::PausedKind;
use sluice_testkit::{job, wait_until};
use sluice_worker::{ConfigurationSource, Worker, WorkerOptions};

use crate::world::{SOON, World, job_with};

/// A world whose simulator demands a credential.
async fn demanding(check: CredentialCheck) -> World {
    World::with_simulator(SimulatorConfig { credential: Some(check), ..SimulatorConfig::default() }).await
}

/// Workers that bring one: `auth` as it would be declared, `secret` behind the reference `${SECRET}`.
fn options(world: &World, auth: &str, secret: &str) -> WorkerOptions {
    let base_url = world.simulator.base_url();
    let auth = auth.replace("BASE_URL", &base_url);
    let yaml = format!(
        "upstreams: [{{ name: sim, provider: deepseek, base_url: \"{base_url}\", auth: {auth} }}]
queues: [{{ name: default, retry: {{ max_attempts: 3, base_delay: 10ms, max_delay: 20ms }} }}]
"
    );
    let configuration = Configuration::parse(&yaml).unwrap();
    let mut options = world.options();
    let secret = secret.to_owned();
    options.configuration = ConfigurationSource::Fixed(configuration);
    options.secrets = Arc::new(move |name| (name == "SECRET").then(|| secret.clone()));
    options
}

/// Works a few jobs, of which each must succeed with its first call.
async fn works(world: &World, auth: &str, secret: &str) {
    let jobs = job().times(5);
    world.store.submit_many(&jobs).await.unwrap();
    let handle = Worker::start(options(world, auth, secret)).await.unwrap();
    for job in &jobs {
        world.until_state(job.id, JobState::Succeeded).await;
    }
    assert_eq!(world.simulator.calls().len(), jobs.len(), "{auth}");
    handle.drain().await;
}

fn oauth(lifetime_ms: u64) -> CredentialCheck {
    CredentialCheck::OAuth2 {
        client_id: "me".to_owned(),
        client_secret: "s3cret".to_owned(),
        scope: Some("calls".to_owned()),
        lifetime_ms,
    }
}

const OAUTH: &str = "{ kind: oauth2, token_url: 'BASE_URL/oauth/token', client_id: me, \
    client_secret: '${SECRET}', scope: calls }";

#[tokio::test]
async fn a_header_of_its_own_is_sent() {
    let check = CredentialCheck::Header { name: "X-Api-Key".to_owned(), value: "s3cret".to_owned() };
    let auth = "{ kind: header, name: X-Api-Key, value: '${SECRET}' }";
    works(&demanding(check).await, auth, "s3cret").await;
}

fn jwt(algorithm: &str, key: &str, is_for_one_call: bool) -> CredentialCheck {
    CredentialCheck::Jwt {
        algorithm: algorithm.to_owned(),
        key: key.to_owned(),
        claims: BTreeMap::from([("sub".to_owned(), "app".to_owned())]),
        is_for_one_call,
    }
}

#[tokio::test]
async fn a_jwt_is_signed_for_its_lifetime_or_for_each_call() {
    let auth = "{ kind: jwt, algorithm: HS256, secret: '${SECRET}', claims: { sub: app } }";
    works(&demanding(jwt("HS256", "s3cret", false)).await, auth, "s3cret").await;
    let auth = "{ kind: jwt, algorithm: HS256, secret: '${SECRET}', claims: { sub: app }, sign: call }";
    works(&demanding(jwt("HS256", "s3cret", true)).await, auth, "s3cret").await;
}

#[tokio::test]
async fn a_jwt_is_signed_by_a_private_key() {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap().public_key().as_ref().to_vec();
    let kind = "PRIVATE KEY";
    let pem = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der.as_ref()));
    let auth = "{ kind: jwt, algorithm: EdDSA, secret: '${SECRET}', claims: { sub: app } }";
    works(&demanding(jwt("EdDSA", &STANDARD.encode(public), false)).await, auth, &pem).await;
}

#[tokio::test]
async fn each_request_is_signed_with_a_nonce_of_its_own() {
    let check = CredentialCheck::Hmac { key: "s3cret".to_owned() };
    works(&demanding(check).await, "{ kind: hmac, secret: '${SECRET}' }", "s3cret").await;
}

#[tokio::test]
async fn all_calls_share_one_token() {
    let world = demanding(oauth(3_600_000)).await;
    works(&world, OAUTH, "s3cret").await;
    assert_eq!(world.simulator.stats().tokens_given, 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let world = demanding(oauth(2_000)).await;
    let handle = Worker::start(options(&world, OAUTH, "s3cret")).await.unwrap();
    wait_until("a second token", SOON, async || {
        let id = world.submit(job_with("none latency_ms=20").build()).await;
        world.until_state(id, JobState::Succeeded).await;
        world.simulator.stats().tokens_given >= 2
    })
    .await;
    handle.drain().await;
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_without_a_pause() {
    let world = demanding(oauth(3_600_000)).await;
    let handle = Worker::start(options(&world, OAUTH, "s3cret")).await.unwrap();
    let first = world.submit(job().build()).await;
    world.until_state(first, JobState::Succeeded).await;
    world.simulator.revoke_tokens();
    let second = world.submit(job().build()).await;
    let done = world.until_state(second, JobState::Succeeded).await;
    assert_eq!((done.tries, world.simulator.stats().tokens_given), (1, 2));
    assert_eq!(world.store.pauses().await.unwrap(), []);
    handle.drain().await;
}

#[tokio::test]
async fn a_client_that_is_refused_pauses_its_upstream_before_anything_is_sent() {
    let world = demanding(oauth(3_600_000)).await;
    let id = world.submit(job().build()).await;
    let handle = Worker::start(options(&world, OAUTH, "wrong")).await.unwrap();
    wait_until("the upstream to be paused", SOON, async || !world.store.pauses().await.unwrap().is_empty())
        .await;
    let pause = world.store.pauses().await.unwrap().remove(0);
    assert_eq!((pause.kind, pause.reason.as_str()), (PausedKind::Upstream, "unauthorized"));
    world.until_state(id, JobState::Queued).await;
    assert_eq!(world.simulator.calls().len(), 0);
    handle.drain().await;
}
