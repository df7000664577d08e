//! Every fault is reachable, in plain answers and in streams, and does what its word says.

use std::io::Read as _;

use serde_json::{Value, json};
use sluice_simulator::{FaultKind, FaultRule, SimulatorConfig, SimulatorHandle};

use crate::raw_client::{Answer, Ask, End, chat_body, simulator, started};

/// Short enough for a test, for the kinds that look at them.
const DETAILS: &str = "interval_ms=1;bytes=3000000;after_ms=1500";

async fn struck(simulator: &SimulatorHandle, kind: FaultKind, stream: bool) -> Answer {
    let mut body = chat_body("deepseek-flash", "A question with a few words");
    body["stream"] = json!(stream);
    if stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    let patience_ms = match kind {
        FaultKind::Hang | FaultKind::HangKeepalive | FaultKind::Stall | FaultKind::StallKeepalive => 200,
        _ => 30_000,
    };
    // A drip of a whole stream would take long.
    let tokens = if kind == FaultKind::Drip { ";tokens=1" } else { "" };
    if kind == FaultKind::Drip {
        body["thinking"] = json!({"type": "disabled"});
    }
    let order = format!("{kind};{DETAILS}{tokens}");
    Ask::chat(&body).with_header("x-sim-fault", order).with_patience_ms(patience_ms).send(simulator).await
}

/// The status that a kind of error answers with.
fn error_status(kind: FaultKind) -> Option<u16> {
    let word = kind.as_str();
    let numbered = word.strip_prefix("http_").map(|status| status.parse().unwrap());
    let is_429 = word.starts_with("retry_after_") || kind == FaultKind::InsufficientQuota;
    numbered.or(is_429.then_some(429)).or((kind == FaultKind::Redirect).then_some(307))
}

fn check_error(kind: FaultKind, answer: &Answer) {
    let retry_after = answer.header("retry-after");
    match kind {
        FaultKind::Http502 | FaultKind::Http504 => assert!(answer.text().contains("<html>")),
        FaultKind::Redirect => assert!(answer.header("location").is_some()),
        FaultKind::InsufficientQuota => assert_eq!(answer.json()["error"]["type"], "insufficient_quota"),
        FaultKind::RetryAfterSeconds => assert_eq!(retry_after, Some("2")),
        FaultKind::RetryAfterDate => assert!(retry_after.unwrap().ends_with(" GMT")),
        FaultKind::RetryAfterMs => assert_eq!(answer.header("retry-after-ms"), Some("1500")),
        FaultKind::RetryAfterNegative => assert_eq!(retry_after, Some("-5")),
        FaultKind::RetryAfterHuge => assert!(retry_after.unwrap().len() > 19),
        FaultKind::RetryAfterNonsense => assert!(retry_after.unwrap().parse::<f64>().is_err()),
        _ => assert!(answer.json()["error"]["message"].is_string() && retry_after.is_none()),
    }
}

fn expected_end(kind: FaultKind) -> End {
    match kind {
        FaultKind::Hang | FaultKind::HangKeepalive | FaultKind::Stall | FaultKind::StallKeepalive => {
            End::TimedOut
        }
        FaultKind::ResetBeforeAnswer | FaultKind::ResetMidStream => End::Reset,
        FaultKind::CloseMidStream => End::Incomplete,
        _ => End::Complete,
    }
}

/// Faults that leave the answer one that every client can read.
fn leaves_json_whole(kind: FaultKind) -> bool {
    use FaultKind as K;
    matches!(
        kind,
        K::None
            | K::Drip
            | K::WrongType
            | K::Body10Mb
            | K::Body1Gb
            | K::Header1Mb
            | K::ErrorEvent
            | K::Nul
            | K::BlankLines
            | K::UsageMissing
            | K::UsageNegative
            | K::UsageHuge
            | K::InsufficientSystemResource
            | K::ContentFilter
            | K::EmptyStop
            | K::BlankJson
    )
}

