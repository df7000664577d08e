//! What the real APIs refuse is refused, with their status and shape.

use serde_json::{Value, json};
use sluice_simulator::{ApiKey, SimulatorConfig};

use crate::raw_client::{Ask, End, chat_body, simulator, started};

/// A good body with some fields replaced.
fn chat_with(model: &str, fields: &Value) -> Value {
    let mut body = chat_body(model, "Hi");
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn wrong_chat_requests_are_refused() {
    let simulator = simulator().await;
    let table = [
        // fields, status of DeepSeek, status of OpenAI
        (json!({"model": null}), 400, 400),
        (json!({"model": 5}), 400, 400),
        (json!({"model": "no-such"}), 400, 400),
        (json!({"model": "deepseek-chat"}), 400, 400),
        (json!({"model": "deepseek-reasoner"}), 400, 400),
        (json!({"model": "text-embedding-sim"}), 404, 404),
        (json!({"messages": null}), 422, 400),
        (json!({"messages": []}), 400, 400),
        (json!({"messages": "Hi"}), 422, 400),
        (json!({"messages": ["Hi"]}), 422, 400),
        (json!({"messages": [{"content": "Hi"}]}), 422, 400),
        (json!({"messages": [{"role": "user"}]}), 422, 400),
        (json!({"messages": [{"role": "user", "content": 5}]}), 422, 400),
        (json!({"messages": [{"role": "robot", "content": "Hi"}]}), 422, 400),
        (json!({"messages": [{"role": "tool", "content": "Hi"}]}), 422, 400),
        (json!({"temperature": 2.1}), 400, 400),
        (json!({"temperature": "warm"}), 422, 400),
        (json!({"top_p": -0.1}), 400, 400),
        (json!({"max_tokens": 0}), 400, 400),
        (json!({"max_tokens": -1}), 400, 400),
        (json!({"max_tokens": 1.5}), 422, 400),
        (json!({"max_tokens": 400_000}), 400, 400),
        (json!({"n": 0}), 400, 400),
        (json!({"stream": "yes"}), 422, 400),
        (json!({"stream_options": {"include_usage": true}}), 400, 400),
        (json!({"stop": 5}), 422, 400),
        (json!({"tools": "hammer"}), 422, 400),
        (json!({"response_format": {"type": "xml"}}), 422, 400),
        // JSON mode wants the word in the prompt.
        (json!({"response_format": {"type": "json_object"}}), 400, 400),
        (json!({"messages": [{"role": "user", "content": "x".repeat(4_300_000)}]}), 400, 400),
    ];
    for (fields, deepseek, openai) in table {
        for (model, status) in [("deepseek-flash", deepseek), ("gpt-sim", openai)] {
            let answer = Ask::chat(&chat_with(model, &fields)).send(&simulator).await;
            let shown: String = fields.to_string().chars().take(80).collect();
            assert_eq!(answer.status, status, "{model} {shown}");
            let error = &answer.json()["error"];
            assert!(error["message"].is_string() && error["type"].is_string(), "{model} {shown}: {error}");
        }
    }
    let unknown = chat_with("gpt-sim", &json!({"tempreature": 1}));
    let answer = Ask::chat(&unknown).send(&simulator).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("tempreature")));
    let calls = simulator.calls();
    assert!(
        calls.iter().all(|call| call.end.as_ref().unwrap().cost_nano_usd.0 == 0),
        "refusals are not billed"
    );
}

#[tokio::test]
async fn the_refusals_have_the_words_of_the_real_ones() {
    let simulator = simulator().await;
    let message = async |body: Value| {
        let answer = Ask::chat(&body).send(&simulator).await.json();
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message(chat_body("no-such", "Hi")).await, "Model Not Exist");
    let text = message(chat_with("deepseek-flash", &json!({"max_tokens": 400_000}))).await;
    assert_eq!(text, "Invalid max_tokens value, the valid range of max_tokens is [1, 393216]");
    let text = message(json!({"model": "deepseek-flash"})).await;
    assert!(text.contains("missing field `messages`"), "{text}");
}

#[tokio::test]
async fn wrong_bodies_keys_and_paths_are_refused() {
    let config = SimulatorConfig {
        api_keys: Some(vec![ApiKey::new("sk-test")]),
        max_body_bytes: 100_000,
        ..SimulatorConfig::default()
    };
    let simulator = started(config).await;
    let good = Ask::chat(&chat_body("deepseek-flash", "Hi"));
    let body = |body: &str| Ask::post("/v1/chat/completions", body);
    let table = [
        (good.clone(), 200),
        (body(""), 400),
        (body("{"), 400),
        (body("[]"), 400),
        (body("{}\u{0}"), 400),
        (good.clone().with_header("content-type", "text/plain"), 415),
        (good.clone().with_header("content-type", "application/json; charset=utf-8"), 200),
        (good.clone().without_header("content-type"), 415),
        (good.clone().without_header("authorization"), 401),
        (good.clone().with_header("authorization", "Bearer "), 401),
        (good.clone().with_header("authorization", "Bearer sk-other"), 401),
        (body(&"x".repeat(100_001)), 413),
        (Ask { path: "/v1/chat/complete".to_owned(), ..good.clone() }, 404),
        (Ask { method: "GET", ..good.clone() }, 405),
    ];
    for (ask, status) in table {
        let answer = ask.send(&simulator).await;
        assert_eq!((answer.status, answer.end), (status, End::Complete), "{} {:?}", ask.path, ask.headers);
    }
}

#[tokio::test]
async fn wrong_requests_to_the_other_paths_are_refused() {
    let simulator = simulator().await;
    let table = [
        ("/v1/completions", json!({"model": "gpt-sim"}), 400),
        ("/v1/completions", json!({"model": "gpt-sim", "prompt": []}), 400),
        ("/v1/completions", json!({"model": "gpt-sim", "prompt": {"a": 1}}), 400),
        ("/v1/embeddings", json!({"model": "text-embedding-sim"}), 400),
        ("/v1/embeddings", json!({"model": "text-embedding-sim", "input": ""}), 400),
        ("/v1/embeddings", json!({"model": "text-embedding-sim", "input": ["a", 5]}), 400),
        ("/v1/embeddings", json!({"model": "text-embedding-sim", "input": "a", "dimensions": 0}), 400),
        ("/v1/embeddings", json!({"model": "gpt-sim", "input": "a"}), 404),
        ("/v1/images/generations", json!({"model": "image-sim"}), 400),
        ("/v1/images/generations", json!({"model": "image-sim", "prompt": "a", "n": 11}), 400),
    ];
    for (path, body, status) in table {
        assert_eq!(Ask::post(path, body.to_string()).send(&simulator).await.status, status, "{path} {body}");
    }
}
