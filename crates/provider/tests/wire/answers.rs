//! Plain answers: what is kept of them and what they are judged to be.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use sluice_domain::{ErrorClass, NanoUsd};
use sluice_policy::retry::Ending;

use crate::{
    COMPLETION, JSON, PLAIN, answered, call,
    server::{Server, Step, answer, every_tenth, open_head},
    upstream,
};

async fn answer_with(steps: Vec<Step>) -> sluice_provider::CallReport {
    let server = Server::start([vec![Step::Read], steps].concat()).await;
    call(upstream(&server.url()), PLAIN).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const GZIP: &str = "content-type: application/json\r\ncontent-encoding: gzip\r\n";

#[tokio::test]
async fn a_good_answer_is_kept_with_its_figures() {
    let headers = format!("{JSON}x-request-id: r1\r\nx-ratelimit-remaining-requests: 7\r\n");
    let report = answer_with(vec![Step::Send(answer("200 OK", &headers, COMPLETION.as_bytes()))]).await;
    let kept = answered(&report);
    assert_eq!((kept.status_code, &kept.body[..]), (200, COMPLETION.as_bytes()));
    assert_eq!((kept.failure, kept.is_truncated, kept.is_assembled), (None, false, false));
    assert_eq!(kept.usage.unwrap().input_tokens, 10);
    assert_eq!(kept.rate_limits.requests.remaining, Some(7));
    assert_eq!(report.upstream.answered_model.as_deref(), Some("deepseek-flash"));
    assert_eq!(report.upstream.request_id.as_deref(), Some("r1"));
    assert!(report.cost().unwrap() > NanoUsd(0));
    assert!(report.time_to_first_byte.unwrap() <= report.duration.unwrap());
    assert_eq!((report.ending(), report.error()), (Ending::Succeeded, None));
}

#[tokio::test]
async fn blank_lines_keep_the_connection_but_are_not_kept() {
    let blank = every_tenth(4, Step::Send(b"\n".to_vec()));
    let json = vec![Step::Send(COMPLETION.as_bytes().to_vec())];
    let report = answer_with([vec![Step::Send(open_head(JSON))], blank, json].concat()).await;
    assert_eq!(answered(&report).body, COMPLETION);
    assert!(report.time_to_first_byte.unwrap() >= Duration::from_millis(350));
}

#[tokio::test]
async fn blank_lines_do_not_keep_a_call_for_ever() {
    let blank = every_tenth(30, Step::Send(b"\n".to_vec()));
    let report = answer_with([vec![Step::Send(open_head(JSON))], blank].concat()).await;
    crate::assert_unknown(&report, ErrorClass::Stalled);
    assert!(report.duration.unwrap() < Duration::from_millis(1_500));
}

#[tokio::test]
async fn nul_and_broken_utf8_are_kept_byte_for_byte() {
    let body = [br#"{"choices":[{"message":{"content":""#.as_slice(), b"\0\xff\xfe", br#""}}]}"#].concat();
    let report = answer_with(vec![Step::Send(answer("200 OK", JSON, &body))]).await;
    assert_eq!((&answered(&report).body[..], report.ending()), (&body[..], Ending::Succeeded));
}

#[tokio::test]
async fn answers_that_are_none_are_malformed_but_kept() {
    let cut = &COMPLETION[..COMPLETION.len() - 9];
    let trailing = format!("{COMPLETION}garbage");
    for body in [cut, &trailing, "", "<html>", "[]", r#"{"choices":"x"}"#, r#"{"error":{"message":"x"}}"#] {
        let report = answer_with(vec![Step::Send(answer("200 OK", JSON, body.as_bytes()))]).await;
        assert_eq!(answered(&report).failure, Some(ErrorClass::MalformedAnswer), "{body}");
        assert_eq!(answered(&report).body, body);
    }
}

#[tokio::test]
async fn absurd_usage_costs_nothing_and_panics_nowhere() {
    for figure in ["-5", "1e20", "\"many\"", "null", "[]", "1e999"] {
        let body = COMPLETION.replace(r#"{"prompt_tokens":10,"completion_tokens":5}"#, figure);
        let body = if figure == "1e999" { COMPLETION.replace(":10,", ":1e300,") } else { body };
        let report = answer_with(vec![Step::Send(answer("200 OK", JSON, body.as_bytes()))]).await;
        assert_eq!(report.ending(), Ending::Succeeded, "{figure}");
        assert!(report.cost().is_none_or(|cost| cost.0 >= 0));
    }
}

#[tokio::test]
async fn ten_megabytes_are_kept_whole() {
    let body = COMPLETION.replace("hi", &"x".repeat(10_000_000));
    let report = answer_with(vec![Step::Send(answer("200 OK", JSON, body.as_bytes()))]).await;
    assert_eq!(answered(&report).body.len(), body.len());
    assert_eq!(report.ending(), Ending::Succeeded);
}

#[tokio::test]
async fn more_than_the_limit_is_cut_and_the_rest_never_read() {
    let endless = vec![Step::Send(open_head(JSON)), Step::Repeat(vec![b'x'; 65_536], 16_384)];
    let server = Server::start([vec![Step::Read], endless].concat()).await;
    let mut upstream = upstream(&server.url());
    upstream.max_answer_bytes = 1_000_000;
    let report = call(upstream, PLAIN).await;
    let kept = answered(&report);
    assert_eq!((kept.body.len(), kept.is_truncated), (1_000_000, true));
    assert_eq!(kept.failure, Some(ErrorClass::OversizedAnswer));
}

#[tokio::test]
async fn compressed_answers_are_kept_decompressed_and_within_the_limit() {
    let report = answer_with(vec![Step::Send(answer("200 OK", GZIP, &gzip(COMPLETION.as_bytes())))]).await;
    assert_eq!(answered(&report).body, COMPLETION);
    let bomb = gzip(&[b"{".as_slice(), &vec![b' '; 200_000_000]].concat());
    let report = answer_with(vec![Step::Send(answer("200 OK", GZIP, &bomb))]).await;
    let kept = answered(&report);
    assert_eq!((kept.body.len(), kept.is_truncated), (sluice_provider::DEFAULT_MAX_ANSWER_BYTES, true));
}

#[tokio::test]
async fn broken_compression_can_not_be_known() {
    let mut broken = gzip(COMPLETION.as_bytes());
    let middle = broken.len() / 2;
    broken[middle..].fill(0xff);
    let report = answer_with(vec![Step::Send(answer("200 OK", GZIP, &broken))]).await;
    crate::assert_unknown(&report, ErrorClass::MalformedAnswer);
}

#[tokio::test]
async fn error_answers_are_classed_by_status_even_when_they_break_off() {
    let quota =
        br#"{"error":{"message":"secret prompt","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let headers = format!("{JSON}retry-after: 7\r\n");
    let report = answer_with(vec![Step::Send(answer("429 Too Many Requests", &headers, quota))]).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::QuotaExhausted));
    assert_eq!(report.retry_after(), Some(Duration::from_secs(7)));
    let (_, text) = report.error().unwrap();
    assert_eq!(text, "test answered 429 (insufficient_quota): no money or quota is left");

    let whole = answer("503 Service Unavailable", JSON, b"busy, come back later");
    let cut = whole[..whole.len() - 10].to_vec();
    let report = answer_with(vec![Step::Send(cut.clone())]).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::Overloaded));
    let report = answer_with(vec![Step::Send(cut), Step::Hang]).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::Overloaded));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(vec![Step::Read]).await;
    let moved = answer("307 Temporary Redirect", &format!("location: {}/x\r\n", server.url()), b"");
    let report = answer_with(vec![Step::Send(moved)]).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::NotFound));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_date_to_wait_for_is_meant_by_the_servers_own_clock() {
    let headers = "date: Mon, 12 Oct 2020 08:00:00 GMT\r\nretry-after: Mon, 12 Oct 2020 08:00:30 GMT\r\n";
    let report = answer_with(vec![Step::Send(answer("429 Too Many Requests", headers, b""))]).await;
    assert_eq!(report.retry_after(), Some(Duration::from_secs(30)));
}
