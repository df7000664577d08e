//! What a client gets to read when it is wrong, whole.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Fixture, answer, in_days};

fn error(message: &str, param: Option<&str>, code: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
}

#[tokio::test]
async fn wrong_jobs_are_refused_with_their_culprit() {
    let fixture = Fixture::new().await;
    let deep = format!(r#"{{"body":{{"model":"m","x":{}{}}}}}"#, "[".repeat(200), "]".repeat(200));
    let time = "run_at must be an RFC 3339 time with a zone, such as 2026-10-01T12:00:00Z";
    let surrogate = "the string holds half of a surrogate pair, which is no character";
    let nul = "the string must not hold NUL (\\u0000)";
    let priority = "priority must be a whole number from 1 to 5";
    let body = r#""body":{"model":"m"}"#;
    let with = |more: &str| format!("{{{body},{more}}}");
    let table: Vec<(String, u16, Value)> = vec![
        (
            String::new(),
            400,
            error(
                "the text is not JSON: EOF while parsing a value at line 1 column 0",
                None,
                "malformed_json",
            ),
        ),
        ("[]".into(), 400, error("the text must be one JSON object", None, "not_an_object")),
        (
            "{} x".into(),
            400,
            error("the text is not JSON: trailing characters at line 1 column 4", None, "malformed_json"),
        ),
        (deep, 400, error("the JSON is nested deeper than 128 levels", None, "too_deep")),
        (
            "{}".into(),
            422,
            error(
                "body is missing; it is the request's JSON, such as {\"messages\":[…]}",
                Some("/body"),
                "missing_field",
            ),
        ),
        (
            r#"{"body":"x"}"#.into(),
            422,
            error("must be an object, not a string", Some("/body"), "invalid_type"),
        ),
        (
            r#"{"body":{}}"#.into(),
            422,
            error("model is missing; say it in the job or in its body", Some("/model"), "missing_field"),
        ),
        (
            r#"{"body":{"model":7}}"#.into(),
            422,
            error("must be a string, not a number", Some("/body/model"), "invalid_type"),
        ),
        (
            r#"{"body":{"model":""}}"#.into(),
            422,
            error("model must not be empty", Some("/body/model"), "invalid_value"),
        ),
        (
            with(r#""piority":1"#),
            422,
            error("unknown field \"piority\"; did you mean \"priority\"?", Some("/piority"), "unknown_field"),
        ),
        (
            with(r#""a/b~":1"#),
            422,
            error(
                "unknown field \"a/b~\"; known are path, body, model, queue, priority, idempotency_key, run_at, deadline, max_attempts, on_unknown, tags, webhook",
                Some("/a~1b~0"),
                "unknown_field",
            ),
        ),
        (
            with(r#""queue":"a","queue":"b""#),
            422,
            error("field \"queue\" stands there twice", Some("/queue"), "duplicate_field"),
        ),
        (with(r#""priority":6"#), 422, error(priority, Some("/priority"), "invalid_value")),
        (with(r#""priority":-1"#), 422, error(priority, Some("/priority"), "invalid_value")),
        (with(r#""priority":2.5"#), 422, error(priority, Some("/priority"), "invalid_value")),
        (with(r#""priority":1e400"#), 422, error(priority, Some("/priority"), "invalid_value")),
        (
            with(r#""priority":"3""#),
            422,
            error("must be a whole number, not a string", Some("/priority"), "invalid_type"),
        ),
        (
            with(r#""max_attempts":101"#),
            422,
            error(
                "max_attempts must be a whole number from 1 to 100",
                Some("/max_attempts"),
                "invalid_value",
            ),
        ),
        (with(r#""run_at":"+300000-01-01T00:00:00Z""#), 422, error(time, Some("/run_at"), "invalid_value")),
        (
            with(&format!(r#""run_at":"{}""#, in_days(4_000))),
            422,
            error("run_at must be within ten years from now", Some("/run_at"), "invalid_value"),
        ),
        (
            with(r#""deadline":"2020-01-01T00:00:00Z""#),
            422,
            error(
                "deadline must be in the future and within twenty years",
                Some("/deadline"),
                "invalid_value",
            ),
        ),
        (with(r#""run_at":"2026-10-01T12:00:00""#), 422, error(time, Some("/run_at"), "invalid_value")),
        (
            with(r#""run_at":1700000000"#),
            422,
            error("must be a string, not a number", Some("/run_at"), "invalid_type"),
        ),
        (
            with(&format!(r#""run_at":"{}","deadline":"{}""#, in_days(2), in_days(1))),
            422,
            error("deadline must be after run_at", Some("/deadline"), "invalid_value"),
        ),
        (
            with(r#""on_unknown":"guess""#),
            422,
            error("\"guess\" is no on_unknown; known are retry, hold", Some("/on_unknown"), "invalid_value"),
        ),
        (
            with(r#""queue":"run:1""#),
            422,
            error(
                "queues whose names begin with \"run:\" belong to single runs; choose another name",
                Some("/queue"),
                "invalid_value",
            ),
        ),
        (
            with(r#""queue":"a b""#),
            422,
            error(
                "queue may hold letters, digits, '-', '_', '.' and ':' only",
                Some("/queue"),
                "invalid_value",
            ),
        ),
        (
            with(r#""path":"http://x""#),
            422,
            error(
                "path must start with '/' and hold letters, digits, '/', '-', '_', '.' and ':' only",
                Some("/path"),
                "invalid_value",
            ),
        ),
        (
            with(r#""tags":[1]"#),
            422,
            error("must be an object of strings, not an array", Some("/tags"), "invalid_type"),
        ),
        (
            with(r#""tags":{"a/b":1}"#),
            422,
            error("must be a string, not a number", Some("/tags/a~1b"), "invalid_type"),
        ),
        (with(r#""tags":{"a":"\u0000"}"#), 422, error(nul, Some("/tags/a"), "invalid_value")),
        (with(r#""idempotency_key":"\u0000""#), 422, error(nul, Some("/idempotency_key"), "invalid_value")),
        (
            with(r#""idempotency_key":"\ud800""#),
            422,
            error(surrogate, Some("/idempotency_key"), "invalid_value"),
        ),
        (
            with(r#""webhook":"ftp://x""#),
            422,
            error("webhook must begin with https:// or http://", Some("/webhook"), "invalid_value"),
        ),
        (
            with(r#""webhook":"https://x""#),
            422,
            error(
                "webhooks are signed, and no secret is configured for this tenant (webhooks.secrets in sluice.yaml)",
                Some("/webhook"),
                "webhooks_not_configured",
            ),
        ),
    ];
    for (sent, status, expected) in table {
        let (got_status, got) = answer(fixture.post("/v1/jobs", sent.clone())).await;
        assert_eq!((got_status.as_u16(), got), (status, expected), "{sent}");
    }
    let (status, got) = answer(fixture.post("/v1/jobs", b"{\"body\":{\"a\":\"\xff\"}}".to_vec())).await;
    assert_eq!(
        (status.as_u16(), got),
        (400, error("the text is not UTF-8 at byte 14", None, "invalid_utf8"))
    );
}

#[tokio::test]
async fn bodies_above_the_limit_are_too_large() {
    let fixture = Fixture::new().await;
    let of = |bytes: usize| format!(r#"{{"body":{{"model":"m","x":"{}"}}}}"#, "y".repeat(bytes));
    let fits = 8 * 1024 * 1024 - r#"{"model":"m","x":""}"#.len();
    assert_eq!(answer(fixture.post("/v1/jobs", of(fits))).await.0, StatusCode::CREATED);
    let (status, got) = answer(fixture.post("/v1/jobs", of(fits + 1))).await;
    let expected =
        error("body has 8388609 bytes; at most 8388608 are taken", Some("/body"), "body_too_large");
    assert_eq!((status, got), (StatusCode::PAYLOAD_TOO_LARGE, expected));
    let (status, got) = answer(fixture.post("/v1/jobs", of(20 * 1024 * 1024))).await;
    assert_eq!((status, &got["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("request_too_large")));
}

#[tokio::test]
async fn wrong_requests_are_refused_in_the_same_shape() {
    let fixture = Fixture::new().await;
    let unknown = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let table = [
        ("GET", format!("/v1/jobs/{unknown}"), 404, "job_not_found"),
        ("GET", "/v1/jobs/nonsense".to_owned(), 404, "job_not_found"),
        ("GET", format!("/v1/jobs/{unknown}?wait=soon"), 422, "invalid_value"),
        ("GET", format!("/v1/jobs/{unknown}?wiat=1s"), 422, "unknown_parameter"),
        ("GET", format!("/v1/jobs/{unknown}/events"), 404, "job_not_found"),
        ("GET", format!("/v1/jobs/{unknown}/explain"), 404, "job_not_found"),
        ("GET", format!("/v1/jobs/{unknown}/result"), 404, "job_not_found"),
        ("POST", format!("/v1/jobs/{unknown}/cancel"), 404, "job_not_found"),
        ("POST", format!("/v1/jobs/{unknown}/replay"), 404, "job_not_found"),
        ("POST", format!("/v1/jobs/{unknown}/release"), 404, "job_not_found"),
        ("GET", "/v1/jobs/%ff".to_owned(), 400, "invalid_path"),
        ("GET", "/v1/jobs?state=done".to_owned(), 422, "invalid_value"),
        ("GET", "/v1/jobs?stat=failed".to_owned(), 422, "unknown_parameter"),
        ("GET", "/v1/jobs?limit=0".to_owned(), 422, "invalid_value"),
        ("GET", "/v1/jobs?after=x".to_owned(), 422, "invalid_value"),
        ("GET", "/v1/jobs?queue=%00".to_owned(), 422, "invalid_value"),
        ("POST", "/v1/queues/a%20b/pause".to_owned(), 422, "invalid_value"),
        ("POST", "/v1/upstreams/nobody/pause".to_owned(), 404, "upstream_not_found"),
        ("POST", "/v1/upstreams/nobody/resume".to_owned(), 404, "upstream_not_found"),
        ("POST", "/v1/accounts/nobody/resume".to_owned(), 404, "account_not_found"),
        ("POST", "/v1/replays".to_owned(), 400, "malformed_json"),
        ("DELETE", "/v1/jobs".to_owned(), 405, "method_not_allowed"),
        ("GET", "/v1/nothing".to_owned(), 404, "unknown_path"),
    ];
    for (method, path, status, code) in table {
        let request = fixture.client.request(method.parse().unwrap(), format!("{}{path}", fixture.base));
        let (got_status, got) = answer(request).await;
        let mut names: Vec<_> = got["error"].as_object().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["code", "message", "param", "type"]);
        assert_eq!(
            (got_status.as_u16(), got["error"]["code"].as_str().unwrap()),
            (status, code),
            "{method} {path}"
        );
    }
}
