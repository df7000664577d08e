//! Streams: the reader of server-sent events, and the assembly of a completion from their data.

#[path = "../../provider/src/assemble.rs"]
mod assemble;
#[path = "../../provider/src/sse.rs"]
mod reader;

use assemble::Assembly;
use reader::{SseEvent, SseReader};
use serde_json::Value;
use sluice_domain::ApiPath;
use sluice_policy::{
    answer_json::json_digest,
    classify::{AnswerShape, Expectation, classify},
};

/// How much longer than its stream a completion may be. It is what a worker takes from the process of a suspect
/// (`MAX_GROWTH` there).
const MAX_GROWTH: usize = 4;
/// What the frames of choices may add to that, whatever the stream is.
const MAX_FRAME_BYTES: usize = 256 * 1024;

/// The first byte says how the rest, a stream, is cut.
pub(crate) fn check(bytes: &[u8]) {
    let Some((&size, stream)) = bytes.split_first() else { return };
    let whole = events(&[stream]);
    let size = usize::from(size);
    for pieces in [stream.chunks(size + 1).collect::<Vec<_>>(), stream.chunks(1).collect()] {
        assert_eq!(events(&pieces), whole, "the cut changes the events");
    }
    let (head, tail) = stream.split_at(size.min(stream.len()));
    assert_eq!(events(&[head, b"", tail]), whole, "one cut changes the events");
    let data: Vec<&[u8]> = whole
        .iter()
        .filter_map(|event| match event {
            SseEvent::Data(data) => Some(data.as_slice()),
            SseEvent::Comment => None,
        })
        .collect();
    let total: usize = data.iter().map(|data| data.len()).sum();
    assert!(total <= stream.len() && whole.len() <= stream.len(), "more came out than went in");
    check_assembly(&data, stream.len());
}

fn events(pieces: &[&[u8]]) -> Vec<SseEvent> {
    let mut reader = SseReader::default();
    let mut events: Vec<_> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    events.extend(reader.finish());
    events
}

fn check_assembly(data: &[&[u8]], stream_bytes: usize) {
    let mut assembly = Assembly::default();
    let mut was = (false, false, false);
    for data in data {
        assembly.push(data);
        let is = (assembly.is_done(), assembly.is_malformed(), assembly.error().is_some());
        assert!(is.0 >= was.0 && is.1 >= was.1 && is.2 >= was.2, "something that was seen is forgotten");
        was = is;
    }
    assert!(assembly.is_complete() || !assembly.is_done(), "it is done and not complete");
    let completion = assembly.into_completion();
    let text = completion.to_string();
    let most = MAX_GROWTH * stream_bytes + MAX_FRAME_BYTES;
    assert!(text.len() <= most, "{} bytes out of a stream of {stream_bytes}", text.len());
    assert_eq!(serde_json::from_str::<Value>(&text).ok().as_ref(), Some(&completion), "it reads back");
    let digest = json_digest(text.as_bytes());
    for is_json_mode in [false, true] {
        let expected = Expectation { shape: AnswerShape::of(&ApiPath::default()), is_json_mode };
        let verdict = classify(200, Some(&completion), expected);
        assert_eq!(classify(200, digest.as_ref(), expected), verdict, "the digest is judged otherwise");
    }
}
