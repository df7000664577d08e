//! The configuration as a whole. The texts of errors are part of what users touch, and are asserted in full.

mod accepted;
mod differences;
mod hostile;
mod limits;
mod refused;
mod secrets;

/// The example of the reference, which uses every part.
const FULL: &str = r#"
upstreams:
  - { name: deepseek-us, provider: deepseek, base_url: "https://api.deepseek.com", api_key: "${DEEPSEEK_API_KEY}",
      account: main, priority: 1, weight: 1, connect_timeout: 2s, max_idle_connections: 64 }
  - { name: local, provider: openai, base_url: "http://127.0.0.1:8000", account: local, priority: 9 }
  - { name: signed, provider: openai, base_url: "https://llm.example.com", account: other,
      auth: { kind: jwt, algorithm: HS256, secret: "${LLM_SECRET}", claims: { sub: app }, lifetime: 1h } }
routes:
  - model: deepseek-flash
    targets: [ { upstream: deepseek-us }, { upstream: local, model: qwen3 } ]
limits:
  - { account: main, model: deepseek-flash, concurrency: 2500, requests_per_minute: 3000, tokens_per_minute: 1000000 }
queues:
  - { name: default, max_running: 500, weight: 1,
      retry: { max_attempts: 3, strategy: full_jitter, base_delay: 1s, min_delay: 0s, max_delay: 30s } }
breaker: { failure_threshold: 5, reset_timeout: 60s }
"#;

/// One upstream, for tests of the rest.
const MINIMAL: &str = "upstreams:\n- { name: a, provider: openai, base_url: 'http://a.example' }\n";

/// All errors of a text, a line each.
fn errors(text: &str) -> String {
    crate::Configuration::parse(text).expect_err("the text should be refused").to_string()
}
