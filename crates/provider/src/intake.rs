//! Takes the bytes of an answer as they come, within a limit, and tells progress from keep-alives.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::{Assembly, SseEvent, SseReader};

/// Hears the data of each event of a streamed answer, in its order, at the moment when it is complete. It must not block.
pub type StreamTap = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What a piece of an answer was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Nothing but a sign of life.
    KeepAlive,
    /// Part of the answer.
    Content,
    /// The end of the answer, though not of the bytes.
    Last,
    /// More than is kept; the rest was cut off.
    TooMuch,
}

/// An answer that is being read.
pub(crate) struct Intake {
    bytes: BytesMut,
    max_bytes: usize,
    is_truncated: bool,
    form: Form,
}

enum Form {
    /// Kept as it comes, but for blank lines before it where `skips_blank_lines`.
    Plain { skips_blank_lines: bool },
    /// A stream of events that make a completion.
    Stream(Box<StreamForm>),
}

struct StreamForm {
    reader: SseReader,
    assembly: Assembly,
    tap: Option<StreamTap>,
}

/// What was read.
pub(crate) struct Taken {
    /// The bytes, blank lines before JSON excepted.
    pub(crate) bytes: Bytes,
    /// Whether more came than is kept.
    pub(crate) is_truncated: bool,
    /// What came out of the stream, if it was one.
    pub(crate) assembly: Option<Assembly>,
}

impl Intake {
    /// For an answer that is kept byte for byte.
    pub(crate) fn plain(max_bytes: usize) -> Self {
        Self::new(max_bytes, Form::Plain { skips_blank_lines: false })
    }

    /// For JSON, which may have blank lines before it.
    pub(crate) fn json(max_bytes: usize) -> Self {
        Self::new(max_bytes, Form::Plain { skips_blank_lines: true })
    }

    /// For a stream, which `tap` hears too.
    pub(crate) fn stream(max_bytes: usize, tap: Option<StreamTap>) -> Self {
        Self::new(
            max_bytes,
            Form::Stream(Box::new(StreamForm {
                reader: SseReader::default(),
                assembly: Assembly::default(),
                tap,
            })),
        )
    }

    fn new(max_bytes: usize, form: Form) -> Self {
        Self { bytes: BytesMut::new(), max_bytes, is_truncated: false, form }
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Piece {
        let piece = match &self.form {
            Form::Plain { skips_blank_lines: true } if self.bytes.is_empty() => without_blank_lines(piece),
            _ => piece,
        };
        if piece.is_empty() {
            return Piece::KeepAlive;
        }
        let room = self.max_bytes - self.bytes.len();
        self.is_truncated = piece.len() > room;
        let kept = &piece[..piece.len().min(room)];
        self.bytes.extend_from_slice(kept);
        let progress = match &mut self.form {
            Form::Plain { .. } => Piece::Content,
            Form::Stream(form) => form.take(kept),
        };
        if self.is_truncated { Piece::TooMuch } else { progress }
    }

    /// Ends the answer.
    pub(crate) fn finish(mut self) -> Taken {
        let assembly = match self.form {
            Form::Plain { .. } => None,
            Form::Stream(form) => {
                let mut form = *form;
                // Half an event at the end of a broken stream may be no JSON; that is the break's fault.
                if !form.assembly.is_complete() {
                    for event in form.reader.finish() {
                        form.take_last(&event);
                    }
                }
                Some(form.assembly)
            }
        };
        Taken { bytes: std::mem::take(&mut self.bytes).freeze(), is_truncated: self.is_truncated, assembly }
    }
}

impl StreamForm {
    fn take(&mut self, bytes: &[u8]) -> Piece {
        let mut piece = Piece::KeepAlive;
        for event in self.reader.push(bytes) {
            if let SseEvent::Data(data) = event
                && self.push(&data)
            {
                piece = Piece::Content;
            }
        }
        if self.assembly.is_done() { Piece::Last } else { piece }
    }

