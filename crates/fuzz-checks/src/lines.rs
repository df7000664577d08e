//! Files of requests: JSON Lines of batch lines, short forms and records.

use std::io::{self, Read};

use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_domain::{MAX_BODY_BYTES, Priority};

#[path = "../../../cli/src/input/field.rs"]
mod field;
#[path = "../../../cli/src/input/fill_in.rs"]
#[expect(dead_code, reason = "the identity of a run uses the rest")]
mod fill_in;
#[path = "../../../cli/src/input/line.rs"]
mod line;
#[path = "../../../cli/src/input/lines.rs"]
mod reader;
#[path = "../../../cli/src/input/request.rs"]
mod request;
#[path = "../../../cli/src/input/scan.rs"]
mod scan;
#[path = "../../../cli/src/input/short_form.rs"]
mod short_form;
#[path = "../../../cli/src/input/template.rs"]
mod template;

use fill_in::{FillIn, FillInArgs};
use reader::{LineRead, LineReader};
use request::{MAX_ID_BYTES, Request};

/// The first byte says in which pieces the file is read and what the options are; the rest is the file.
pub(crate) fn check(bytes: &[u8]) {
    let Some((&choice, file)) = bytes.split_first() else { return };
    let whole = read(file, file.len().max(1));
    assert_eq!(read(file, usize::from(choice) + 1), whole, "the cut changes the lines");
    let (lines, sha256) = whole;
    assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(file)));
    let without_mark = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let joined = lines.join(&b'\n');
    assert!(joined == without_mark || [&joined[..], b"\n"].concat() == without_mark, "a line was lost");
    let fill_in = fill_in(choice);
    for (line, line_no) in lines.iter().zip(1..) {
        match line::parse(line, line_no, &fill_in) {
            Ok(Some(request)) => check_request(&request),
            Ok(None) => assert!(line.iter().all(|byte| b" \t\r".contains(byte)), "a line was passed over"),
            Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}"),
        }
    }
}

/// Gives a file out in pieces.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.size.min(into.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        into[..length].copy_from_slice(piece);
        self.rest = rest;
        Ok(length)
    }
}

fn read(file: &[u8], size: usize) -> (Vec<Vec<u8>>, [u8; 32]) {
    let mut reader = LineReader::new(Pieces { rest: file, size });
    let mut lines = Vec::new();
    let mut line = Vec::new();
    loop {
        match reader.read(&mut line).expect("memory can be read") {
            LineRead::Line => lines.push(line.clone()),
            LineRead::TooLong(bytes) => assert!(bytes > reader::MAX_LINE_BYTES as u64),
            LineRead::End => return (lines, reader.sha256()),
        }
    }
}

fn fill_in(choice: u8) -> FillIn {
    let given = |bit: u8, text: &str| (choice & bit != 0).then(|| text.to_owned());
    let args = FillInArgs {
        template: given(1, "Say {question} in {{{language}}}"),
        model: given(2, "a-model"),
        system: given(4, "Be \"brief\"."),
        parameters: given(8, "max_tokens=7").into_iter().collect(),
    };
    args.checked().expect("the options are good")
}

fn check_request(request: &Request) {
    assert!(request.body.len() <= MAX_BODY_BYTES);
    assert!((1..=5).contains(&request.priority.get()) && Priority::LEAST_URGENT <= request.priority);
    let id = request.custom_id();
    assert!((1..=MAX_ID_BYTES).contains(&id.len()) && !id.contains('\0'), "{id:?}");
    assert!(!request.body.contains(&b'\n'), "a body of several lines breaks a file of lines");
    let body: Value = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        // Such a number is passed on as it is: it is the upstream's to judge.
        Err(error) if error.to_string().starts_with("number out of range") => return,
        Err(error) => panic!("the body is not JSON: {error}"),
    };
    assert_eq!(body["model"], request.model.as_str(), "the body asks for another model");
    let path = request.path.as_str();
    assert!(path.starts_with("/v1/") || path.starts_with("/beta/"), "{path}");
    if path.ends_with("/chat/completions") {
        assert!(body["messages"].as_array().is_some_and(|messages| !messages.is_empty()), "no messages");
    }
}
