//! Money: the cache's tokens, prices, and what happens when the balance is used up.

use serde_json::json;
use sluice_domain::{NanoUsd, Usage};
use sluice_policy::price;
use sluice_simulator::{ConfigPatch, SimulatorConfig};

use crate::raw_client::{Ask, chat_body, simulator, started};

#[tokio::test]
async fn a_shared_start_is_cheaper_from_the_third_call_on() {
    let simulator = simulator().await;
    let system = "You are a helpful assistant. ".repeat(40);
    let mut hits = Vec::new();
    for question in ["one", "two", "three", "four"] {
        let mut body = chat_body("deepseek-flash", question);
        body["messages"] =
            json!([{"role": "system", "content": system}, {"role": "user", "content": question}]);
        let usage = Ask::chat(&body).send(&simulator).await.json()["usage"].clone();
        hits.push(usage["prompt_cache_hit_tokens"].as_u64().unwrap());
    }
    assert!(hits[..2] == [0, 0] && hits[2] >= 256 && hits[3] == hits[2], "{hits:?}");
}

#[tokio::test]
async fn every_call_is_billed_at_the_price_of_its_time() {
    let config = SimulatorConfig { balance_usd: Some(1.0), ..SimulatorConfig::default() };
    let simulator = started(config).await;
    for prompt in ["one", "two"] {
        Ask::chat(&chat_body("deepseek-v4-pro", prompt)).send(&simulator).await;
    }
    let mut spent = NanoUsd(0);
    for call in simulator.calls() {
        let end = call.end.unwrap();
        let usage = Usage {
            input_tokens: end.usage.input_tokens,
            cached_input_tokens: end.usage.cached_input_tokens,
            output_tokens: end.usage.output_tokens,
            reasoning_tokens: end.usage.reasoning_tokens,
        };
        let cost = price::cost("deepseek-v4-pro", &usage, call.arrival.arrived_at).unwrap();
        assert!(cost.0 > 0);
        assert_eq!(end.cost_nano_usd, cost);
        spent = spent + cost;
    }
    assert_eq!(simulator.stats().cost_nano_usd, spent);
}

#[tokio::test]
async fn an_empty_balance_refuses_until_it_is_filled() {
    let config = SimulatorConfig { balance_usd: Some(0.000_001), ..SimulatorConfig::default() };
    let simulator = started(config).await;
    let ask = Ask::chat(&chat_body("deepseek-v4-pro", "Hi"));
    assert_eq!(ask.send(&simulator).await.status, 200);
    let refused = ask.send(&simulator).await;
    assert_eq!((refused.status, &refused.json()["error"]["message"]), (402, &json!("Insufficient Balance")));
    assert_eq!(Ask::get("/user/balance").send(&simulator).await.json()["is_available"], false);
    simulator.change(&ConfigPatch { balance_usd: Some(5.0), ..ConfigPatch::default() }).unwrap();
    assert_eq!(ask.send(&simulator).await.status, 200);
}