    fn take_last(&mut self, event: &SseEvent) {
        if let SseEvent::Data(data) = event
            && (data.trim_ascii() == b"[DONE]" || serde_json::from_slice::<serde_json::Value>(data).is_ok())
        {
            self.push(data);
        }
    }

    /// Says whether there was anything of the answer in it.
    fn push(&mut self, data: &[u8]) -> bool {
        if let Some(tap) = &self.tap {
            tap(data);
        }
        self.assembly.push(data)
    }
}

/// The piece from its first line on that is not blank. What is before that line's first letter stays.
fn without_blank_lines(piece: &[u8]) -> &[u8] {
    let blank = piece.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let line_start = piece[..blank].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    match &piece[line_start..] {
        // A lone carriage return or spaces: the rest of a blank line is still to come.
        rest if rest.iter().all(u8::is_ascii_whitespace) => &[],
        rest => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(intake: Intake) -> String {
        String::from_utf8(intake.finish().bytes.to_vec()).unwrap()
    }

    #[test]
    fn blank_lines_before_json_are_signs_of_life() {
        let mut intake = Intake::json(100);
        for blank in ["\n", "\r\n\r", "\n", "  \n"] {
            assert_eq!(intake.take(blank.as_bytes()), Piece::KeepAlive);
        }
        assert_eq!(intake.take(b"\n {\"a\":"), Piece::Content);
        assert_eq!(intake.take(b"\n\n1}\n"), Piece::Content);
        assert_eq!(text(intake), " {\"a\":\n\n1}\n");
    }

    #[test]
    fn what_is_no_json_keeps_every_byte() {
        let mut intake = Intake::plain(100);
        assert_eq!(intake.take(b"\n\n"), Piece::Content);
        assert_eq!(text(intake), "\n\n");
    }

    #[test]
    fn more_than_the_limit_is_cut_and_marked() {
        let mut intake = Intake::plain(4);
        assert_eq!(intake.take(b"abcd"), Piece::Content);
        assert_eq!(intake.take(b"e"), Piece::TooMuch);
        let taken = intake.finish();
        assert_eq!((&taken.bytes[..], taken.is_truncated), (&b"abcd"[..], true));
    }

    #[test]
    fn comments_are_no_progress_and_done_is_the_last() {
        let mut intake = Intake::stream(1_000, None);
        assert_eq!(intake.take(b": keep-alive\n\n"), Piece::KeepAlive);
        assert_eq!(intake.take(b"data: {\"id\":"), Piece::KeepAlive);
        assert_eq!(intake.take(b"\"1\"}\n\n"), Piece::KeepAlive, "there is no token in it");
        assert_eq!(intake.take(b"data: {\"usage\":{\"prompt_tokens\":1}}\n\n"), Piece::Content);
        assert_eq!(intake.take(b"data: [DONE]\n\n"), Piece::Last);
        assert!(intake.finish().assembly.unwrap().is_done());
    }

    #[test]
    fn a_tap_hears_each_event_when_it_is_complete() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let tapped = Arc::clone(&heard);
        let tap: StreamTap = Arc::new(move |data: &[u8]| tapped.lock().unwrap().push(data.to_vec()));
        let mut intake = Intake::stream(1_000, Some(tap));
        intake.take(b": keep-alive\n\ndata: {\"id\":");
        assert!(heard.lock().unwrap().is_empty());
        intake.take(b"\"1\"}\n\ndata: [DONE]");
        assert_eq!(*heard.lock().unwrap(), [b"{\"id\":\"1\"}".to_vec()]);
        intake.finish();
        assert_eq!(heard.lock().unwrap()[1], b"[DONE]");
    }

    #[test]
    fn a_done_without_its_blank_line_counts_and_half_an_event_does_not() {
        let mut intake = Intake::stream(1_000, None);
        intake.take(b"data: [DONE]");
        assert!(intake.finish().assembly.unwrap().is_done());
        let mut intake = Intake::stream(1_000, None);
        intake.take(b"data: {\"choi");
        let assembly = intake.finish().assembly.unwrap();
        assert!(!assembly.is_malformed() && !assembly.is_complete());
    }
}
