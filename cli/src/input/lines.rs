//! Cuts a stream of bytes into lines without ever holding more than one, and hashes all of it on the way.

use std::io::{self, BufRead, BufReader, Read};

use sha2::{Digest, Sha256};

/// The longest line that is looked at. A body may have 8 MiB; escapes and the other fields may take as much again.
pub const MAX_LINE_BYTES: usize = 2 * sluice_domain::MAX_BODY_BYTES;

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineRead {
    /// A line, without its line break.
    Line,
    /// A line that was longer than [`MAX_LINE_BYTES`] and was skipped; its length in bytes.
    TooLong(u64),
    /// There is nothing more.
    End,
}

/// Reads lines.
pub struct LineReader<R> {
    reader: BufReader<R>,
    hash: Sha256,
    is_at_start: bool,
}

impl<R: Read> LineReader<R> {
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(256 * 1024, reader), hash: Sha256::new(), is_at_start: true }
    }

    /// Reads the next line into `line`, which is emptied first. A byte-order mark before the first line is left out.
    pub fn read(&mut self, line: &mut Vec<u8>) -> io::Result<LineRead> {
        line.clear();
        let mut length: u64 = 0;
        while let Some(part) = self.part()? {
            length += part.length as u64;
            // What is beyond the bound is counted and hashed, not kept.
            if length <= MAX_LINE_BYTES as u64 {
                line.extend_from_slice(&self.reader.buffer()[..part.length]);
            }
            let used = part.length + usize::from(part.is_last);
            self.hash.update(&self.reader.buffer()[..used]);
            self.reader.consume(used);
            if part.is_last {
                return Ok(self.finished(line, length));
            }
        }
        Ok(if length == 0 { LineRead::End } else { self.finished(line, length) })
    }

    /// What the buffer holds of the current line; `None` at the end of the input.
    fn part(&mut self) -> io::Result<Option<Part>> {
        let available = loop {
            match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                available => break available?,
            }
        };
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        Ok(Some(Part { length: end.unwrap_or(available.len()), is_last: end.is_some() }))
    }

    fn finished(&mut self, line: &mut Vec<u8>, length: u64) -> LineRead {
        if std::mem::take(&mut self.is_at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if length > MAX_LINE_BYTES as u64 { LineRead::TooLong(length) } else { LineRead::Line }
    }

    /// The SHA-256 of all that was read.
    pub fn sha256(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

/// A piece of a line: bytes without the line break, and whether the line break follows.
struct Part {
    length: usize,
    is_last: bool,
}
