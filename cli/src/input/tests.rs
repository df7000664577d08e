//! What is accepted, and what is refused in which words.

use proptest::prelude::*;

use super::{
    check::{Checked, MAX_PROBLEMS_SHOWN, check_lines},
    fill_in::{FillIn, FillInArgs},
    line,
    lines::{LineRead, LineReader, MAX_LINE_BYTES},
    request::Request,
    template::Template,
};

fn fill_in(template: &str) -> FillIn {
    FillIn { template: Some(template.parse().unwrap()), ..FillIn::default() }
}

fn parsed(text: &str, fill_in: &FillIn) -> Request {
    line::parse(text.as_bytes(), 1, fill_in).unwrap().unwrap()
}

fn body(text: &str, fill_in: &FillIn) -> String {
    String::from_utf8(parsed(text, fill_in).body).unwrap()
}

fn reason(text: &[u8]) -> String {
    line::parse(text, 1, &FillIn::default()).unwrap_err()
}

fn checked(input: &[u8]) -> Checked {
    check_lines(LineReader::new(input), &FillIn::default()).unwrap()
}

#[test]
fn the_body_of_a_batch_line_is_kept_byte_for_byte() {
    let given = r#"{"model": "m",  "messages":[{"role":"user","content":"\u00e9 1.0"}], "temperature":1.00}"#;
    let text = format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{given}}}"#);
    let request = parsed(&text, &FillIn::default());
    assert_eq!(String::from_utf8(request.body).unwrap(), given);
    assert_eq!((request.own_id.as_deref(), request.model.as_str()), (Some("a"), "m"));
}

