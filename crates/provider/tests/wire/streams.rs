//! Streamed answers: assembled when they are whole, never taken for whole when they are not.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_domain::ErrorClass;
use sluice_policy::retry::Ending;
use sluice_provider::CallReport;

use crate::{
    COMPLETION, JSON, STREAMED, answered, assert_unknown, call,
    server::{Server, Step, answer, every_tenth, open_head},
    upstream,
};

const SSE: &str = "content-type: text/event-stream\r\n";

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

fn chunk(content: &str, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": {"content": content}, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "c1", "model": "deepseek-flash", "choices": [choice]}))
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n";

async fn stream(steps: Vec<Step>) -> CallReport {
    let server = Server::start([vec![Step::Read, Step::Send(open_head(SSE))], steps].concat()).await;
    call(upstream(&server.url()), STREAMED).await
}

#[tokio::test]
async fn a_stream_is_assembled_and_its_bytes_are_kept() {
    let whole =
        format!(": keep-alive\n\n{}{}{USAGE}data: [DONE]\n\n", chunk("Hel", None), chunk("lo", Some("stop")));
    let report = stream(vec![send(&whole)]).await;
    let kept = answered(&report);
    assert!(kept.is_assembled);
    assert_eq!(kept.raw_stream.as_deref(), Some(whole.as_bytes()));
    let body: Value = serde_json::from_slice(&kept.body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "Hello");
    assert_eq!(kept.usage.unwrap().input_tokens, 9);
    assert_eq!(report.upstream.answered_model.as_deref(), Some("deepseek-flash"));
    assert_eq!(report.ending(), Ending::Succeeded);
}

#[tokio::test]
async fn a_connection_that_stays_open_after_done_delays_nothing() {
    let whole = format!("{}data: [DONE]\n\n", chunk("hi", Some("stop")));
    let report = stream(vec![send(&whole), Step::Wait(Duration::from_secs(3))]).await;
    assert_eq!(report.ending(), Ending::Succeeded);
    assert!(report.duration.unwrap() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_stream_that_ends_early_is_unknown() {
    for text in [String::new(), chunk("half", None), "data: {\"choi".to_owned()] {
        assert_unknown(&stream(vec![send(&text)]).await, ErrorClass::ConnectionLost);
    }
}

#[tokio::test]
async fn a_stream_that_broke_after_its_last_word_is_whole() {
    let report = stream(vec![send(&chunk("hi", Some("stop")))]).await;
    assert_eq!((report.ending(), answered(&report).usage), (Ending::Succeeded, None));
    assert_eq!(report.cost(), None);
}

#[tokio::test]
async fn a_stall_between_chunks_is_seen_behind_keep_alives() {
    let keep_alives = every_tenth(30, send(": keep-alive\n\n"));
    let report = stream([vec![send(&chunk("half", None))], keep_alives].concat()).await;
    assert_unknown(&report, ErrorClass::Stalled);
    assert!(report.duration.unwrap() < Duration::from_secs(1));
    assert!(report.time_to_first_byte.is_some());
}

#[tokio::test]
async fn signs_of_life_start_the_clock_of_the_transport_again_and_no_other() {
    let hello = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let signs = [every_tenth(4, send(": keep-alive\n\n")), every_tenth(4, send(hello))].concat();
    let whole = format!("{}data: [DONE]\n\n", chunk("hi", Some("stop")));
    let steps = [vec![Step::Read, Step::Send(open_head(SSE))], signs, vec![send(&whole)]].concat();
    let mut patient = upstream(&Server::start(steps.clone()).await.url());
    patient.timeouts.first_byte = Duration::from_millis(500);
    patient.timeouts.first_token = Duration::from_secs(10);
    assert_eq!(call(patient, STREAMED).await.ending(), Ending::Succeeded);
    let mut hasty = upstream(&Server::start(steps).await.url());
    hasty.timeouts.first_token = Duration::from_millis(300);
    assert_unknown(&call(hasty, STREAMED).await, ErrorClass::Stalled);
}

#[tokio::test]
async fn a_large_call_is_streamed_though_nobody_asked() {
    let whole = format!("{}{USAGE}data: [DONE]\n\n", chunk("hi", Some("stop")));
    let server = Server::start(vec![Step::Read, Step::Send(open_head(SSE)), send(&whole)]).await;
    let body = r#"{"model":"deepseek-flash","messages":[],"max_tokens":8000}"#;
    let report = call(upstream(&server.url()), body).await;
    assert!(answered(&report).is_assembled && answered(&report).usage.is_some());
    assert!(server.requests()[0].contains(r#""stream":true"#));
}

#[tokio::test]
async fn an_error_event_is_a_failure_and_the_stream_is_kept() {
    let text = format!("{}data: {{\"error\":{{\"code\":503}}}}\n\n", chunk("half", None));
    let report = stream(vec![send(&text)]).await;
    let kept = answered(&report);
    assert_eq!((kept.failure, kept.is_assembled), (Some(ErrorClass::Overloaded), false));
    assert_eq!(kept.body, text);
}

#[tokio::test]
async fn what_is_no_chunk_is_malformed() {
    let text = "data: not json\n\ndata: [DONE]\n\n";
    let report = stream(vec![send(text)]).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::MalformedAnswer));
}

#[tokio::test]
async fn an_empty_or_cut_finish_is_incomplete() {
    for text in [chunk("", Some("stop")), chunk("half", Some("insufficient_system_resource"))] {
        let report = stream(vec![send(&format!("{text}data: [DONE]\n\n"))]).await;
        assert_eq!(answered(&report).failure, Some(ErrorClass::IncompleteAnswer));
    }
}

#[tokio::test]
async fn a_server_that_answers_plainly_to_a_stream_is_understood() {
    let plain = Step::Send(answer("200 OK", JSON, COMPLETION.as_bytes()));
    let server = Server::start(vec![Step::Read, plain]).await;
    let report = call(upstream(&server.url()), STREAMED).await;
    assert_eq!((report.ending(), answered(&report).is_assembled), (Ending::Succeeded, false));
    assert!(server.requests()[0].contains(r#""stream_options":{"include_usage":true}"#));
}