fn check_plain(kind: FaultKind, answer: &Answer) {
    if leaves_json_whole(kind) {
        check_plain_json(kind, answer, &answer.json());
        return;
    }
    let body = &answer.body;
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    assert!(!is_json, "{kind} left the JSON whole");
    match kind {
        FaultKind::Hang | FaultKind::ResetBeforeAnswer => assert_eq!((answer.status, body.len()), (0, 0)),
        FaultKind::HangKeepalive => assert!(body.len() > 1 && body.iter().all(|byte| *byte == b'\n')),
        FaultKind::GzipBomb => {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut unpacked).unwrap();
            assert!(body.len() < 10_000 && unpacked.len() >= 3_000_000);
        }
        FaultKind::Html => assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8")),
        FaultKind::EmptyBody => assert!(answer.status == 200 && body.is_empty()),
        FaultKind::BadUtf8 => assert!(std::str::from_utf8(body).is_err()),
        FaultKind::RawNul => assert!(body.contains(&0)),
        FaultKind::GarbageAfterJson => {
            serde_json::Deserializer::from_slice(body).into_iter::<Value>().next().unwrap().unwrap();
        }
        FaultKind::StallKeepalive => assert!(body.starts_with(b"{\"id\"") && body.ends_with(b"\n")),
        _ => assert!(body.starts_with(b"{\"id\""), "{kind}: {answer:?}"),
    }
}

fn check_plain_json(kind: FaultKind, answer: &Answer, json: &Value) {
    let text = json["choices"][0]["message"]["content"].as_str();
    let finish = &json["choices"][0]["finish_reason"];
    let tokens = &json["usage"]["completion_tokens"];
    match kind {
        FaultKind::WrongType => assert!(json["choices"].is_string()),
        FaultKind::Body10Mb | FaultKind::Body1Gb => assert!(text.unwrap().len() >= 3_000_000),
        FaultKind::Header1Mb => assert_eq!(answer.header("x-sim-padding").unwrap().len(), 3_000_000),
        FaultKind::ErrorEvent => assert!(json["error"]["message"].is_string()),
        FaultKind::Nul => assert!(text.unwrap().contains('\0') && !answer.body.contains(&0)),
        FaultKind::BlankLines => assert!(answer.body.starts_with(b"\n\n\n\n\n{")),
        FaultKind::UsageMissing => assert!(json.get("usage").is_none()),
        FaultKind::UsageNegative => assert_eq!(*tokens, json!(-7)),
        FaultKind::UsageHuge => assert_eq!(*tokens, json!(1e20)),
        FaultKind::InsufficientSystemResource => assert_eq!(finish, "insufficient_system_resource"),
        FaultKind::ContentFilter => assert_eq!(finish, "content_filter"),
        FaultKind::EmptyStop => assert_eq!((text, finish), (Some(""), &json!("stop"))),
        FaultKind::BlankJson => assert!(text.unwrap().trim().is_empty() && !text.unwrap().is_empty()),
        _ => assert!(text.unwrap().contains("A question")),
    }
}

fn check_stream(kind: FaultKind, answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let is_done = text.contains("data: [DONE]\n\n");
    match kind {
        FaultKind::Hang | FaultKind::ResetBeforeAnswer => assert_eq!((answer.status, text.len()), (0, 0)),
        FaultKind::HangKeepalive => assert!(text.starts_with(": keep-alive\n\n") && !text.contains("data")),
        FaultKind::Stall | FaultKind::ResetMidStream | FaultKind::CloseMidStream | FaultKind::CutJson => {
            assert!(text.starts_with("data: {") && !is_done, "{kind}: {text}");
        }
        FaultKind::StallKeepalive => assert!(text.ends_with(": keep-alive\n\n") && text.starts_with("data")),
        FaultKind::ErrorEvent => assert!(answer.events().last().unwrap()["error"].is_object() && !is_done),
        FaultKind::GzipBomb | FaultKind::Html | FaultKind::EmptyBody => assert!(!is_done),
        FaultKind::GarbageAfterJson => assert!(is_done && !text.ends_with("[DONE]\n\n")),
        FaultKind::BadUtf8 => assert!(std::str::from_utf8(&answer.body).is_err() && is_done),
        FaultKind::RawNul => assert!(answer.body.contains(&0) && is_done),
        FaultKind::BlankLines => assert!(text.starts_with(": keep-alive\n\n: keep-alive") && is_done),
        FaultKind::Body10Mb | FaultKind::Body1Gb => assert!(text.len() > 3_000_000 && is_done),
        _ => {
            assert!(is_done, "{kind}: {text}");
            check_stream_values(kind, &answer.events());
        }
    }
}

