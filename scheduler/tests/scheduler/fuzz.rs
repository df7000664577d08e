//! Whatever is sent to `POST /v1/jobs`, the answer is a job or an error in the right shape, and never our fault.

use proptest::{
    prelude::*,
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngSeed, TestRunner},
};
use serde_json::{Map, Value, json};

use crate::fixture::{Fixture, answer};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("2026-06-30T23:59:60Z")),
        Just(json!("0000-01-01T00:00:00-23:59")),
        Just(json!("9999-12-31T23:59:59.999999999-23:59")),
        Just(json!("\u{0}")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Jobs that are right but for a few fields, so that many get through to the database.
fn any_job() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "path",
        "model",
        "queue",
        "priority",
        "idempotency_key",
        "run_at",
        "deadline",
        "max_attempts",
        "on_unknown",
        "tags",
        "webhook",
        "body",
    ]);
    let value = prop_oneof![
        any_json(),
        (1..6_i64).prop_map(Value::from),
        "[a-z]{1,5}".prop_map(Value::from),
        any::<u32>().prop_map(|_| json!({"k": "v"})),
    ];
    prop::collection::vec((name, value), 0..3).prop_map(|fields| {
        let mut job = Map::new();
        job.insert("body".to_owned(), json!({"model": "m"}));
        job.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(job)
    })
}

#[tokio::test]
async fn random_jobs_are_taken_or_refused_but_never_break_anything() {
    let fixture = Fixture::new().await;
    let config = Config { rng_seed: RngSeed::Fixed(7), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let documents = prop_oneof![4 => any_job().prop_map(|v| v.to_string()), 1 => any_json().prop_map(|v| v.to_string()),
        1 => any::<String>()];
    let mut taken = 0;
    for _ in 0..600 {
        let document = documents.new_tree(&mut runner).unwrap().current();
        let (status, got) = answer(fixture.post("/v1/jobs", document.clone())).await;
        if status.is_success() {
            taken += 1;
            assert_eq!(got["object"], "job");
        } else {
            assert!([400, 413, 422].contains(&status.as_u16()), "{status} {got} for {document}");
            assert_eq!(got["error"]["type"], "invalid_request_error", "{document}");
            assert!(got["error"]["code"].is_string() && got["error"]["message"].is_string(), "{document}");
        }
    }
    assert!(taken > 50, "only {taken} were taken: the test looks at refusals only");
}
