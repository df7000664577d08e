//! Good answers: their shapes, their determinism, their bounds.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_simulator::{Distribution, Latency, SimulatorConfig, count_tokens, prompt_sha256};

use crate::raw_client::{Ask, End, chat_body, simulator, started};

/// What may differ between two answers to one prompt.
fn without_identity(mut answer: Value) -> Value {
    for field in ["id", "created"] {
        answer[field] = Value::Null;
    }
    answer
}

#[tokio::test]
async fn the_same_prompt_has_the_same_answer_on_every_simulator_of_a_seed() {
    let (one, two) = (simulator().await, simulator().await);
    let other_seed = started(SimulatorConfig { seed: 9, ..SimulatorConfig::default() }).await;
    let ask = Ask::chat(&chat_body("deepseek-flash", "What is water?"));
    let answer = without_identity(ask.send(&one).await.json());
    assert_eq!(answer, without_identity(ask.send(&two).await.json()));
    assert_eq!(answer, without_identity(ask.send(&one).await.json()));
    assert_ne!(answer["choices"], ask.send(&other_seed).await.json()["choices"]);
    let hash = prompt_sha256(&ask.body).unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains(&hash[..12]) && text.contains("What is water?"), "{text}");
}

#[tokio::test]
async fn a_deepseek_answer_thinks_and_tells_of_its_cache() {
    let simulator = simulator().await;
    for path in ["/v1/chat/completions", "/chat/completions", "/beta/chat/completions"] {
        let answer = Ask::post(path, chat_body("deepseek-flash", "Hi").to_string()).send(&simulator).await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req-")));
        let json = answer.json();
        let message = &json["choices"][0]["message"];
        assert!(message["reasoning_content"].as_str().is_some_and(|text| !text.is_empty()));
        let usage = |name: &str| json["usage"][name].as_u64().unwrap();
        assert_eq!(
            usage("prompt_tokens"),
            usage("prompt_cache_hit_tokens") + usage("prompt_cache_miss_tokens")
        );
        assert_eq!(usage("total_tokens"), usage("prompt_tokens") + usage("completion_tokens"));
        let reasoning = json["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        let text = count_tokens(message["content"].as_str().unwrap());
        assert_eq!(usage("completion_tokens"), reasoning + text);
        assert_eq!(json["model"], "deepseek-flash");
    }
    let mut body = chat_body("deepseek-flash", "Hi");
    body["thinking"] = json!({"type": "disabled"});
    let answer = Ask::chat(&body).send(&simulator).await.json();
    assert!(answer["choices"][0]["message"].get("reasoning_content").is_none());
}

#[tokio::test]
async fn max_tokens_n_and_json_mode_are_honoured() {
    let simulator = simulator().await;
    let mut body = chat_body("gpt-sim", "Answer in json please");
    body["max_tokens"] = json!(5);
    body["n"] = json!(3);
    let answer = Ask::chat(&body).send(&simulator).await.json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["finish_reason"], "length");
        assert!(count_tokens(choice["message"]["content"].as_str().unwrap()) <= 5);
    }
    assert_eq!(answer["usage"]["completion_tokens"], 15);
    let mut body = chat_body("gpt-sim", "Answer in json please");
    body["response_format"] = json!({"type": "json_object"});
    let answer = Ask::chat(&body).send(&simulator).await.json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_plain_answer() {
    let simulator = simulator().await;
    let mut body = chat_body("deepseek-flash", "Tell me more");
    let plain = Ask::chat(&body).send(&simulator).await.json();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let answer = Ask::chat(&body).send(&simulator).await;
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    let joined = |field: &str| {
        let texts = events.iter().filter_map(|event| event["choices"][0]["delta"][field].as_str());
        texts.collect::<String>()
    };
    assert_eq!(joined("content"), plain["choices"][0]["message"]["content"]);
    assert_eq!(joined("reasoning_content"), plain["choices"][0]["message"]["reasoning_content"]);
    let (last, rest) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &plain["usage"]));
    assert!(rest.iter().all(|event| event["usage"].is_null() && event["object"] == "chat.completion.chunk"));
    let finishes: Vec<&Value> = rest.iter().map(|event| &event["choices"][0]["finish_reason"]).collect();
    assert_eq!(finishes.iter().filter(|finish| **finish == "stop").count(), 1);
}

#[tokio::test]
async fn completions_embeddings_and_images_have_their_shapes() {
    let simulator = simulator().await;
    let body = json!({"model": "gpt-sim", "prompt": ["one", "two"], "max_tokens": 20});
    let answer = Ask::post("/v1/completions", body.to_string()).send(&simulator).await.json();
    assert_eq!(
        (&answer["object"], answer["choices"].as_array().unwrap().len()),
        (&json!("text_completion"), 2)
    );
    let body = json!({"model": "text-embedding-sim", "input": ["one", "two", "one"], "dimensions": 8});
    let answer = Ask::post("/v1/embeddings", body.to_string()).send(&simulator).await.json();
    let vector = |at: usize| answer["data"][at]["embedding"].as_array().unwrap().clone();
    assert_eq!((vector(0).len(), vector(0) == vector(2), vector(0) == vector(1)), (8, true, false));
    let body = json!({"model": "image-sim", "prompt": "a cat", "n": 2});
    let answer = Ask::post("/v1/images/generations", body.to_string()).send(&simulator).await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn probes_are_answered_and_are_no_calls() {
    let simulator = simulator().await;
    for path in ["/models", "/v1/models"] {
        let answer = Ask::get(path).send(&simulator).await.json();
        assert_eq!(answer["data"][0]["id"], "deepseek-flash");
    }
    let balance = Ask::get("/user/balance").send(&simulator).await.json();
    assert_eq!(balance["is_available"], true);
    assert_eq!(Ask::get("/models").without_header("authorization").send(&simulator).await.status, 401);
    assert_eq!((simulator.calls().len(), simulator.stats().probes), (0, 4));
}

#[tokio::test]
async fn latency_is_kept_and_long_waits_send_keep_alives() {
    let latency = Latency { first_token: Distribution::fixed(120.0), per_token: Distribution::fixed(1.0) };
    let config = SimulatorConfig { latency, keepalive_interval_ms: 50, ..SimulatorConfig::default() };
    let simulator = started(config).await;
    let begin = Instant::now();
    let plain = Ask::chat(&chat_body("deepseek-flash", "Hi")).send(&simulator).await;
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(plain.text().starts_with("\n\n") && plain.json().is_object(), "{:?}", plain.text());
    let mut body = chat_body("deepseek-flash", "Hi");
    body["stream"] = json!(true);
    let stream = Ask::chat(&body).send(&simulator).await;
    assert!(stream.text().starts_with(": keep-alive\n\n: keep-alive\n\ndata: {"), "{:?}", stream.text());
}
