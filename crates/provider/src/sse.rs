//! Server-sent events: bytes in, events out. As the HTML standard has them, cut at any byte.
//!
//! Not here: what the data means (`assemble`), and the limit on how much is read (`intake`).

/// One event of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SseEvent {
    /// The data of an event, its lines joined by `\n`.
    Data(Vec<u8>),
    /// A line that starts with `:`. Servers send them to keep the connection.
    Comment,
}

/// Reads events out of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    is_after_cr: bool,
    is_past_first_line: bool,
}

impl SseReader {
    /// Takes the next bytes and gives the events that are complete with them.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends_crlf = self.is_after_cr && byte == b'\n';
            self.is_after_cr = byte == b'\r';
            match byte {
                b'\n' if ends_crlf => {}
                b'\n' | b'\r' => self.end_line(&mut events),
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// The last event, where the stream ends without the blank line that should end it. The standard drops such an
    /// event; here it is a paid one.
    pub fn finish(&mut self) -> Vec<SseEvent> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut events);
        }
        events.extend(self.data.take().map(SseEvent::Data));
        events
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.is_past_first_line, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            events.extend(self.data.take().map(SseEvent::Data));
        } else if line[0] == b':' {
            events.push(SseEvent::Comment);
        } else if let Some(value) = data_field(&line) {
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
    }
}

/// The value of a `data` field; other fields (`event`, `id`, `retry`) say nothing that we need.
fn data_field(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(text: &str) -> SseEvent {
        SseEvent::Data(text.as_bytes().to_vec())
    }

    fn read(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut reader = SseReader::default();
        let mut events: Vec<_> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        events.extend(reader.finish());
        events
    }

    const STREAM: &[u8] =
        b"\xef\xbb\xbf: keep-alive\n\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\n\
        data\n\ndatum: no\nid: 7\n\r\rdata: \xff\x00\r\rdata: [DONE]";

    fn expected() -> Vec<SseEvent> {
        vec![
            SseEvent::Comment,
            data("{\"a\":1}"),
            data("two\nlines"),
            data(""),
            SseEvent::Data(b"\xff\x00".to_vec()),
            data("[DONE]"),
        ]
    }

    #[test]
    fn a_cut_at_any_byte_changes_nothing() {
        assert_eq!(read(&[STREAM]), expected());
        for cut in 0..=STREAM.len() {
            let (head, tail) = STREAM.split_at(cut);
            assert_eq!(read(&[head, tail]), expected(), "cut at {cut}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(read(&single), expected());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(proptest::sample::select(&b"data: x\r\n:\xef\xbb\xbf"[..]), 0..200),
            size in 1_usize..20,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(read(&pieces), read(&[&bytes]));
        }
    }
}
