//! Whatever is thrown at the public functions, the answer is an id or an error of the caller's own classes, and what
//! is stored is what was acknowledged.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// JSON of any shape, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any_key(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// Keys that mean something more often than not.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "body",
            "model",
            "path",
            "queue",
            "priority",
            "idempotency_key",
            "run_at",
            "deadline",
            "max_attempts",
            "on_unknown",
            "tags",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

/// An element that is nearly right.
fn near_miss() -> impl Strategy<Value = Value> {
    (any_key(), any_json()).prop_map(|(key, value)| {
        let mut element = json!({"body": {"model": "m"}, "priority": 3});
        element[key] = value;
        element
    })
}

/// Whether the error is the caller's: data exceptions, integrity, limits, JSON that Postgres refuses.
fn is_callers(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned);
    code.is_some_and(|code| ["22", "23", "54"].contains(&&code[..2]))
}

#[test]
fn generated_input_is_stored_or_refused_and_never_half() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    let input = prop_oneof![any_json(), prop::collection::vec(near_miss(), 1..4).prop_map(Value::from)];
    runner
        .run(&input, |value| {
            runtime.block_on(async {
                let before = fixture.count("jobs").await;
                let answer: Result<Vec<uuid::Uuid>, _> =
                    sqlx::query_scalar("SELECT sluice.submit_many($1::text::json)")
                        .bind(value.to_string())
                        .fetch_all(fixture.database.pool())
                        .await;
                let stored = fixture.count("jobs").await - before;
                match answer {
                    // A key that was seen before stores nothing.
                    Ok(ids) => prop_assert!(stored <= ids.len() as i64),
                    Err(error) => {
                        prop_assert!(is_callers(&error), "{value}: {error}");
                        prop_assert_eq!(stored, 0);
                    }
                }
                prop_assert_eq!(fixture.count("jobs").await, fixture.count("ready").await);
                Ok(())
            })
        })
        .unwrap();
}
