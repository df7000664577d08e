//! Lines of a request's body as they come in, each within limits of size and time.

use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;

/// What the next look at the body brings.
pub(crate) enum NextLine {
    /// A line, without its end.
    Line(Bytes),
    /// A line that was too long; it was thrown away and the next one follows.
    TooLong,
    /// The body is at its end.
    End,
    /// The body broke off, or its next line did not come in time. Nothing more follows.
    Broken(&'static str),
}

pub(crate) struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// So much of the buffer was looked through in vain.
    searched: usize,
    is_too_long: bool,
    is_at_end: bool,
    most_bytes: usize,
    patience: Duration,
}

impl Lines {
    pub(crate) fn new(body: BodyDataStream, most_bytes: usize, patience: Duration) -> Self {
        let buffer = BytesMut::new();
        Self { body, buffer, searched: 0, is_too_long: false, is_at_end: false, most_bytes, patience }
    }

    /// The next line. Safe to drop and to call again: what was read stays.
    pub(crate) async fn next(&mut self) -> NextLine {
        loop {
            if let Some(line) = self.take_line() {
                return line;
            }
            if self.is_at_end {
                return self.take_rest();
            }
            match tokio::time::timeout(self.patience, self.body.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => self.is_at_end = true,
                Ok(Some(Err(_))) => return NextLine::Broken("the request's body broke off"),
                Err(_) => return NextLine::Broken("the next line did not come in time"),
            }
        }
    }

    fn take_line(&mut self) -> Option<NextLine> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = self.buffer.len();
            if self.searched > self.most_bytes {
                self.is_too_long = true;
                self.buffer.clear();
                self.searched = 0;
            }
            return None;
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(1);
        self.searched = 0;
        let was_too_long = std::mem::take(&mut self.is_too_long) || line.len() > self.most_bytes;
        Some(if was_too_long { NextLine::TooLong } else { NextLine::Line(line.freeze()) })
    }

    fn take_rest(&mut self) -> NextLine {
        let rest = std::mem::take(&mut self.buffer).freeze();
        self.searched = 0;
        if std::mem::take(&mut self.is_too_long) {
            return NextLine::TooLong;
        }
        if rest.is_empty() { NextLine::End } else { NextLine::Line(rest) }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn lines(chunks: &[&'static str]) -> Vec<String> {
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        let body = Body::from_stream(futures::stream::iter(chunks)).into_data_stream();
        let mut lines = Lines::new(body, 5, Duration::from_secs(1));
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                NextLine::Line(line) => found.push(String::from_utf8(line.to_vec()).unwrap()),
                NextLine::TooLong => found.push("TOO LONG".to_owned()),
                NextLine::End => return found,
                NextLine::Broken(why) => panic!("{why}"),
            }
        }
    }

    #[tokio::test]
    async fn lines_come_whole_however_the_body_is_cut() {
        assert_eq!(lines(&["ab", "c\n", "\nd", "\ne"]).await, ["abc", "", "d", "e"]);
        assert_eq!(lines(&[]).await, Vec::<String>::new());
        assert_eq!(lines(&["a\n"]).await, ["a"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_does_not_end_the_stream() {
        assert_eq!(lines(&["12345\n123456\na\n"]).await, ["12345", "TOO LONG", "a"]);
        assert_eq!(lines(&["123", "456", "789\na", "\n1234567"]).await, ["TOO LONG", "a", "TOO LONG"]);
    }
}