fn check_stream_values(kind: FaultKind, events: &[Value]) {
    let usage = &events.last().unwrap()["usage"];
    let finish = events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str());
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    let content: String = deltas.collect();
    match kind {
        FaultKind::WrongType => assert!(events[0]["choices"].is_string()),
        FaultKind::UsageMissing => assert!(usage.is_null()),
        FaultKind::UsageNegative => assert_eq!(usage["completion_tokens"], json!(-7)),
        FaultKind::UsageHuge => assert_eq!(usage["completion_tokens"], json!(1e20)),
        FaultKind::Nul => assert!(content.contains('\0')),
        FaultKind::InsufficientSystemResource => assert_eq!(finish, Some("insufficient_system_resource")),
        FaultKind::ContentFilter => assert_eq!(finish, Some("content_filter")),
        FaultKind::EmptyStop => assert_eq!((content.as_str(), finish), ("", Some("stop"))),
        FaultKind::BlankJson => assert!(content.trim().is_empty() && !content.is_empty()),
        _ => assert!(content.starts_with("echo ")),
    }
}

#[tokio::test]
async fn every_kind_strikes_plain_answers_and_streams_as_its_word_says() {
    let config = SimulatorConfig { keepalive_interval_ms: 30, ..SimulatorConfig::default() };
    let simulator = started(config).await;
    for kind in FaultKind::ALL.iter().copied() {
        for stream in [false, true] {
            let answer = struck(&simulator, kind, stream).await;
            assert_eq!(answer.end, expected_end(kind), "{kind}, stream {stream}: {}", answer.head);
            match error_status(kind) {
                Some(status) => {
                    assert_eq!(answer.status, status, "{kind}");
                    check_error(kind, &answer);
                }
                None if stream => check_stream(kind, &answer),
                None => check_plain(kind, &answer),
            }
            let call = simulator.calls().pop().unwrap();
            let fault = call.end.map_or(Some(kind), |end| end.fault);
            assert_eq!(fault, Some(kind).filter(|kind| *kind != FaultKind::None));
        }
    }
}

#[tokio::test]
async fn a_marker_strikes_the_first_calls_with_its_prompt_only() {
    let simulator = simulator().await;
    let ask = Ask::chat(&chat_body("gpt-sim", "Hi [[sim:http_500 times=2 retry_after=7]] there"));
    let other = Ask::chat(&chat_body("gpt-sim", "Ho [[sim:http_503 times=1]]"));
    let mut statuses = Vec::new();
    for ask in [&ask, &other, &ask, &ask, &other] {
        statuses.push(ask.send(&simulator).await.status);
    }
    assert_eq!(statuses, [500, 503, 500, 200, 200]);
}

#[tokio::test]
async fn the_chance_of_a_fault_is_drawn_anew_for_each_try_and_is_the_same_for_a_seed() {
    let statuses = async |seed: u64| {
        let faults = vec![FaultRule::new(FaultKind::Http500, 0.5)];
        let simulator = started(SimulatorConfig { seed, faults, ..SimulatorConfig::default() }).await;
        let mut statuses = Vec::new();
        for at in 0..40 {
            let ask = Ask::chat(&chat_body("gpt-sim", &format!("prompt {}", at % 4)));
            statuses.push(ask.send(&simulator).await.status);
        }
        statuses
    };
    let first = statuses(1).await;
    assert_eq!(first, statuses(1).await);
    assert_ne!(first, statuses(2).await);
    assert!(first.contains(&200) && first.contains(&500));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused_and_a_stranger_may_order_nothing() {
    let simulator = simulator().await;
    let ask = Ask::chat(&chat_body("gpt-sim", "Hi")).with_header("x-sim-fault", "explode");
    let answer = ask.send(&simulator).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("known are none, http_401"));
    let strict = started(SimulatorConfig { allow_ordered_faults: false, ..SimulatorConfig::default() }).await;
    assert_eq!(ask.send(&strict).await.status, 200);
}

#[tokio::test]
async fn embeddings_and_images_are_struck_too() {
    let simulator = simulator().await;
    let asks = [
        Ask::post("/v1/embeddings", json!({"model": "text-embedding-sim", "input": "a"}).to_string()),
        Ask::post("/v1/images/generations", json!({"model": "image-sim", "prompt": "a"}).to_string()),
    ];
    for ask in asks {
        for kind in ["wrong_type", "cut_json", "body_10mb", "bad_utf8", "usage_huge", "reset_mid_stream"] {
            let answer = ask.clone().with_header("x-sim-fault", kind).send(&simulator).await;
            assert_eq!(answer.status, 200, "{kind}");
            let is_whole = serde_json::from_slice::<Value>(&answer.body).is_ok();
            assert_eq!(is_whole, matches!(kind, "wrong_type" | "body_10mb" | "usage_huge"), "{kind}");
        }
    }
}
