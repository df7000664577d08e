//! Makes of the bytes of an answer what they mean: a result, a failure with its class, or nothing that can be known.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde_json::Value;
use sluice_domain::ErrorClass;
use sluice_policy::{
    answer_json::json_digest,
    classify::{Expectation, classify},
    rate_limit::rate_limits,
    retry_after::retry_after,
    usage::usage,
};
use tokio::time::Instant;

use crate::{Answer, NotSentReason, WireOutcome, call::now, intake::Taken, read::ReadEnd};

/// The longest name or id of a provider that is taken over from an answer, in bytes.
const MAX_WORD_BYTES: usize = 256;

/// What is gathered while the call goes on.
pub(crate) struct Seen {
    pub(crate) outcome: WireOutcome,
    pub(crate) answered_model: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) first_content: Option<Instant>,
    /// Whether a token was refused that had been good before.
    pub(crate) is_token_outdated: bool,
}

impl Seen {
    pub(crate) fn without_answer(outcome: WireOutcome) -> Self {
        Self {
            outcome,
            answered_model: None,
            request_id: None,
            first_content: None,
            is_token_outdated: false,
        }
    }

    pub(crate) fn not_sent(reason: NotSentReason, detail: String) -> Self {
        Self::without_answer(WireOutcome::NotSent { reason, detail })
    }
}

/// Makes an answer of what was read, or says that it can't be known.
pub(crate) fn judge(
    response: &reqwest::Response,
    taken: Taken,
    end: ReadEnd,
    expected: Expectation,
    first_content: Option<Instant>,
) -> Seen {
    let headers = response.headers();
    let status_code = response.status().as_u16();
    let request_id = text(headers, "x-request-id").and_then(word);
    let is_whole = match (&taken.assembly, end) {
        (_, ReadEnd::Broken(ErrorClass::Cancelled)) => false,
        // A success that broke off is none; an error was told in full by its status line.
        _ if !response.status().is_success() => true,
        _ if taken.is_truncated => true,
        (Some(assembly), _) => {
            assembly.is_complete() || assembly.error().is_some() || assembly.is_malformed()
        }
        (None, end) => end == ReadEnd::Read,
    };
    if !is_whole {
        let class = match end {
            ReadEnd::Broken(class) => class,
            ReadEnd::Read => ErrorClass::ConnectionLost,
        };
        let outcome = WireOutcome::Unknown(class);
        return Seen { request_id, first_content, ..Seen::without_answer(outcome) };
    }
    let judged = Judged::of(status_code, taken, expected);
    let json = judged.json.as_ref();
    let member = |name: &str| json.and_then(|json| json[name].as_str()).and_then(word);
    let (answered_model, body_id) = (member("model"), member("id"));
    let date_now = date(headers).unwrap_or_else(now);
    let answer = Answer {
        status_code,
        is_truncated: judged.is_truncated,
        is_assembled: judged.raw_stream.is_some(),
        failure: judged.failure,
        failure_code: judged.failure.and(json).and_then(failure_code),
        usage: json.and_then(|json| usage(&json["usage"])),
        retry_after: retry_after(|name| text(headers, name), date_now),
        rate_limits: rate_limits(|name| text(headers, name), date_now),
        body: judged.body,
        raw_stream: judged.raw_stream,
    };
    let outcome = WireOutcome::Answered(Box::new(answer));
    let request_id = request_id.or(body_id);
    Seen { answered_model, request_id, first_content, ..Seen::without_answer(outcome) }
}

/// An answer with what it means.
struct Judged {
    body: Bytes,
    raw_stream: Option<Bytes>,
    is_truncated: bool,
    json: Option<Value>,
    failure: Option<ErrorClass>,
}

impl Judged {
    fn of(status_code: u16, taken: Taken, expected: Expectation) -> Self {
        let Taken { bytes, is_truncated, assembly } = taken;
        let as_it_came =
            |json, failure| Self { body: bytes.clone(), raw_stream: None, is_truncated, json, failure };
        if is_truncated && (200..300).contains(&status_code) {
            return as_it_came(None, Some(ErrorClass::OversizedAnswer));
        }
        let Some(assembly) = assembly else {
            let json = json_digest(&bytes);
            let failure = classify(status_code, json.as_ref(), expected).err();
            return as_it_came(json, failure);
        };
        if let Some(error) = assembly.error() {
            let json = serde_json::json!({ "error": error });
            let failure = classify(status_code, Some(&json), expected).err();
            return as_it_came(Some(json), failure);
        }
        if assembly.is_malformed() {
            return as_it_came(None, Some(ErrorClass::MalformedAnswer));
        }
        let json = assembly.into_completion();
        let failure = classify(status_code, Some(&json), expected).err();
        Self {
            body: Bytes::from(json.to_string()),
            raw_stream: Some(bytes),
            is_truncated,
            json: Some(json),
            failure,
        }
    }
}

/// The provider's own word for a failure, if it is a word: a message could quote the prompt or the key.
fn failure_code(json: &Value) -> Option<String> {
    let is_identifier = |code: &&str| {
        (1..=64).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    let error = &json["error"];
    [&error["code"], &error["type"]]
        .into_iter()
        .find_map(|value| value.as_str().filter(is_identifier).map(str::to_owned))
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A short name or id without control characters.
fn word(text: &str) -> Option<String> {
    let is_word = (1..=MAX_WORD_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    is_word.then(|| text.to_owned())
}

/// The upstream's own clock, by which it means its dates.
fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = httpdate::parse_http_date(text(headers, "date")?).ok()?;
    let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    DateTime::from_timestamp(i64::try_from(since_epoch.as_secs()).ok()?, 0)
}