#[test]
fn a_batch_line_without_a_model_takes_the_one_of_the_command_line() {
    let args = FillInArgs { model: Some("x".to_owned()), ..FillInArgs::default() };
    let text = r#"{"url":"/v1/embeddings","body":{"input":"hi"}}"#;
    assert_eq!(body(text, &args.checked().unwrap()), r#"{"model":"x","input":"hi"}"#);
    assert!(reason(text.as_bytes()).starts_with("has no model in its body"));
}

#[test]
fn the_short_form_becomes_a_chat() {
    let none = FillIn::default();
    assert_eq!(
        body(r#"{"prompt":"a\"b","temperature":0.50,"system":"s","id":7,"priority":5}"#, &none),
        r#"{"model":"deepseek-flash","messages":[{"role":"system","content":"s"},{"role":"user","content":"a\"b"}],"temperature":0.50}"#
    );
    let with_messages = r#"{"model":"m","messages":[ {"role":"user","content":"x"}],"n":2}"#;
    assert_eq!(
        body(with_messages, &none),
        r#"{"model":"m","messages":[ {"role":"user","content":"x"}],"n":2}"#
    );
    let request = parsed(r#"{"prompt":"x","id":7,"priority":5}"#, &none);
    assert_eq!((request.own_id.as_deref(), request.priority.get()), (Some("7"), 5));
}

#[test]
fn options_fill_in_what_a_line_leaves_out() {
    let args = FillInArgs {
        template: Some("Q: {question} {{}} {n}".to_owned()),
        model: Some("big".to_owned()),
        system: Some("brief".to_owned()),
        parameters: vec!["max_tokens=5".to_owned(), "stop=end".to_owned()],
    };
    let fill_in = args.checked().unwrap();
    assert_eq!(
        body(r#"{"question":"why?","n":3,"answer":"x","max_tokens":9}"#, &fill_in),
        r#"{"model":"big","messages":[{"role":"system","content":"brief"},{"role":"user","content":"Q: why? {} 3"}],"max_tokens":9,"stop":"end"}"#
    );
    let own_system = r#"{"messages":[{"role":"system","content":"own"}]}"#;
    assert!(!body(own_system, &fill_in).contains("brief"));
}

#[test]
fn an_unknown_field_of_a_template_is_named_with_those_that_are_there() {
    let error = line::parse(br#"{"question":"x","answer":"y"}"#, 1, &fill_in("{qestion}")).unwrap_err();
    assert_eq!(error, r#"has no "qestion", which the template asks for; it has question, answer"#);
}

#[test]
fn a_template_with_stray_braces_is_refused() {
    for bad in ["", "{", "}", "a {b", "{}", "{a{b}}", "x } y"] {
        assert!(bad.parse::<Template>().is_err(), "{bad:?}");
    }
}

#[test]
fn bad_lines_are_refused_with_a_reason() {
    let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let large = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(9 << 20));
    let table: &[(&[u8], &str)] = &[
        (b"{\"prompt\":\"\xff\"}", "is not UTF-8: byte 0xff at column 12"),
        (b"{\"prompt\":\"a\0b\"}", "holds a NUL byte at column 13"),
        (br#"{"prompt":"\ud83d!"}"#, "holds the lone surrogate \\ud83d at column 12"),
        (br#"{"prompt":"\ude00"}"#, "holds the lone surrogate \\ude00"),
        (deep.as_bytes(), "is nested deeper than 100 levels at column"),
        (large.as_bytes(), "has a body of 9.0 MiB; at most 8 MiB are allowed"),
        (b"hello", "is no JSON object"),
        (b"[1]", "is no JSON object"),
        (b"{\"prompt\":\"x\"", "is not valid JSON: EOF"),
        (b"{\"prompt\":\"x\"} {}", "is not valid JSON: trailing characters at column 16"),
        (br#"{"prompt":"x","prompt":"y"}"#, "has the field \"prompt\" twice"),
        (br#"{"prompt":5}"#, "prompt must be text, not a number"),
        (br#"{"prompt":"x","model":[]}"#, "model must be text, not a list"),
        (br#"{"prompt":"x","model":""}"#, "model must not be empty"),
        (br#"{"prompt":"x","messages":[]}"#, "has both prompt and messages"),
        (br#"{"messages":"x"}"#, "messages must be a list, not text"),
        (br#"{"messages":[]}"#, "messages must not be empty"),
        (br#"{"messages":["x"]}"#, "messages[0] must be an object with role and content, not text"),
        (br#"{"messages":[{"content":"x"}]}"#, "messages[0] has no role"),
        (br#"{"messages":[{"role":"system","content":"x"}],"system":"y"}"#, "has a system message in"),
        (br#"{"prompt":"x","priority":9}"#, "priority 9 is not one of 1 to 5"),
        (br#"{"prompt":"x","priority":"high"}"#, "priority must be a whole number from 1 to 5, not \"high\""),
        (br#"{"prompt":"x","id":1.5}"#, "id must be text or a whole number, not a number"),
        (br#"{"prompt":"x","id":""}"#, "id must have 1 to 512 bytes"),
        (br#"{"prompt":"x","id":"a","custom_id":"b"}"#, "has both id and custom_id"),
        (br#"{"question":"x","answer":"y"}"#, "has neither prompt, messages nor body; --template makes"),
        (br#"{"body":{"model":"m","messages":[{"role":"user"}]}}"#, "has no url"),
        (br#"{"url":"/v1/chat/completions"}"#, "has no body"),
        (br#"{"url":"/v1/chat/completions","body":[]}"#, "body must be an object, not a list"),
        (br#"{"url":"/v1/chat/completions","body":{"model":"m"}}"#, "body has no messages"),
        (
            br#"{"url":"/v1/chat","body":{}}"#,
            "has the unknown url \"/v1/chat\"; known are /v1/chat/completions",
        ),
        (br#"{"url":"https://evil.example/","body":{}}"#, "has the unknown url"),
        (br#"{"method":"GET","url":"/v1/embeddings","body":{}}"#, "has the method \"GET\"; only \"POST\""),
        (br#"{"url":"/v1/embeddings","body":{},"bdy":1}"#, "has the unknown field \"bdy\"; a batch line has"),
    ];
    for (bad, expected) in table {
        let found = reason(bad);
        assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn a_line_of_many_fields_takes_no_longer_than_its_length() {
    let fields: Vec<String> = (0..200_000).map(|field| format!("\"f{field}\":1")).collect();
    let line = format!("{{\"prompt\":\"a\",{}}}", fields.join(","));
    assert!(parsed(&line, &FillIn::default()).body.len() > line.len());
    let twice = format!("{{\"prompt\":\"a\",{},\"f7\":2}}", fields.join(","));
    assert_eq!(reason(twice.as_bytes()), "has the field \"f7\" twice");
}

#[test]
fn ids_are_unique_also_against_the_numbers_of_other_lines() {
    let found = checked(b"{\"prompt\":\"a\",\"id\":\"x\"}\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\",\"id\":\"x\"}\n{\"prompt\":\"d\",\"id\":2}");
    let reasons: Vec<_> =
        found.problems.iter().map(|problem| (problem.line_no, problem.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [(3, "has the id \"x\", which is that of line 1"), (4, "has the id \"2\", which is that of line 2")]
    );
    assert_eq!(found.requests, 2);
}

#[test]
fn a_byte_order_mark_blank_lines_and_carriage_returns_are_no_problem() {
    let found = checked(b"\xef\xbb\xbf{\"prompt\":\"a\"}\r\n\r\n  \n{\"prompt\":\"b\"}\r\n");
    assert_eq!((found.requests, found.blank_lines, found.bad_lines.len()), (2, 2, 0));
}

#[test]
fn a_line_without_end_is_skipped_and_the_next_one_read() {
    let mut input = vec![b'x'; 20_000_000];
    input.extend_from_slice(b"\n{\"prompt\":\"a\"}\n");
    let found = checked(&input);
    assert_eq!((found.requests, found.problems[0].line_no), (1, 1));
    assert_eq!(found.problems[0].reason, "has 19.1 MiB; a line may have 16 MiB, its body 8 MiB");
    let mut lines = LineReader::new(&input[..]);
    assert_eq!(lines.read(&mut Vec::new()).unwrap(), LineRead::TooLong(20_000_000));
    const { assert!(MAX_LINE_BYTES < 20_000_000) };
}

#[test]
fn the_first_problems_are_told_and_the_others_counted() {
    let found = checked("x\n".repeat(100).as_bytes());
    let report = found.report("in").unwrap();
    assert_eq!(report.lines().count(), MAX_PROBLEMS_SHOWN + 1);
    assert!(report.ends_with("… and 80 more lines\n"), "{report}");
}

#[test]
fn parameters_of_the_command_line_are_checked() {
    let refused = |given: &str| {
        let args = FillInArgs { parameters: vec![given.to_owned()], ..FillInArgs::default() };
        args.checked().unwrap_err()
    };
    assert!(refused("max_tokens").contains("must look like"));
    assert!(refused("model=x").contains("can't set model"));
    assert!(refused(r#"x="\ud800""#).contains("lone surrogate"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_and_no_line_is_lost(
        input in prop::collection::vec(prop_oneof![
            Just(b"\n".to_vec()),
            Just(br#"{"prompt":"x"}"#.to_vec()),
            Just(br#"{"url":"/v1/embeddings","body":{"#.to_vec()),
            Just(b"{[\"\\u".to_vec()),
            prop::collection::vec(any::<u8>(), 0..20),
        ], 0..40)
    ) {
        let input = input.concat();
        let found = checked(&input);
        let lines = input.split(|byte| *byte == b'\n').count() as u64
            - u64::from(input.is_empty() || input.ends_with(b"\n"));
        prop_assert_eq!(found.requests + found.blank_lines + found.bad_lines.len() as u64, lines);
    }
}
