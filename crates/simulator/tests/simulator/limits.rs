//! Limits are kept to the letter, and said in the dialect of the model.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_simulator::{ApiKey, ConfigPatch, Distribution, Latency, Limits, SimulatorConfig};

use crate::raw_client::{Ask, chat_body, started};

fn config(limits: Limits) -> SimulatorConfig {
    SimulatorConfig { limits, ..SimulatorConfig::default() }
}

#[tokio::test]
async fn concurrency_is_counted_over_all_keys_of_an_account_until_the_last_byte() {
    let keys = [("one", "main"), ("two", "main"), ("three", "other")];
    let keys = keys.map(|(key, account)| ApiKey { key: key.to_owned(), account: account.to_owned() });
    let simulator = started(SimulatorConfig {
        api_keys: Some(keys.to_vec()),
        latency: Latency { first_token: Distribution::fixed(300.0), ..Latency::default() },
        ..config(Limits { concurrency: Some(2), ..Limits::default() })
    })
    .await;
    let ask = |key: &str, prompt: &str| {
        Ask::chat(&chat_body("deepseek-flash", prompt)).with_header("authorization", format!("Bearer {key}"))
    };
    let asks = [ask("one", "a"), ask("two", "b"), ask("one", "c"), ask("three", "d")];
    let answers = tokio::join!(
        asks[0].send(&simulator),
        asks[1].send(&simulator),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            asks[2].send(&simulator).await
        },
        asks[3].send(&simulator),
    );
    assert_eq!(
        [answers.0.status, answers.1.status, answers.2.status, answers.3.status],
        [200, 200, 429, 200]
    );
    assert_eq!(answers.2.header("retry-after"), None, "DeepSeek doesn't say when");
    assert_eq!(simulator.max_concurrency_seen(), 3);
    assert_eq!(asks[2].send(&simulator).await.status, 200);
    let busiest = simulator.stats().concurrency.into_iter().map(|seen| seen.max_running_seen).max();
    assert_eq!(busiest, Some(2));
}

#[tokio::test]
async fn a_window_lets_no_more_than_its_requests_through_and_tells_when_to_come_back() {
    let limits = Limits { requests_per_minute: Some(3), window_ms: 600, ..Limits::default() };
    let simulator = started(config(limits)).await;
    let ask = Ask::chat(&chat_body("gpt-sim", "Hi"));
    let begin = Instant::now();
    let first = ask.send(&simulator).await;
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("2"));
    let mut admitted = 1;
    while begin.elapsed() < Duration::from_millis(500) {
        let answer = ask.send(&simulator).await;
        if answer.status == 429 {
            let told: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
            assert!(told <= 600 && answer.header("retry-after") == Some("1"));
            assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
        }
        admitted += usize::from(answer.status == 200);
    }
    assert_eq!(admitted, 3);
    tokio::time::sleep(Duration::from_millis(610).saturating_sub(begin.elapsed())).await;
    assert_eq!(ask.send(&simulator).await.status, 200);
}

#[tokio::test]
async fn tokens_are_charged_with_max_tokens_and_corrected_at_the_end() {
    let limits = Limits { tokens_per_minute: Some(980), ..Limits::default() };
    let simulator = started(config(limits)).await;
    let mut body = chat_body("gpt-sim", "Hi [[sim:none tokens=20]]");
    body["max_tokens"] = json!(900);
    let ask = Ask::chat(&body);
    for _ in 0..3 {
        assert_eq!(ask.send(&simulator).await.status, 200, "most of the estimate was given back");
    }
    let refused = ask.send(&simulator).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["type"], "tokens");
    body["max_tokens"] = json!(5_000);
    let too_large = Ask::chat(&body).send(&simulator).await;
    assert_eq!((too_large.status, too_large.header("retry-after")), (429, None));
}

#[tokio::test]
async fn limits_can_be_changed_while_it_runs_from_outside_too() {
    let simulator = started(config(Limits { requests_per_minute: Some(1), ..Limits::default() })).await;
    let ask = Ask::chat(&chat_body("gpt-sim", "Hi"));
    assert_eq!(ask.send(&simulator).await.status, 200);
    assert_eq!(ask.send(&simulator).await.status, 429);
    let patch = json!({"limits": {"requests_per_minute": 5}});
    assert_eq!(Ask::post("/sim/config", patch.to_string()).send(&simulator).await.status, 200);
    assert_eq!(ask.send(&simulator).await.status, 200);
    let wrong = json!({"limit": {}});
    assert_eq!(Ask::post("/sim/config", wrong.to_string()).send(&simulator).await.status, 400);
    let patch = ConfigPatch {
        limits: Some(Limits { concurrency: Some(0), ..Limits::default() }),
        ..ConfigPatch::default()
    };
    simulator.change(&patch).unwrap();
    assert_eq!(ask.send(&simulator).await.status, 429);
}
